package steady_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// behind starts a fleet of one server whose handler calls the next layer through an outbound of its own.
func behind(t *testing.T, net *steadytest.Network, name string, next *grpc.ClientConn) *steadytest.Fleet {
	t.Helper()
	in, err := steady.NewInbound(nil)
	if err != nil {
		t.Fatal(err)
	}
	fleet := steadytest.NewFleet(t, steadytest.OnNetwork(net), steadytest.Replicas(name), steadytest.ServerOptions(in.ServerOptions()...))
	fleet.Behave(func(ctx context.Context, _ steadytest.Call) error {
		_, err := echov1.NewEchoClient(next).Get(ctx, &req{})
		return err
	})
	return fleet
}

// TestThreeLayersNeverMultiply: the word of the layer next to the failure goes all the way up.
func TestThreeLayersNeverMultiply(t *testing.T) {
	for _, tt := range []struct {
		name   string
		budget retry.BudgetConfig // of the layer next to the failure
		want   int
	}{
		{"attempts are spent", retry.BudgetConfig{Ratio: 5, MaxRatio: 5}, 3},
		{"the budget is spent", retry.BudgetConfig{}, 2}, // one call allows one retry
	} {
		t.Run(tt.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				net := steadytest.NewNetwork()
				t.Cleanup(net.Close)
				bottom := steadytest.NewFleet(t, steadytest.OnNetwork(net), steadytest.Replicas("bottom"))
				bottom.Behave(steadytest.Failing(codes.Unavailable, 1))
				c := behind(t, net, "c", dial(bottom, outbound(t, retryRule(""), steady.WithRetryBudget(tt.budget))))
				b := behind(t, net, "b", dial(c, outbound(t, retryRule(""), wide)))
				client := dial(b, outbound(t, retryRule(""), wide))
				_, err := echov1.NewEchoClient(client).Get(within(t, 20*time.Second), &req{})
				wantCode(t, err, codes.Unavailable)
				if n := bottom.Count()["bottom"]; n != tt.want {
					t.Errorf("the bottom saw %d attempts, want %d: %s", n, tt.want, steady.Explain(err))
				}
			})
		})
	}
}

// TestTwoOutboundsInOneChain: of two drivers on one path inside a process, the outer one retries.
func TestTwoOutboundsInOneChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{from: "d", err: unavailable("down")})
		outer, _ := outbound(t, retryRule(""), wide).Interceptors()
		inner, _ := outbound(t, retryRule(""), wide).Interceptors()
		err := outer(t.Context(), get, &req{}, &reply{}, nil,
			func(ctx context.Context, m string, in, out any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
				return inner(ctx, m, in, out, cc, s.invoke, opts...)
			})
		wantCode(t, err, codes.Unavailable)
		if n := len(s.attempts()); n > 5 {
			t.Errorf("%d attempts by two layers of 3 on one path, want at most 5", n)
		}
	})
}

// TestAFallbackThatAnsweredBlamesNobody: what it could not spoil is no reason to stop the layer above.
func TestAFallbackThatAnsweredBlamesNobody(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		net := steadytest.NewNetwork()
		t.Cleanup(net.Close)
		bottom := steadytest.NewFleet(t, steadytest.OnNetwork(net), steadytest.Replicas("bottom"))
		bottom.Behave(steadytest.Failing(codes.Unavailable, 1))
		out := outbound(t, retryRule(""), wide, steady.Fallback(get, func(context.Context, *req, error) (*reply, error) { return &reply{}, nil }))
		middle := behind(t, net, "middle", nil)
		conn := dial(bottom, out)
		middle.Behave(func(ctx context.Context, _ steadytest.Call) error {
			if _, err := echov1.NewEchoClient(conn).Get(ctx, &req{}); err != nil {
				return err
			}
			return unavailable("another dependency, which nobody retries here")
		})
		client := dial(middle, outbound(t, retryRule(""), wide))
		_, err := echov1.NewEchoClient(client).Get(within(t, 20*time.Second), &req{})
		wantCode(t, err, codes.Unavailable)
		if n := middle.Count()["middle"]; n != 3 {
			t.Errorf("the middle was called %d times, want 3", n)
		}
	})
}

