package pool_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/steadytest"
)

func echoClient(conn *grpc.ClientConn) echov1.EchoClient { return echov1.NewEchoClient(conn) }

// Connections that have been there for long, and then four more servers.
func TestScaleUp(t *testing.T) {
	for _, policy := range policies {
		steadytest.Run(t, func(t *testing.T) {
			names := []string{"a", "b", "c", "d", "e"}
			b := newBed(t, names)
			b.list("a")
			b.Behave(steadytest.Slow(20 * time.Millisecond))
			conn := b.connected(serviceConfig(policy, `{}`))
			load(t, conn, 100, 5*time.Second)
			time.Sleep(time.Minute)
			b.list(names...)
			load(t, conn, 50, 30*time.Second)
			b.Forget()
			load(t, conn, 100, 30*time.Second)
			for name, n := range b.Count() {
				if float64(n) > 1.2*3000/5 {
					t.Errorf("%s: %s got %d of 3000 calls: %v", policy, name, n, b.Count())
				}
			}
		})
	}
}

// A black hole costs at most its share of the calls in flight, until it is ejected; no pick waits for it.
func TestBlackHoleUntilEjected(t *testing.T) {
	for _, policy := range policies {
		steadytest.Run(t, func(t *testing.T) {
			b := newBed(t, []string{"a", "b", "c", "d"})
			b.Behave(steadytest.Slow(10 * time.Millisecond))
			conn := b.connected(serviceConfig(policy, `{}`))
			load(t, conn, 100, 5*time.Second)
			b.Replica("a").BlackHole()
			r := steadytest.Load{Rate: 100, For: 30 * time.Second, Timeout: time.Second, Call: steadytest.Get(conn)}.Run(t.Context())
			if got := b.told(); len(got) == 0 && policy == weighted {
				t.Errorf("%s: nobody was ejected: %v", policy, r)
			}
			lost := r.Calls - r.OK
			t.Logf("%s: %v", policy, r)
			// Of each second's 100 calls a quarter, until the window shows 20 of them that failed, or fewer: who goes
			// by what is in flight keeps away at once.
			if lost > 25*4 {
				t.Errorf("%s: %d calls lost: %v", policy, lost, r)
			}
			if late := r.Between(4*time.Second, 29*time.Second); late.Availability() < 0.99 {
				t.Errorf("%s: after 4 s %v", policy, late)
			}
			for _, o := range r.Outcomes {
				if o.Code == codes.OK && o.Took > 20*time.Millisecond {
					t.Fatalf("%s: a good call took %v", policy, o.Took)
				}
			}
			b.Replica("a").Start()
			b.quiet()
		})
	}
}

func TestBlackHoleUntilKeepalive(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b", "c", "d"}, steadytest.ServerOptions(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true})))
		b.Behave(steadytest.Slow(10 * time.Millisecond))
		conn := b.connected(serviceConfig(weighted, `{"ejection":{"mode":"off"}}`), grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 2 * time.Second, PermitWithoutStream: true}))
		load(t, conn, 100, 5*time.Second)
		b.Replica("a").BlackHole()
		r := steadytest.Load{Rate: 100, For: 40 * time.Second, Timeout: 20 * time.Second, Call: steadytest.Get(conn)}.Run(t.Context())
		if lost := r.Calls - r.OK; lost > 25*13 {
			t.Errorf("%v: more than its share for 12 s", r)
		}
		if late := r.Between(13*time.Second, 40*time.Second); late.Availability() != 1 {
			t.Errorf("after keepalive has found it %v", late)
		}
		b.quiet()
	})
}

func TestRollingReplacement(t *testing.T) {
	for _, policy := range policies {
		for _, atOnce := range []bool{false, true} {
			steadytest.Run(t, func(t *testing.T) {
				var names []string
				for i := range 12 {
					names = append(names, fmt.Sprintf("10.0.0.%d:50051", i))
				}
				b := newBed(t, names)
				b.list(names[:4]...)
				b.Behave(steadytest.Slow(50 * time.Millisecond))
				conn := b.connected(serviceConfig(policy, `{}`))
				done := make(chan struct{})
				go func() {
					defer close(done)
					for i := range 8 {
						time.Sleep(500 * time.Millisecond)
						switch {
						case !atOnce:
							b.list(names[i+1 : i+5]...)
						case i%2 == 0:
							b.list(names[4:8]...)
						default:
							b.list(names[8:]...)
						}
					}
				}()
				r := load(t, conn, 200, 6*time.Second)
				<-done
				if r.Availability() != 1 {
					t.Errorf("%s, all at once %v: %v", policy, atOnce, r)
				}
				b.quiet()
			})
		}
	}
}

