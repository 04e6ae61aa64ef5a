package steadytest_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// gate makes a Gate of a function.
type gate func(ctx context.Context) (func(error), error)

func (g gate) Admit(ctx context.Context) (func(error), error) { return g(ctx) }

var errFull = errors.New("full")

// slots is a bulkhead that refuses.
func slots(n int64) steadytest.Gate {
	var inFlight atomic.Int64
	return gate(func(context.Context) (func(error), error) {
		if inFlight.Add(1) > n {
			inFlight.Add(-1)
			return nil, errFull
		}
		var once sync.Once
		return func(error) { once.Do(func() { inFlight.Add(-1) }) }, nil
	})
}

// queue is a bulkhead that waits.
func queue(n int) steadytest.Gate {
	free := make(chan struct{}, n)
	return gate(func(ctx context.Context) (func(error), error) {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		var once sync.Once
		return func(error) { once.Do(func() { <-free }) }, nil
	})
}

// rate admits n calls a second and refuses more.
func rate(n float64) steadytest.Gate {
	var mu sync.Mutex
	tokens, last := n, time.Now()
	return gate(func(context.Context) (func(error), error) {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		tokens, last = min(n, tokens+now.Sub(last).Seconds()*n), now
		if tokens < 1 {
			return nil, errors.New("too many")
		}
		tokens--
		return func(error) {}, nil
	})
}

// fuse opens on n failures in a row for a time; cancels count for nothing unless told.
func fuse(n int, open time.Duration, failure func(error) bool) steadytest.Gate {
	var mu sync.Mutex
	row, until := 0, time.Time{}
	return gate(func(context.Context) (func(error), error) {
		mu.Lock()
		defer mu.Unlock()
		if time.Now().Before(until) {
			return nil, errors.New("open")
		}
		return func(err error) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				row = 0
			case failure(err):
				if row++; row >= n {
					row, until = 0, time.Now().Add(open)
				}
			}
		}, nil
	})
}

func failed(err error) bool { return !errors.Is(err, context.Canceled) }

// lots refuses one call of a hundred.
func lots() steadytest.Gate {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(1, 2))
	return gate(func(context.Context) (func(error), error) {
		mu.Lock()
		defer mu.Unlock()
		if random.IntN(100) == 50 {
			return nil, errors.New("bad luck")
		}
		return func(error) {}, nil
	})
}

// sweeper owns a goroutine until it is closed.
type sweeper struct {
	steadytest.Gate
	stop, stopped chan struct{}
}

func newSweeper() steadytest.Gate {
	s := &sweeper{Gate: slots(3), stop: make(chan struct{}), stopped: make(chan struct{})}
	go func() {
		defer close(s.stopped)
		<-s.stop
	}()
	return s
}

func (s *sweeper) Close() {
	close(s.stop)
	<-s.stopped
}

func TestGateOnGoodGates(t *testing.T) {
	for name, newGate := range map[string]func() steadytest.Gate{
		"open": func() steadytest.Gate {
			return gate(func(context.Context) (func(error), error) { return func(error) {}, nil })
		},
		"one slot": func() steadytest.Gate { return slots(1) },
		"slots":    func() steadytest.Gate { return slots(10) },
		"queue":    func() steadytest.Gate { return queue(10) },
		"rate":     func() steadytest.Gate { return rate(10) },
		"fuse":     func() steadytest.Gate { return fuse(5, time.Minute, failed) },
		"sweeper":  newSweeper,
		"breaker": func() steadytest.Gate {
			b, err := breaker.New(breaker.Config{})
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) { steadytest.TestGate(t, newGate) })
	}
}