// TestAReserveBelowIsNoEndOfRetries: a server that keeps its reserve back gives up a little before the attempt's
// timeout does; that is the attempt's end all the same.
func TestAReserveBelowIsNoEndOfRetries(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		net := steadytest.NewNetwork()
		t.Cleanup(net.Close)
		bottom := steadytest.NewFleet(t, steadytest.OnNetwork(net), steadytest.Replicas("bottom"))
		bottom.Behave(steadytest.InTurn(steadytest.Hanging(1), steadytest.Healthy()))
		middle := behind(t, net, "middle", dial(bottom, outbound(t, []steady.Rule{{Methods: []string{""}, Deadline: &deadline.Config{}}})))
		client := dial(middle, outbound(t, []steady.Rule{{
			Methods: []string{""}, Retry: &retry.Config{},
			Deadline: &deadline.Config{Default: 2 * time.Second, AttemptTimeout: 200 * time.Millisecond},
		}}, wide))
		if _, err := echov1.NewEchoClient(client).Get(t.Context(), &req{}); err != nil {
			t.Errorf("one hang and 1.8 s left: %s", steady.Explain(err))
		}
	})
}

// TestTheReserveIsKeptBackFromWhatCameIn, not from what the handler itself gave a call.
func TestTheReserveIsKeptBackFromWhatCameIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{from: "a"})
		c := newClient(t, s, []steady.Rule{{Methods: []string{""}, Deadline: &deadline.Config{ReserveShare: 0.5}}})
		in, err := steady.NewInbound(nil)
		if err != nil {
			t.Fatal(err)
		}
		server, _ := in.Interceptors()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for i, tt := range []struct {
			own  time.Duration // 0: the handler's own context
			want time.Duration
		}{{0, 5 * time.Second}, {time.Second, time.Second}, {8 * time.Second, 5 * time.Second}} {
			_, err := server(ctx, &req{}, &grpc.UnaryServerInfo{FullMethod: get}, func(hctx context.Context, _ any) (any, error) {
				if tt.own > 0 {
					var cancel context.CancelFunc
					hctx, cancel = context.WithTimeout(hctx, tt.own)
					defer cancel()
				}
				return c.call(hctx, get)
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := s.attempts()[i].deadline; got != tt.want {
				t.Errorf("of 10 s that came in and %v of its own the call got %v, want %v", tt.own, got, tt.want)
			}
		}
	})
}

// TestATinyDeadlineTripsNobodysBreaker, not even through a share of it.
func TestATinyDeadlineTripsNobodysBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, always(answer{from: "a", after: 10 * time.Millisecond}),
			[]steady.Rule{{Methods: []string{""}, Breaker: &breaker.Config{}, Deadline: &deadline.Config{AttemptShare: 0.5}}})
		for range 100 { // healthy, and known to take 10 ms
			if _, err := c.call(t.Context(), get); err != nil {
				t.Fatal(err)
			}
		}
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			_, err := c.call(ctx, get)
			cancel()
			wantCode(t, err, codes.DeadlineExceeded)
		}
		if got := state(t, c.out); got != breaker.Closed {
			t.Errorf("breaker %v", got)
		}
	})
}

// TestALastMomentTripsNobodysBreaker: a second attempt that got the last two milliseconds of the rule's default.
func TestALastMomentTripsNobodysBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := new(recorder)
		c := newClient(t, newStub(func(n int) answer {
			if n == 1 {
				return answer{from: "a", after: 97 * time.Millisecond, err: unavailable("x"), trailer: pushback(1)}
			}
			return answer{from: "b", after: 10 * time.Millisecond}
		}), []steady.Rule{{Methods: []string{""}, Retry: &retry.Config{}, Deadline: &deadline.Config{Default: 100 * time.Millisecond}}}, wide, steady.WithObserver(rec))
		_, err := c.call(t.Context(), get)
		wantCode(t, err, codes.DeadlineExceeded)
		if a := of[steady.AttemptEnded](rec); len(a) != 2 || a[1].Verdict != steady.VerdictNothing {
			t.Errorf("%+v", a)
		}
	})
}

// queue is a gate that lets callers wait.
type queue struct {
	wait     time.Duration
	inFlight atomic.Int64
}

func (q *queue) Admit(ctx context.Context) (func(error), error) {
	q.inFlight.Add(1)
	timer := time.NewTimer(q.wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return func(error) { q.inFlight.Add(-1) }, nil
	case <-ctx.Done():
		q.inFlight.Add(-1)
		return nil, ctx.Err()
	}
}