func TestGoAwayLosesNoCall(t *testing.T) {
	for _, policy := range policies {
		steadytest.Run(t, func(t *testing.T) {
			b := newBed(t, []string{"a", "b", "c"})
			b.Behave(steadytest.Slow(100 * time.Millisecond))
			conn := b.connected(serviceConfig(policy, `{}`))
			done := make(chan struct{})
			go func() {
				defer close(done)
				for i := range 12 {
					time.Sleep(400 * time.Millisecond)
					x := b.Replicas()[i%3]
					<-x.Drain()
					x.Start()
				}
			}()
			r := load(t, conn, 200, 7*time.Second)
			<-done
			if r.Availability() != 1 {
				t.Errorf("%s: %v", policy, r)
			}
			if got := b.told(); len(got) != 0 {
				t.Errorf("%s: told %v", policy, got)
			}
			b.quiet()
		})
	}
}

// What was learned belongs to the channel if it lends a place to keep it, and else to the policy.
func TestIdleMode(t *testing.T) {
	for _, lent := range []bool{true, false} {
		steadytest.Run(t, func(t *testing.T) {
			b := newBed(t, []string{"a", "b", "c"})
			b.Behave(steadytest.Slow(20 * time.Millisecond))
			if !lent {
				s := b.state("a", "b", "c")
				s.Attributes = nil
				b.SetState(s)
			}
			conn := b.connected(serviceConfig(leastRequest, `{"latency":{},"ejection":{"baseTime":"300s","consecutiveFailures":1}}`), grpc.WithIdleTimeout(30*time.Second))
			load(t, conn, 100, 5*time.Second)
			b.Replica("a").Behave(steadytest.Failing(codes.Unavailable, 1))
			burst(t, conn, 100)
			if lent && !slices.Equal(b.ejected(), []string{"a"}) {
				t.Fatalf("ejected %v", b.ejected())
			}
			time.Sleep(2 * time.Minute)
			if got := conn.GetState().String(); got != "IDLE" {
				t.Fatalf("the channel is %s", got)
			}
			conn.Connect() // a call would do too, and go to whoever is connected first, even if that is who was ejected
			synctest.Wait()
			b.Forget()
			for range 30 {
				if err := one(t, conn); err != nil && lent {
					t.Error(err)
				}
			}
			if n := b.Replica("a").Count(); lent != (n == 0) {
				t.Errorf("lent a place: %v; %d calls to who was ejected before idle mode", lent, n)
			}
			if !lent {
				return
			}
			if e := b.of("b"); e.Picks < 100 || e.Latency == 0 || e.Calls == 0 {
				t.Errorf("after idle mode %+v", e)
			}
			if told := b.told(); len(told) != 1 {
				t.Errorf("told %v", told)
			}
			b.Replica("a").Behave(nil)
			time.Sleep(3 * time.Minute) // the ejection ends while the channel is idle again
			_ = one(t, conn)
			if got := b.ejected(); got != nil {
				t.Errorf("ejected %v", got)
			}
			b.quiet()
		})
	}
}

func TestEmptyListAndBack(t *testing.T) {
	for _, policy := range policies {
		steadytest.Run(t, func(t *testing.T) {
			b := newBed(t, []string{"a", "b", "c"})
			conn := b.connected(serviceConfig(policy, `{"activeCheck":{}}`))
			load(t, conn, 100, time.Second)
			b.Replica("a").Behave(steadytest.Failing(codes.Unavailable, 1))
			burst(t, conn, 200)
			b.list()
			if err := one(t, conn); err == nil {
				t.Errorf("%s: a call without endpoints succeeds", policy)
			}
			if got := b.handle.Endpoints(); len(got) != 0 {
				t.Errorf("%s: %v", policy, got)
			}
			b.Behave(nil)
			b.list("a", "b", "c")
			synctest.Wait()
			if r := load(t, conn, 100, time.Second); r.Availability() != 1 {
				t.Errorf("%s: %v", policy, r)
			}
			if got := len(b.handle.Endpoints()); got != 3 {
				t.Errorf("%s: %d endpoints", policy, got)
			}
			b.quiet()
		})
	}
}

// Weight 0 takes an endpoint out, unless that would take out all.
func TestWeightZero(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b", "c"})
		b.list("a=0", "b=2", "c")
		conn := b.connected(serviceConfig(weighted, `{}`))
		load(t, conn, 300, time.Second)
		if got := b.Count(); got["a"] != 0 || got["b"] < 198 || got["b"] > 202 {
			t.Errorf("%v", got)
		}
		b.list("a=0", "b=0", "c=0")
		b.Forget()
		load(t, conn, 300, time.Second)
		if got := b.Count(); got["a"] < 98 || got["b"] < 98 || got["c"] < 98 {
			t.Errorf("all are 0: %v", got)
		}
	})
}

