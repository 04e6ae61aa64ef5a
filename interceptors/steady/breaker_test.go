package steady_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/balancer/attempt"
	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/steady"
)

func breakerRule(cfg breaker.Config) []steady.Rule {
	return []steady.Rule{{Methods: []string{""}, Breaker: &cfg}}
}

// countOnly opens on five consecutive failures and on nothing else.
var countOnly = breaker.Config{FailureRatio: -1, OpenJitter: -1}

// state returns the state of the only breaker of the only channel.
func state(t *testing.T, out *steady.Outbound) breaker.State {
	t.Helper()
	s := out.Snapshot()
	if len(s.Channels) != 1 || len(s.Channels[0].Breakers) != 1 {
		t.Fatalf("snapshot %+v, want one breaker", s)
	}
	return s.Channels[0].Breakers[0].State
}

func TestWhatTripsTheBreaker(t *testing.T) {
	for _, tt := range []struct {
		name string
		give func(n int) answer
		call func(t *testing.T, c *client) error
		want breaker.State
	}{
		{"UNAVAILABLE of the only endpoint", func(int) answer { return answer{err: unavailable("x"), from: "a"} }, nil, breaker.Open},
		{"UNAVAILABLE of several", func(n int) answer { return answer{err: unavailable("x"), from: fmt.Sprint("host", n%2)} }, nil, breaker.Open},
		{"no connection at all", func(int) answer { return answer{err: unavailable("x")} }, nil, breaker.Open},
		{"INTERNAL", func(int) answer { return answer{err: status.Error(codes.Internal, "x"), from: "a"} }, nil, breaker.Open},
		{"DATA_LOSS", func(int) answer { return answer{err: status.Error(codes.DataLoss, "x"), from: "a"} }, nil, breaker.Open},
		{"NOT_FOUND", func(int) answer { return answer{err: status.Error(codes.NotFound, "x"), from: "a"} }, nil, breaker.Closed},
		{"INVALID_ARGUMENT", func(int) answer { return answer{err: status.Error(codes.InvalidArgument, "x"), from: "a"} }, nil, breaker.Closed},
		{"plain Go errors", func(int) answer { return answer{err: status.Error(codes.Unknown, "oops"), from: "a"} }, nil, breaker.Closed},
		{"a plain error of an interceptor below", func(int) answer { return answer{err: errors.New("oops"), from: "a"} }, nil, breaker.Closed},
		{"RESOURCE_EXHAUSTED of one tenant", func(int) answer { return answer{err: status.Error(codes.ResourceExhausted, "x"), from: "a"} }, nil, breaker.Closed},
		{"RESOURCE_EXHAUSTED with pushback", func(int) answer {
			return answer{err: status.Error(codes.ResourceExhausted, "x"), from: "a", trailer: pushback(10)}
		}, nil, breaker.Open},
		{"a message over the limit", func(int) answer {
			return answer{err: status.Error(codes.Internal, "grpc: error while marshaling: x"), from: "a"}
		}, nil, breaker.Closed},
		{"the caller's cancel", func(int) answer { return answer{after: time.Hour, from: "a"} }, func(t *testing.T, c *client) error {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Millisecond, cancel)
			_, err := c.call(ctx, get)
			return err
		}, breaker.Closed},
		{"the caller's tiny deadline", func(int) answer { return answer{after: time.Hour, from: "a"} }, func(t *testing.T, c *client) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			_, err := c.call(ctx, get)
			return err
		}, breaker.Closed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClient(t, newStub(tt.give), breakerRule(countOnly))
				for i := range 5 {
					var err error
					if tt.call != nil {
						err = tt.call(t, c)
					} else {
						_, err = c.call(t.Context(), get)
					}
					if err == nil || errors.Is(err, breaker.ErrOpen) {
						t.Fatalf("call %d: %v", i+1, err)
					}
				}
				if got := state(t, c.out); got != tt.want {
					t.Errorf("after five of them the breaker is %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestPlainErrorsFeedTheRatio(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, always(answer{err: status.Error(codes.Unknown, "oops"), from: "a"}), breakerRule(breaker.Config{}))
		for range 20 {
			_, _ = c.call(t.Context(), get)
		}
		if got := state(t, c.out); got != breaker.Open {
			t.Errorf("after 20 of 20 UNKNOWN the breaker is %v, want open by ratio", got)
		}
	})
}