// TestObserveWithAQueue: while a call queues, the instant of its would-have cut passes; no slot is lost by it.
func TestObserveWithAQueue(t *testing.T) {
	for _, wait := range []time.Duration{50 * time.Millisecond, 100 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			q := &queue{wait: wait}
			rec := new(recorder)
			c := newClient(t, always(answer{from: "a", after: 10 * time.Millisecond}), []steady.Rule{{
				Methods: []string{""}, Mode: steady.ModeObserve, Deadline: &deadline.Config{AttemptTimeout: 50 * time.Millisecond},
			}}, steady.WithGate("q", q), steady.WithGate("q2", q), steady.WithObserver(rec))
			for range 20 {
				if _, err := c.call(t.Context(), get); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			if n := q.inFlight.Load(); n != 0 {
				t.Errorf("%d slots are still taken", n)
			}
			if n := len(of[steady.DeadlineCut](rec)); n != 20 {
				t.Errorf("%d would-have cuts told, want 20", n)
			}
		})
	}
}

func TestAGateThatGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, always(answer{from: "a"}), nil, steady.WithGate("q", &queue{wait: time.Hour}))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := c.call(ctx, get)
		wantCode(t, err, codes.Canceled)
		_, err = c.call(within(t, time.Second), get)
		wantCode(t, err, codes.DeadlineExceeded)
	})
}

// TestObserveTellsNoRetryThatEnforceWouldNotMake, for a call that arrived as a retry.
func TestObserveTellsNoRetryThatEnforceWouldNotMake(t *testing.T) {
	for _, mode := range []steady.Mode{steady.ModeEnforce, steady.ModeObserve} {
		synctest.Test(t, func(t *testing.T) {
			rec := new(recorder)
			c := newClient(t, always(answer{from: "a", after: time.Second}), []steady.Rule{{
				Methods: []string{""}, Mode: mode, Retry: &retry.Config{}, Deadline: &deadline.Config{AttemptTimeout: 50 * time.Millisecond},
			}}, wide, steady.WithObserver(rec))
			ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("grpc-previous-rpc-attempts", "1"))
			_, _ = c.call(ctx, get)
			synctest.Wait()
			if n := len(of[steady.Retried](rec)); n != 0 {
				t.Errorf("%v: %d retries told", mode, n)
			}
		})
	}
}

// TestCrashOfAHostNobodyHeardOfLately: calls in flight when the first one fails are one crash, even if no other
// endpoint is known; calls that begin afterwards and fail are not.
func TestCrashOfAHostNobodyHeardOfLately(t *testing.T) {
	for _, tt := range []struct {
		name      string
		warm      bool
		slow, die time.Duration
	}{
		{"fresh channel", false, time.Second, 500 * time.Millisecond},
		{"long calls", true, 20 * time.Second, 12 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				fleet := steadytest.NewFleet(t, steadytest.Replicas("a", "b", "c", "d", "e"))
				out := outbound(t, breakerRule(breaker.Config{OpenJitter: -1}))
				conn := dial(fleet, out)
				if tt.warm {
					(steadytest.Load{Rate: 100, For: 2 * time.Second, Call: steadytest.Get(conn)}).Run(t.Context())
				}
				fleet.Behave(steadytest.Slow(tt.slow))
				conn.Connect()
				time.Sleep(time.Second)
				var failed atomic.Int64
				var wg sync.WaitGroup
				ctx := within(t, time.Minute)
				for range 500 {
					wg.Go(func() {
						if _, err := echov1.NewEchoClient(conn).Get(ctx, &req{}); err != nil {
							failed.Add(1)
						}
					})
				}
				time.Sleep(tt.die)
				fleet.Replica("a").Crash()
				wg.Wait()
				if failed.Load() < 90 {
					t.Fatalf("%d calls failed, the test wants a hundred in flight", failed.Load())
				}
				if got := state(t, out); got != breaker.Closed {
					t.Errorf("breaker %v after one host of five crashed, want closed", got)
				}
			})
		})
	}
}

// TestRetryLimitedNamesItsOwnMethods, not those that another rule is for.
func TestRetryLimitedNamesItsOwnMethods(t *testing.T) {
	rec := new(recorder)
	outbound(t, []steady.Rule{
		{Name: "echo", Methods: []string{"/steady.echo.v1.Echo/"}, Retry: &retry.Config{}, Idempotent: true},
		{Name: "rest", Methods: []string{""}, Retry: &retry.Config{}},
	}, steady.WithObserver(rec))
	for _, e := range of[steady.RetryLimited](rec) {
		if slices.ContainsFunc(e.Methods, func(m string) bool { return strings.HasPrefix(m, "/steady.echo.v1.Echo/") }) {
			t.Errorf("rule %q is said to limit %v", e.Rule, e.Methods)
		}
	}
}
