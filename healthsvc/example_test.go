package healthsvc_test

import (
	"context"
	"database/sql"
	"log"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/grpcsteady/steady/healthsvc"
)

// The whole of it: checks, a service that declares what it needs, HTTP for those who speak it, and the main
// loop. The library catches no signals; the program says what ends it.
func Example() {
	var db *sql.DB // from sql.Open
	var redis interface {
		Ping(ctx context.Context) error
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	health, err := healthsvc.New(
		healthsvc.WithCheck("database", healthsvc.SQL(db), healthsvc.Every(5*time.Second)),
		healthsvc.WithCheck("cache", healthsvc.Func(func(ctx context.Context) error { return redis.Ping(ctx) }), healthsvc.Degrading()),
		healthsvc.WithCheck("disk", healthsvc.DiskFree("/var/lib/orders", healthsvc.Percent(5)), healthsvc.Degrading()),
		healthsvc.WithService("orders.v1.Orders", "database"),
		healthsvc.WithObserver(healthsvc.SlogObserver(nil)),
	)
	if err != nil {
		log.Print(err)
		return
	}
	srv := grpc.NewServer()
	health.Register(srv)

	http.Handle("/health", health.Handler())
	http.Handle("/health/", health.Handler())
	go func() { log.Print(http.ListenAndServe("127.0.0.1:8080", nil)) }()

	lis, err := net.Listen("tcp", ":50051")
	if err != nil {
		log.Print(err)
		return
	}
	if err := health.Serve(ctx, srv, lis); err != nil {
		log.Print(err)
	}
}

// A program with a main loop of its own drains when it wants to.
func ExampleHealth_Drain() {
	var health *healthsvc.Health // from New
	var srv *grpc.Server
	var lis net.Listener

	health.Register(srv)
	go func() { log.Print(srv.Serve(lis)) }()
	// ... the main loop, and at its end:
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	defer cancel()
	if err := health.Drain(ctx); err != nil {
		log.Print(err)
	}
}

// A watchdog is fed from what must not hang, and by nothing that waits for a dependency.
func ExampleHealth_Watchdog() {
	var health *healthsvc.Health // from New
	var work <-chan func()

	dog, err := health.Watchdog("worker", time.Minute)
	if err != nil {
		log.Fatal(err)
	}
	defer dog.Remove()
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case do := <-work:
			do()
		case <-tick.C:
		}
		dog.Feed()
	}
}
