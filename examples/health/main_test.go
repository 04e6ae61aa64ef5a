package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	ordersv1 "github.com/grpcsteady/steady/examples/quickstart/orders/v1"
)

// TestBreakAndMend follows one Watch through the life of the server: its database is locked by somebody else,
// unlocked, and the server drains. It waits for what it is told, and for no time.
func TestBreakAndMend(t *testing.T) {
	c := config{
		dir: t.TempDir(), grpc: "127.0.0.1:0", http: "127.0.0.1:0", diskFree: 1,
		every: 50 * time.Millisecond, drainWait: 50 * time.Millisecond,
	}
	c.disk = c.dir
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	listening, ended := make(chan [2]string, 1), make(chan error, 1)
	go func() { ended <- run(ctx, c, func(grpc, http string) { listening <- [2]string{grpc, http} }) }()
	var addr [2]string
	select {
	case addr = <-listening:
	case err := <-ended:
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+addr[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	within, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	watch, err := healthpb.NewHealthClient(conn).Watch(within, &healthpb.HealthCheckRequest{Service: "orders.v1.Orders"})
	if err != nil {
		t.Fatal(err)
	}
	told := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for {
			r, err := watch.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if r.GetStatus() == want {
				return
			}
		}
	}
	get := func() error {
		_, err := ordersv1.NewOrdersClient(conn).Get(within, &ordersv1.GetRequest{Id: "o-1"})
		return err
	}

	told(healthpb.HealthCheckResponse_SERVING)
	if err := get(); err != nil {
		t.Error(err)
	}
	locked, unlock := context.WithCancel(t.Context())
	released := make(chan error, 1)
	go func() { released <- hold(locked, c.dir, time.Minute) }()
	told(healthpb.HealthCheckResponse_NOT_SERVING)
	if err := get(); status.Code(err) != codes.Unavailable {
		t.Errorf("locked: %v", err)
	}
	for path, want := range map[string]string{"/health/ready": `503 {"status":"not ready"`, "/health/live": `200 {"status":"alive"`} {
		r, err := http.Get("http://" + addr[1] + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if got := r.Status[:4] + string(body); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	unlock()
	if err := <-released; err != nil {
		t.Error(err)
	}
	told(healthpb.HealthCheckResponse_SERVING)
	if err := get(); err != nil {
		t.Error(err)
	}

	cancel()
	told(healthpb.HealthCheckResponse_NOT_SERVING)
	if _, err := watch.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the Watch ended with %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestNoFolder(t *testing.T) {
	err := run(t.Context(), config{dir: "/dev/null/nowhere"}, func(string, string) { t.Error("it listens") })
	if err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
