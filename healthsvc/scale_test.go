package healthsvc_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/grpcsteady/steady/healthsvc"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// fakeStream is a Watch's stream without a network: what is sent is handed to the test, at its pace.
type fakeStream struct {
	ctx  context.Context
	send func(*healthpb.HealthCheckResponse) error
}

func (f *fakeStream) Send(r *healthpb.HealthCheckResponse) error { return f.send(r) }
func (f *fakeStream) Context() context.Context                   { return f.ctx }
func (f *fakeStream) SendMsg(m any) error                        { return f.send(m.(*healthpb.HealthCheckResponse)) }
func (f *fakeStream) RecvMsg(any) error                          { return nil }
func (f *fakeStream) SetHeader(metadata.MD) error                { return nil }
func (f *fakeStream) SendHeader(metadata.MD) error               { return nil }
func (f *fakeStream) SetTrailer(metadata.MD)                     {}

// registrar takes the implementation out of Register.
type registrar struct{ impl healthpb.HealthServer }

func (r *registrar) RegisterService(_ *grpc.ServiceDesc, impl any) {
	r.impl = impl.(healthpb.HealthServer)
}

// TestSlowWatcher: one that does not read holds up nobody, keeps no queue, and is told the newest state.
func TestSlowWatcher(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		h, reg := newHealth(t, healthsvc.WithService("a")), &registrar{}
		h.Register(reg)
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		open := func(send func(*healthpb.HealthCheckResponse) error) {
			done.Go(func() { _ = reg.impl.Watch(&healthpb.HealthCheckRequest{Service: "a"}, &fakeStream{ctx, send}) })
		}
		release := make(chan struct{})
		var slow, fast []string
		open(func(r *healthpb.HealthCheckResponse) error {
			slow = append(slow, r.GetStatus().String())
			<-release
			return nil
		})
		open(func(r *healthpb.HealthCheckResponse) error {
			fast = append(fast, r.GetStatus().String())
			return nil
		})
		synctest.Wait()
		for i := range 1001 {
			if err := h.Force("a", healthsvc.Status(i%2 == 1)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if len(fast) != 1002 || fast[1001] != notServing {
			t.Errorf("the fast one was told %d times", len(fast))
		}
		wantLines(t, slow, serving)
		close(release)
		synctest.Wait()
		wantLines(t, slow, serving, notServing)
		cancel()
		done.Wait()
	})
}

// TestManyWatchers: 10,000 open Watches over 1,000 services, and a change that reaches all of them.
func TestManyWatchers(t *testing.T) {
	services, watchers, conns, changes := 1000, 10_000, 20, 5
	if raceDetector { // which is for the order of things; time is measured without it
		services, watchers = 200, 2000
	}
	opts := []healthsvc.Option{}
	for i := range services {
		opts = append(opts, healthsvc.WithService(fmt.Sprint("service.v1.S", i), "database"))
	}
	db := &dep{}
	h := newHealth(t, append(opts, healthsvc.WithCheck("database", db, healthsvc.Every(10*time.Millisecond), healthsvc.Fall(1), healthsvc.Rise(1)))...)
	w := newWorld(t)
	w.serve(h)
	ctx := t.Context()
	var opened, told sync.WaitGroup
	opened.Add(watchers)
	next := make([]chan struct{}, watchers) // lets a watcher wait for its next message
	for c := range conns {
		client := healthpb.NewHealthClient(w.dial())
		for i := range watchers / conns {
			n := c*watchers/conns + i
			next[n] = make(chan struct{}, 1)
			go func() {
				stream, err := client.Watch(ctx, &healthpb.HealthCheckRequest{Service: fmt.Sprint("service.v1.S", n%services)})
				for err == nil {
					var r *healthpb.HealthCheckResponse
					if r, err = stream.Recv(); err == nil && r.GetStatus() == healthpb.HealthCheckResponse_SERVING {
						break
					}
				}
				opened.Done()
				for range next[n] {
					if _, err := stream.Recv(); err != nil {
						t.Errorf("watch %d: %v", n, err)
					}
					told.Done()
				}
			}()
		}
	}
	opened.Wait()
	best := time.Hour
	for i := range changes {
		told.Add(watchers)
		for _, c := range next {
			c <- struct{}{}
		}
		db.set([]error{errDown, nil}[i%2])
		begin := time.Now()
		told.Wait() // exactly one message each, or this waits for ever or the next round gets it
		best = min(best, time.Since(begin))
	}
	for _, c := range next {
		close(c)
	}
	t.Logf("a change reached %d watchers of %d services within %v", watchers, services, best)
	if best > time.Second && !raceDetector {
		t.Errorf("a change took %v to reach all, at best", best)
	}
	if got := h.Snapshot().Watches; got != watchers {
		t.Errorf("%d watches are open", got)
	}
}

// TestTheLastWord: a Watch that was busy sending when the server stopped is told NOT_SERVING before its end.
func TestTheLastWord(t *testing.T) {
	for range 20 { // which of two channels a select sees first is random
		steadytest.Run(t, func(t *testing.T) {
			h, reg := newHealth(t), &registrar{}
			h.Register(reg)
			release, end := make(chan struct{}), make(chan error, 1)
			var told []string
			go func() {
				end <- reg.impl.Watch(&healthpb.HealthCheckRequest{}, &fakeStream{t.Context(), func(r *healthpb.HealthCheckResponse) error {
					told = append(told, r.GetStatus().String())
					<-release
					return nil
				}})
			}()
			synctest.Wait()
			h.Close()
			close(release)
			wantCode(t, <-end, codes.Unavailable)
			wantLines(t, told, serving, notServing)
		})
	}
}