// TestGateCatchesBrokenGates has one gate for each mistake that was seen in the wild or comes easily, and
// the check that must find it.
func TestGateCatchesBrokenGates(t *testing.T) {
	nop := func(error) {}
	shared := fuse(5, time.Minute, failed)
	tests := []struct {
		name, caught string
		gate         func() steadytest.Gate
	}{
		{"refuses from the start", "admits", func() steadytest.Gate { return slots(0) }},
		{"neither done nor error", "admits", func() steadytest.Gate {
			return gate(func(context.Context) (func(error), error) { return nil, nil })
		}},
		{"done and error", "refusal", func() steadytest.Gate {
			g := slots(5)
			return gate(func(ctx context.Context) (func(error), error) {
				done, err := g.Admit(ctx)
				if err != nil {
					done = nop
				}
				return done, err
			})
		}},
		{"panics on an unknown error", "done takes any end", func() steadytest.Gate {
			return gate(func(context.Context) (func(error), error) {
				return func(err error) {
					if err != nil && !errors.Is(err, context.Canceled) {
						_ = err.(interface{ Source() string }).Source()
					}
				}, nil
			})
		}},
		{"needs a deadline", "admits", func() steadytest.Gate {
			return gate(func(ctx context.Context) (func(error), error) {
				d, _ := ctx.Deadline()
				if time.Until(d) < 0 {
					return nil, errors.New("too late")
				}
				return nop, nil
			})
		}},
		{"forgets the slot once the context ended", "done on another goroutine", func() steadytest.Gate {
			g := slots(100)
			return gate(func(ctx context.Context) (func(error), error) {
				done, err := g.Admit(ctx)
				if err != nil {
					return nil, err
				}
				return func(err error) {
					if ctx.Err() == nil {
						done(err)
					}
				}, nil
			})
		}},
		{"recovers", "done during panic", func() steadytest.Gate {
			return gate(func(context.Context) (func(error), error) { return func(error) { _ = recover() }, nil })
		}},
		{"frees its slot at the second done only", "done during Goexit", func() steadytest.Gate {
			g := slots(10)
			return gate(func(ctx context.Context) (func(error), error) {
				done, err := g.Admit(ctx)
				if err != nil {
					return nil, err
				}
				calls := 0
				return func(err error) {
					if calls++; calls == 2 {
						done(err)
					}
				}, nil
			})
		}},
		{"second done frees a second slot", "second done does nothing", func() steadytest.Gate {
			var inFlight atomic.Int64
			return gate(func(context.Context) (func(error), error) {
				if inFlight.Add(1) > 5 {
					inFlight.Add(-1)
					return nil, errFull
				}
				return func(error) { inFlight.Add(-1) }, nil
			})
		}},
		{"second done panics", "second done does nothing", func() steadytest.Gate {
			return gate(func(context.Context) (func(error), error) {
				ended := make(chan struct{})
				return func(error) { close(ended) }, nil
			})
		}},
		{"a cancel is a failure", "cancelled counts for nothing", func() steadytest.Gate {
			return fuse(5, time.Minute, func(error) bool { return true })
		}},
		{"a wrapped cancel is a failure", "cancelled counts for nothing", func() steadytest.Gate {
			return fuse(5, time.Minute, func(err error) bool { return err != context.Canceled }) //nolint:errorlint // the mistake
		}},
		{"a cancel loses its slot", "cancelled counts for nothing", func() steadytest.Gate {
			g := slots(10)
			return gate(func(ctx context.Context) (func(error), error) {
				done, err := g.Admit(ctx)
				if err != nil {
					return nil, err
				}
				return func(err error) {
					if !errors.Is(err, context.Canceled) {
						done(err)
					}
				}, nil
			})
		}},
		{"refusal without a text", "refusal", func() steadytest.Gate {
			g := slots(5)
			return gate(func(ctx context.Context) (func(error), error) {
				done, err := g.Admit(ctx)
				if err != nil {
					err = errors.New("")
				}
				return done, err
			})
		}},
		{"refusal that looks like a cancel", "refusal", func() steadytest.Gate {
			g := fuse(5, time.Minute, failed)
			return gate(func(ctx context.Context) (func(error), error) {
				done, err := g.Admit(ctx)
				if err != nil {
					err = context.Canceled
				}
				return done, err
			})
		}},
		{"takes a slot for a dead context and keeps it", "cancelled context", func() steadytest.Gate {
			g := slots(10)
			return gate(func(ctx context.Context) (func(error), error) {
				done, err := g.Admit(ctx)
				if err != nil {
					return nil, err
				}
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				return done, nil
			})
		}},
		{"waits past its context", "waiting ends with context", func() steadytest.Gate {
			g := slots(5)
			return gate(func(ctx context.Context) (func(error), error) {
				done, err := g.Admit(ctx)
				if err != nil {
					time.Sleep(time.Minute)
				}
				return done, err
			})
		}},
		{"waits for ever", "waiting ends with context", func() steadytest.Gate {
			g := queue(5)
			return gate(func(ctx context.Context) (func(error), error) {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 100*time.Hour) // for ever, for the check
				defer cancel()
				return g.Admit(ctx)
			})
		}},
		{"stays open", "recovers", func() steadytest.Gate { return fuse(5, 1000*time.Hour, failed) }},
		{"loses a slot by each failure", "recovers", func() steadytest.Gate {
			g := slots(10)
			return gate(func(ctx context.Context) (func(error), error) {
				done, err := g.Admit(ctx)
				if err != nil {
					return nil, err
				}
				return func(err error) {
					if err == nil {
						done(nil)
					}
				}, nil
			})
		}},
		{"counts below zero wedge it", "concurrent", func() steadytest.Gate {
			var mu sync.Mutex
			inFlight := 0
			return gate(func(context.Context) (func(error), error) {
				mu.Lock()
				defer mu.Unlock()
				if inFlight < 0 {
					return nil, errFull
				}
				inFlight++
				return func(error) { mu.Lock(); inFlight--; mu.Unlock() }, nil
			})
		}},
		{"one state for all", "gates share nothing", func() steadytest.Gate { return shared }},
		{"leaves goroutines behind", "admits", func() steadytest.Gate {
			return gate(func(context.Context) (func(error), error) {
				go time.Sleep(100 * time.Hour)
				return nop, nil
			})
		}},
	}
	checks := steadytest.GateChecks()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				check := checks[tt.caught]
				if check == nil {
					t.Fatalf("there is no check %q", tt.caught)
				}
				if tt.name == "one state for all" {
					shared = fuse(5, time.Minute, failed) // its own bubble's time
				}
				err := check(tt.gate)
				if err == nil {
					t.Fatalf("%q did not catch it", tt.caught)
				}
				t.Logf("%v", err)
				time.Sleep(200 * time.Hour) // what the gate left behind ends by itself, or the bubble would complain
			})
		})
	}
}

func TestGateAllowsLuck(t *testing.T) {
	// A gate that draws lots refuses now and then; the checks that look at shares must bear that.
	checks := steadytest.GateChecks()
	for _, name := range []string{"cancelled counts for nothing", "refusal", "recovers", "concurrent", "cancelled context"} {
		steadytest.Run(t, func(t *testing.T) {
			if err := checks[name](lots); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

func TestGateReportsPanicInAdmit(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		err := steadytest.GateChecks()["admits"](func() steadytest.Gate {
			return gate(func(context.Context) (func(error), error) { panic("boom") })
		})
		if err == nil || !strings.Contains(err.Error(), "boom") {
			t.Errorf("a panic in Admit became %v", err)
		}
	})
}
