// Command health is a server whose health one can break and mend while watching it.
//
// It reads its orders from a SQLite file, needs room on a disk, and calls another server: three real
// dependencies, each with a check. The README beside it says how to break each of them; check.sh does it, and
// looks at it with grpcurl, grpc-health-probe, HAProxy and nginx.
//
//	go run . -dir /tmp/shop -grpc 127.0.0.1:50051 -http 127.0.0.1:8080
//	go run . -dir /tmp/shop -lock 10s      # break the database for ten seconds
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// config is what the flags say.
type config struct {
	dir        string
	grpc, http string
	downstream string
	tls        bool

	disk     string
	diskFree uint64

	every     time.Duration
	drainWait time.Duration
}

func main() {
	var c config
	var lock time.Duration
	flag.StringVar(&c.dir, "dir", "", "folder of the database, made if it is missing (required)")
	flag.StringVar(&c.grpc, "grpc", "127.0.0.1:50051", "address of the gRPC server; port 0 takes any")
	flag.StringVar(&c.http, "http", "127.0.0.1:8080", "address of the health endpoint over HTTP; port 0 takes any")
	flag.StringVar(&c.downstream, "downstream", "", "gRPC address of another server that this one calls; none by default")
	flag.BoolVar(&c.tls, "tls", false, "serve gRPC with TLS, with a certificate made for this run and written to cert.pem in the folder")
	flag.StringVar(&c.disk, "disk", "", "folder whose file system must have room; the database's by default")
	flag.Uint64Var(&c.diskFree, "disk-free", 16<<20, "bytes that must be free there")
	flag.DurationVar(&c.every, "every", 5*time.Second, "interval of the checks")
	flag.DurationVar(&c.drainWait, "drain-wait", 5*time.Second, "how long a drain waits for balancers")
	flag.DurationVar(&lock, "lock", 0, "serve nothing, but lock the database for so long, as a stuck migration does")
	flag.Parse()
	if c.dir == "" {
		fmt.Fprintln(os.Stderr, "health: -dir is empty, want a folder")
		os.Exit(2)
	}
	if c.disk == "" {
		c.disk = c.dir
	}

	// The library catches no signals: the program says what ends it.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	var err error
	if lock > 0 {
		err = hold(ctx, c.dir, lock)
	} else {
		err = run(ctx, c, func(grpc, http string) { fmt.Printf("grpc %s\nhttp %s\n", grpc, http) })
	}
	if err != nil {
		slog.Error("health", "error", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has been called
	}
}