// TestDeadlineCountsWithTimeEnough: an attempt that had its timeout, the rule's own deadline, or the learned
// median to run says something about the server.
func TestDeadlineCountsWithTimeEnough(t *testing.T) {
	hang := answer{after: time.Hour, from: "a"}
	for _, tt := range []struct {
		name   string
		cfg    *deadline.Config
		learn  time.Duration // duration of 30 good calls before
		caller time.Duration
		want   breaker.State
	}{
		{"attempt timeout", &deadline.Config{AttemptTimeout: 50 * time.Millisecond}, 0, 0, breaker.Open},
		{"default of the rule", &deadline.Config{Default: 50 * time.Millisecond}, 0, 0, breaker.Open},
		{"cap of the rule", &deadline.Config{Default: -1, Max: 50 * time.Millisecond}, 0, time.Minute, breaker.Open},
		{"learned median", nil, 10 * time.Millisecond, 20 * time.Millisecond, breaker.Open},
		{"less than the learned median", nil, 10 * time.Millisecond, 5 * time.Millisecond, breaker.Closed},
		{"nothing known", nil, 0, 20 * time.Millisecond, breaker.Closed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				learning := true
				c := newClient(t, newStub(func(int) answer {
					if learning {
						return answer{after: tt.learn, from: "a"}
					}
					return hang
				}), []steady.Rule{{Methods: []string{""}, Breaker: &countOnly, Deadline: tt.cfg}})
				if tt.learn > 0 {
					for range 30 {
						if _, err := c.call(t.Context(), get); err != nil {
							t.Fatal(err)
						}
					}
				}
				learning = false
				for range 5 {
					ctx, cancel := t.Context(), context.CancelFunc(func() {})
					if tt.caller > 0 {
						ctx, cancel = context.WithTimeout(ctx, tt.caller)
					}
					_, err := c.call(ctx, get)
					cancel()
					wantCode(t, err, codes.DeadlineExceeded)
				}
				if got := state(t, c.out); got != tt.want {
					t.Errorf("breaker %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// TestCrashOpensNothingDeathDoes: one host of five that dies with a hundred calls in flight is a matter for
// the balancer; a service that fails everywhere is one for the breaker.
func TestCrashOpensNothingDeathDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStub(func(n int) answer { return answer{from: fmt.Sprint("host", n%5), after: 20 * time.Millisecond} })
		c := newClient(t, s, breakerRule(countOnly))
		for range 50 {
			if _, err := c.call(t.Context(), get); err != nil {
				t.Fatal(err)
			}
		}
		s.become(func(int) answer {
			return answer{from: "host0", err: unavailable("connection reset"), after: time.Second}
		})
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { _, _ = c.call(t.Context(), get) })
		}
		wg.Wait()
		if got := state(t, c.out); got != breaker.Closed {
			t.Fatalf("one crashed host of five: breaker %v, want closed", got)
		}
		s.become(func(n int) answer {
			return answer{from: fmt.Sprint("host", n%5), err: unavailable("connection reset")}
		})
		for range 5 {
			_, _ = c.call(t.Context(), get)
		}
		if got := state(t, c.out); got != breaker.Open {
			t.Fatalf("all five hosts fail: breaker %v, want open", got)
		}
	})
}

func TestRefusalNeitherCountsNorRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{err: unavailable("down"), from: "a"})
		rec := new(recorder)
		rules := retryRule("")
		rules[0].Breaker = &breaker.Config{FailureRatio: -1, OpenJitter: -1}
		c := newClient(t, s, rules, wide, steady.WithObserver(rec))
		for range 2 { // 3 attempts, then 2: the fifth failure opens, the sixth attempt is refused
			_, err := c.call(t.Context(), get)
			wantCode(t, err, codes.Unavailable)
			if status.Convert(err).Message() != "down" {
				t.Errorf("%v, want the server's last word and not our refusal", err)
			}
		}
		if n := len(s.attempts()); n != 5 {
			t.Fatalf("%d attempts, want 5", n)
		}
		start := time.Now()
		_, err := c.call(t.Context(), get)
		var refused *steady.RefusedError
		if !errors.As(err, &refused) || !errors.Is(err, breaker.ErrOpen) || refused.Gate != "breaker" || refused.Method != get {
			t.Fatalf("%v, want a refusal by the breaker", err)
		}
		if refused.RetryAfter <= 0 || refused.RetryAfter > 5*time.Second || time.Since(start) != 0 {
			t.Errorf("retry after %v, took %v", refused.RetryAfter, time.Since(start))
		}
		wantCode(t, err, codes.Unavailable)
		if n := len(s.attempts()); n != 5 {
			t.Errorf("a refused call was sent")
		}
		if got := len(of[steady.Refused](rec)); got != 2 {
			t.Errorf("%d refusals told, want 2", got)
		}
	})
}

func TestExactlyNProbesUnderAThousandCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const probes = 3
		s := always(answer{err: unavailable("down"), from: "a"})
		c := newClient(t, s, breakerRule(breaker.Config{FailureRatio: -1, OpenJitter: -1, Probes: probes, Successes: probes, OpenTime: time.Second}))
		for range 5 {
			_, _ = c.call(t.Context(), get)
		}
		s.become(func(int) answer { return answer{from: "a", after: 100 * time.Millisecond} })
		time.Sleep(time.Second)
		before := len(s.attempts())
		var ok, refused atomic.Int64
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				switch _, err := c.call(t.Context(), get); {
				case err == nil:
					ok.Add(1)
				case errors.Is(err, breaker.ErrOpen):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := len(s.attempts()) - before; n != probes || ok.Load() != probes || refused.Load() != 1000-probes {
			t.Errorf("%d attempts, %d ok, %d refused; want %d probes", n, ok.Load(), refused.Load(), probes)
		}
		if got := state(t, c.out); got != breaker.Closed {
			t.Errorf("breaker %v, want closed", got)
		}
	})
}

// TestAProbeNeverWedgesTheBreaker: whatever becomes of a probe, the next one is admitted.
func TestAProbeNeverWedgesTheBreaker(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(ctx context.Context)
		wait time.Duration // until the next probe is admitted
	}{
		{"panics", func(context.Context) { panic("in an interceptor below") }, 0},
		{"calls Goexit", func(context.Context) { runtime.Goexit() }, 0},
		{"is cancelled", func(ctx context.Context) { <-ctx.Done() }, 0},
		{"hangs", func(context.Context) { time.Sleep(time.Hour) }, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := always(answer{err: unavailable("down"), from: "a"})
				c := newClient(t, s, breakerRule(breaker.Config{FailureRatio: -1, OpenJitter: -1}))
				for range 5 {
					_, _ = c.call(t.Context(), get)
				}
				time.Sleep(5 * time.Second)
				s.become(func(int) answer { return answer{from: "a", do: tt.do} })
				var wg sync.WaitGroup
				wg.Go(func() {
					defer func() { _ = recover() }()
					ctx, cancel := context.WithCancel(t.Context())
					time.AfterFunc(time.Millisecond, cancel)
					_, _ = c.call(ctx, get)
				})
				time.Sleep(2*time.Millisecond + tt.wait)
				s.become(func(int) answer { return answer{from: "a"} })
				for i := range 2 {
					if _, err := c.call(t.Context(), get); err != nil {
						t.Fatalf("probe %d after it: %v", i+1, err)
					}
				}
				if got := state(t, c.out); got != breaker.Closed {
					t.Errorf("breaker %v, want closed after two good probes", got)
				}
				wg.Wait()
			})
		})
	}
}

func TestPushbackFloorsTheOpenTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, always(answer{err: unavailable("down"), from: "a", trailer: pushback(20_000)}), breakerRule(countOnly))
		for range 5 {
			_, _ = c.call(t.Context(), get)
		}
		_, err := c.call(t.Context(), get)
		var refused *steady.RefusedError
		if !errors.As(err, &refused) || refused.RetryAfter != 20*time.Second {
			t.Errorf("%+v, want to stay away for the 20 s that the server asked for", refused)
		}
	})
}

func TestPerMethodBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{err: unavailable("down"), from: "a"})
		rules := breakerRule(countOnly)
		rules[0].PerMethod = true
		c := newClient(t, s, rules)
		for range 5 {
			_, _ = c.call(t.Context(), get)
		}
		if _, err := c.call(t.Context(), get); !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("%v, want open", err)
		}
		if _, err := c.call(t.Context(), put); errors.Is(err, breaker.ErrOpen) {
			t.Errorf("another method is refused: %v", err)
		}
	})
}

func TestObserverMayUseTheOutbound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *client
		changes := 0
		c = newClient(t, always(answer{err: unavailable("down"), from: "a"}), breakerRule(countOnly),
			steady.WithObserver(steady.ObserverFunc(func(e steady.Event) {
				if _, ok := e.(*steady.BreakerChanged); ok {
					changes++
					c.out.Snapshot()
					if err := c.out.Update(breakerRule(countOnly)); err != nil {
						t.Error(err)
					}
					_, _ = c.call(t.Context(), get)
				}
			})))
		for range 5 {
			_, _ = c.call(t.Context(), get)
		}
		if changes != 1 {
			t.Errorf("%d changes told", changes)
		}
	})
}

