package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// server answers with its number after a while.
type server struct {
	echov1.UnimplementedEchoServer
	number int
	wait   time.Duration
}

func (s server) Get(ctx context.Context, _ *echov1.EchoRequest) (*echov1.EchoResponse, error) {
	select {
	case <-time.After(s.wait):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return &echov1.EchoResponse{Server: strconv.Itoa(s.number)}, nil
}

func serve(number int, wait time.Duration) (addr string, end func(), err error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := grpc.NewServer()
	echov1.RegisterEchoServer(srv, server{number: number, wait: wait})
	go func() { _ = srv.Serve(lis) }()
	return lis.Addr().String(), srv.Stop, nil
}

// load makes the calls and counts who answered. The first ones, until every server has answered or half a second is
// over, are not counted: connections have to be made.
func load(ctx context.Context, client echov1.EchoClient) (spread [3]int, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	seen := map[string]bool{}
	for began := time.Now(); len(seen) < 3 || time.Since(began) < 500*time.Millisecond; {
		r, err := client.Get(ctx, &echov1.EchoRequest{}, grpc.WaitForReady(true))
		if err != nil {
			return spread, err
		}
		seen[r.GetServer()] = true
	}
	var next atomic.Int64
	var counts [3]atomic.Int64
	errs := make(chan error, callers)
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for next.Add(1) <= calls {
				r, err := client.Get(ctx, &echov1.EchoRequest{})
				if err != nil {
					errs <- err
					return
				}
				i, err := strconv.Atoi(r.GetServer())
				if err != nil || i < 0 || i > 2 {
					errs <- fmt.Errorf("an answer from %q", r.GetServer())
					return
				}
				counts[i].Add(1)
			}
		})
	}
	group.Wait()
	select {
	case err := <-errs:
		return spread, err
	default:
	}
	for i := range counts {
		spread[i] = int(counts[i].Load())
	}
	return spread, nil
}
