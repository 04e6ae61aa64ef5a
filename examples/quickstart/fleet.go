package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/fault"
)

// patient is one server of the fleet and what ails it.
type patient struct {
	name   string
	story  string
	faults []fault.Rule
	flaps  bool // down half of the time
}

func patients() []patient {
	return []patient{
		{name: "a", story: "is healthy"},
		{name: "b", story: "is healthy"},
		{name: "c", story: "fails 60 % of its calls at once", faults: []fault.Rule{
			{Name: "failing", Share: 0.6, Code: uint32(codes.Unavailable), Message: "out of order"},
		}},
		{name: "d", story: "hangs on 10 % of its calls", faults: []fault.Rule{
			{Name: "hanging", Share: 0.1, Drop: true},
		}},
		{name: "e", story: "is down half of the time", flaps: true},
	}
}

// fleet is a set of real gRPC servers on loopback TCP.
type fleet struct {
	addrs   []string
	cancel  context.CancelFunc
	members []*member
	flaps   sync.WaitGroup
}

// startFleet starts all servers. With the same seed each draws the same faults in the same order, and the one
// that comes and goes does so at the same times after the start: up for the first half of each period. The
// end of ctx does not stop the fleet, stop does.
func startFleet(ctx context.Context, seed uint64, period time.Duration) (*fleet, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &fleet{cancel: cancel}
	start := time.Now()
	for _, p := range patients() {
		m, err := newMember(p, seed)
		if err != nil {
			f.stop()
			return nil, fmt.Errorf("server %s: %w", p.name, err)
		}
		f.members = append(f.members, m)
		f.addrs = append(f.addrs, m.addr)
		if p.flaps {
			f.flaps.Go(func() { m.flap(ctx, start, period/2) })
		}
	}
	return f, nil
}

// stop ends all servers and waits until nothing of them is left.
func (f *fleet) stop() {
	f.cancel()
	f.flaps.Wait()
	for _, m := range f.members {
		m.down()
	}
}

// member is a server that may come and go at one address. After startFleet, the goroutine of flap owns it
// until that has ended.
type member struct {
	name    string
	addr    string
	faults  *fault.Injector
	options []grpc.ServerOption
	srv     *grpc.Server // nil while down
	serve   sync.WaitGroup
}

func newMember(p patient, seed uint64) (*member, error) {
	// An injector that is switched on warns in the log. Here the output says what is broken.
	faults, err := fault.New(seed, p.faults, fault.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return nil, err
	}
	faults.Enable()
	m := &member{name: p.name, addr: "127.0.0.1:0", faults: faults}
	if err := m.up(); err != nil {
		return nil, err
	}
	return m, nil
}

// up starts the server at its address; the first time the system chooses the port.
func (m *member) up() error {
	srv, err := newServer(m.name, m.faults, m.options...)
	if err != nil {
		return err
	}
	lis, err := net.Listen("tcp", m.addr)
	if err != nil {
		return err
	}
	m.addr, m.srv = lis.Addr().String(), srv
	m.serve.Go(func() { _ = srv.Serve(lis) }) // it ends with down, and has no other story to tell
	return nil
}

// down closes the listener and all connections. Calls in flight fail.
func (m *member) down() {
	if m.srv != nil {
		m.srv.Stop()
		m.serve.Wait()
		m.srv = nil
	}
}

// flap lets the server be up and down for half a period each, counted from start so that delays do not add
// up.
func (m *member) flap(ctx context.Context, start time.Time, half time.Duration) {
	for next := start.Add(half); sleepUntil(ctx, next); next = next.Add(half) {
		if m.srv != nil {
			m.down()
			continue
		}
		// Somebody else may have got the port meanwhile; most likely it is free again in a moment.
		for m.up() != nil {
			if !sleepUntil(ctx, time.Now().Add(10*time.Millisecond)) {
				return
			}
		}
	}
}

// sleepUntil reports whether the time came before the end of ctx.
func sleepUntil(ctx context.Context, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