func TestClassifier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, always(answer{from: "sick"}), breakerRule(countOnly),
			steady.WithClassifier(func(method string, reply any, err error) steady.Verdict {
				if r, ok := reply.(interface{ GetText() string }); ok && method == get && err == nil && r.GetText() == "sick" {
					return steady.VerdictFailure
				}
				return steady.VerdictDefault
			}))
		for range 5 {
			if _, err := c.call(t.Context(), get); err != nil {
				t.Fatal(err)
			}
		}
		if got := state(t, c.out); got != breaker.Open {
			t.Errorf("breaker %v, want open: the replies carry the failure", got)
		}
	})
}

func TestFailOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := breakerRule(countOnly)
		rules[0].FailOn = []codes.Code{codes.Aborted}
		s := always(answer{err: unavailable("x"), from: "a"})
		c := newClient(t, s, rules)
		for range 5 {
			_, _ = c.call(t.Context(), get)
		}
		if got := state(t, c.out); got != breaker.Closed {
			t.Errorf("UNAVAILABLE is not listed: %v", got)
		}
		s.become(func(int) answer { return answer{err: status.Error(codes.Aborted, "x"), from: "a"} })
		for range 5 {
			_, _ = c.call(t.Context(), get)
		}
		if got := state(t, c.out); got != breaker.Open {
			t.Errorf("ABORTED is listed: %v", got)
		}
	})
}

// TestUsersGates: asked in order after the breaker, told in the opposite order, and none is left waiting.
func TestUsersGates(t *testing.T) {
	var log []string
	gate := func(name string, refuse error) steady.Gate {
		return gateFunc(func(ctx context.Context) (func(error), error) {
			log = append(log, "ask "+name)
			if refuse != nil {
				return nil, refuse
			}
			return func(err error) {
				kind := "success"
				if errors.Is(err, context.Canceled) {
					kind = "nothing"
				} else if err != nil {
					kind = "failure"
				}
				log = append(log, name+" "+kind)
			}, nil
		})
	}
	for _, tt := range []struct {
		name   string
		answer answer
		gates  []steady.Gate
		want   string
	}{
		{"success", answer{from: "a"}, []steady.Gate{gate("1", nil), gate("2", nil)}, "[ask 1 ask 2 2 success 1 success]"},
		{"failure", answer{err: unavailable("x"), from: "a"}, []steady.Gate{gate("1", nil)}, "[ask 1 1 failure]"},
		{"the caller's fault", answer{err: status.Error(codes.NotFound, "x"), from: "a"}, []steady.Gate{gate("1", nil)}, "[ask 1 1 success]"},
		{"refused by the second", answer{from: "a"}, []steady.Gate{gate("1", nil), gate("2", io.ErrShortBuffer)}, "[ask 1 ask 2 1 nothing]"},
		{"panic below", answer{do: func(context.Context) { panic("x") }}, []steady.Gate{gate("1", nil), gate("2", nil)}, "[ask 1 ask 2 2 nothing 1 nothing]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log = nil
			var opts []steady.Option
			for i, g := range tt.gates {
				opts = append(opts, steady.WithGate(fmt.Sprint("gate", i+1), g))
			}
			c := newClient(t, always(tt.answer), nil, opts...)
			func() {
				defer func() { _ = recover() }()
				_, _ = c.call(t.Context(), get)
			}()
			if got := fmt.Sprint(log); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// TestAGateMayKeepItsContext: it sees the attempt's own deadline, and may watch it from another goroutine.
func TestAGateMayKeepItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		gate := gateFunc(func(ctx context.Context) (func(error), error) {
			if d, ok := ctx.Deadline(); !ok || time.Until(d) != 100*time.Millisecond {
				t.Errorf("the gate sees deadline %v, %v", d, ok)
			}
			a := attempt.From(ctx)
			if a == nil || a.Method != get || a.Number != 1 {
				t.Errorf("the gate sees attempt %+v", a)
			}
			wg.Go(func() { <-ctx.Done() })
			return func(error) {}, nil
		})
		c := newClient(t, always(answer{from: "a"}), []steady.Rule{{
			Methods: []string{""}, Deadline: &deadline.Config{AttemptTimeout: 100 * time.Millisecond},
		}}, steady.WithGate("watcher", gate))
		if _, err := c.call(t.Context(), get); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
	})
}
