package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/grpcsteady/steady/interceptors/fault"
)

// guest is a healthy server that joins the fleet for the second third of a run, where clients find the fleet in a
// directory that can change.
type guest struct {
	*member
	start time.Time
	calls atomic.Int64
	last  atomic.Int64  // nanoseconds after start
	first chan struct{} // closed with the first call
	once  sync.Once
}

func newGuest() (*guest, error) {
	none, err := fault.New(1, nil)
	if err != nil {
		return nil, err
	}
	g := &guest{member: &member{name: "f", addr: "127.0.0.1:0", faults: none}, start: time.Now(), first: make(chan struct{})}
	g.options = []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			g.called()
			return next(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			g.called()
			return next(srv, s)
		}),
	}
	if err := g.up(); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *guest) called() {
	g.calls.Add(1)
	g.last.Store(int64(time.Since(g.start)))
	g.once.Do(func() { close(g.first) })
}

// visit joins and leaves, and says so. The end of ctx or done ends it.
func (g *guest) visit(ctx context.Context, d *directory, addrs []string, each time.Duration, say func(format string, args ...any)) error {
	if !sleepUntil(ctx, g.start.Add(each/3)) {
		return nil
	}
	if err := d.list(append(slices.Clip(addrs), g.addr)); err != nil {
		return err
	}
	joined := time.Now()
	say("server f joins: %s", d.change)
	select {
	case <-g.first:
	case <-ctx.Done():
		return nil
	}
	say("server f answers its first call, %.1f s later", time.Since(joined).Seconds())
	if !sleepUntil(ctx, g.start.Add(2*each/3)) {
		return nil
	}
	if err := d.list(addrs); err != nil {
		return err
	}
	left := time.Now()
	say("server f leaves")
	<-ctx.Done() // the run is over
	after := max(g.start.Add(time.Duration(g.last.Load())).Sub(left), 0)
	say("server f has answered %d calls, the last one %.1f s after it left", g.calls.Load(), after.Seconds())
	return nil
}

// lines lets several write whole lines to one writer.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// host has a guest visit the fleet while a run lasts, if the directory can change. What it returns ends that.
func host(ctx context.Context, d *directory, addrs []string, s settings, name string, progress io.Writer) (end func() error, err error) {
	if d.list == nil {
		return func() error { return nil }, nil
	}
	g, err := newGuest()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	told := make(chan error, 1)
	go func() {
		told <- g.visit(ctx, d, addrs, s.each, func(format string, args ...any) {
			_, _ = fmt.Fprintf(progress, "%-10s  %3.1f s: %s\n", name, time.Since(g.start).Seconds(), fmt.Sprintf(format, args...))
		})
	}()
	return func() error {
		cancel()
		err := <-told
		g.down()
		return err
	}, nil
}