// A name that is listed twice, or is none, makes no second endpoint and no gap.
func TestStrangeLists(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b", "c"})
		s := b.state("a", "b", "a", "c", "b=7")
		s.Endpoints = append(s.Endpoints, resolver.Endpoint{}, resolver.Endpoint{Addresses: []resolver.Address{{Addr: ""}}})
		b.SetState(s)
		conn := b.connected(serviceConfig(weighted, `{}`))
		load(t, conn, 300, time.Second)
		for name, n := range b.Count() {
			if n < 98 || n > 102 {
				t.Errorf("%s got %d of 300", name, n)
			}
		}
		if got := len(b.handle.Endpoints()); got != 3 {
			t.Errorf("%d endpoints", got)
		}
	})
}

// An observer may do as it likes, and close the channel: on the decision of a check, and on that of a call's end.
func TestObserverMayCloseTheChannel(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b, d := checkBed(t, "a", "b")
		var conn atomic.Pointer[grpc.ClientConn]
		closed := make(chan struct{})
		b.handle = handleOf(func(string) {
			_ = conn.Load().Close()
			close(closed)
		})
		b.list("a", "b")
		d.say("a", notServing)
		conn.Store(b.connected(serviceConfig(weighted, `{`+exact+`}`)))
		time.Sleep(16 * time.Second)
		select {
		case <-closed:
		default:
			t.Fatal("the channel is not closed, or nobody was told")
		}
	})
	steadytest.Run(t, func(t *testing.T) {
		var conn atomic.Pointer[grpc.ClientConn]
		b := newBed(t, []string{"a", "b"})
		seen := make(chan string, 10)
		b.handle = handleOf(func(name string) {
			_ = conn.Load().Close()
			seen <- name
		})
		b.list("a", "b")
		b.Replica("a").Behave(steadytest.Failing(codes.Unavailable, 1))
		conn.Store(b.connected(serviceConfig(weighted, `{`+exact+`}`)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for range 30 {
			_ = steadytest.Get(conn.Load())(ctx, 0)
		}
		synctest.Wait()
		if len(seen) != 1 || <-seen != "a" {
			t.Error("not told of a")
		}
	})
}

// Nor does one that hangs hold up calls or decisions, and one that ends its goroutine is told what follows.
func TestObserverMayHangOrExit(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b"})
		release, told := make(chan struct{}), make(chan string, 10)
		b.handle = handleOf(func(name string) {
			<-release
			told <- name
			runtime.Goexit()
		})
		b.list("a", "b")
		b.Replica("a").Behave(steadytest.Failing(codes.Unavailable, 1))
		conn := b.connected(serviceConfig(weighted, `{`+cold+`}`))
		load(t, conn, 100, time.Second)
		if got := b.ejected(); !slices.Equal(got, []string{"a"}) {
			t.Fatalf("ejected %v", got)
		}
		b.Replica("a").Behave(nil)
		if r := load(t, conn, 100, 40*time.Second); r.Availability() != 1 || len(b.ejected()) != 0 {
			t.Errorf("%v, ejected %v", r, b.ejected())
		}
		close(release)
		synctest.Wait()
		b.Replica("b").Behave(steadytest.Failing(codes.Unavailable, 1))
		load(t, conn, 100, time.Second)
		synctest.Wait()
		if len(told) < 2 || <-told != "a" {
			t.Errorf("told %d decisions", len(told))
		}
		b.handle = nil
	})
}

// Other weights, other addresses in another order: the endpoint is the same, and so is what is known of it.
func TestTheSameEndpointAnew(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b", "c"})
		b.list("a=3", "b")
		conn := b.connected(serviceConfig(weighted, `{}`))
		load(t, conn, 400, time.Second)
		b.list("b=3", "a")
		load(t, conn, 400, time.Second)
		for name, e := range map[string]uint64{"a": b.of("a").Picks, "b": b.of("b").Picks} {
			if e < 396 || e > 404 {
				t.Errorf("%s was picked %d times in both halves, want 400", name, e)
			}
		}
		two := func(addrs ...string) resolver.State {
			s := b.state("b")
			var e resolver.Endpoint
			for _, a := range addrs {
				e.Addresses = append(e.Addresses, resolver.Address{Addr: a})
			}
			s.Endpoints = append(s.Endpoints, e)
			return s
		}
		b.SetState(two("a", "c"))
		load(t, conn, 400, time.Second)
		before := b.of("a").Picks
		b.SetState(two("c", "a"))
		load(t, conn, 400, time.Second)
		if e := b.of("a"); before < 40 || e.Picks < before+40 || e.State != "ready" {
			t.Errorf("picked %d times with two addresses, then %+v", before, e)
		}
		if n := b.Network().Conns("c"); n != 0 {
			t.Errorf("%d connections to the second address", n)
		}
	})
}
