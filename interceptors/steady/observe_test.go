package steady_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
)

// trace is what one run of a scenario showed.
type trace struct {
	first    map[string]time.Duration // first event of each kind, since the start
	results  []string                 // what callers got, and when
	attempts []seen
}

// scenario plays one load against a server that sickens, under one mode.
func scenario(t *testing.T, mode steady.Mode, sick func(i int) answer) trace {
	t.Helper()
	tr := trace{first: make(map[string]time.Duration)}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var mu sync.Mutex // a would-have cut is told on a goroutine of its own
		note := func(kind string, at time.Time) {
			mu.Lock()
			defer mu.Unlock()
			if _, ok := tr.first[kind]; !ok {
				tr.first[kind] = at.Sub(start)
			}
		}
		observer := steady.ObserverFunc(func(e steady.Event) {
			would := mode == steady.ModeObserve
			switch e := e.(type) {
			case *steady.BreakerChanged:
				if e.WouldHave != would {
					t.Errorf("BreakerChanged.WouldHave is %v in mode %v", e.WouldHave, mode)
				}
				note("change to "+e.Change.To.String(), e.Change.At)
			case *steady.Refused:
				if e.WouldHave != would {
					t.Errorf("Refused.WouldHave is %v in mode %v", e.WouldHave, mode)
				}
				note("refuse", e.At)
			case *steady.Retried:
				if e.WouldHave != would {
					t.Errorf("Retried.WouldHave is %v in mode %v", e.WouldHave, mode)
				}
				note("retry", e.At)
			case *steady.DeadlineCut:
				if e.WouldHave != would {
					t.Errorf("DeadlineCut.WouldHave is %v in mode %v", e.WouldHave, mode)
				}
				note(fmt.Sprintf("cut attempt=%v", e.Attempt), e.At)
			}
		})
		random := rand.New(rand.NewPCG(1, 2))
		var c *client
		i := 0
		c = newClient(t, newStub(func(int) answer { return sick(i) }), []steady.Rule{{
			Methods: []string{""}, Mode: mode,
			Breaker:  &breaker.Config{OpenJitter: -1},
			Retry:    &retry.Config{MaxAttempts: 2},
			Deadline: &deadline.Config{Default: 2 * time.Second, AttemptTimeout: time.Second},
		}}, steady.WithObserver(observer), steady.WithRandom(func() float64 {
			mu.Lock()
			defer mu.Unlock()
			return random.Float64()
		}), wide)
		for i = range 60 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			got, err := c.call(ctx, get)
			cancel()
			tr.results = append(tr.results, fmt.Sprint(time.Since(start), got.GetText(), status.Code(err), err))
		}
		tr.attempts = c.stub.attempts()
	})
	return tr
}

// TestObserveChangesNothingAndTellsTheTruth: in observe mode callers get what they would get without steady,
// and the first would-have of each kind comes at the instant of the real one.
func TestObserveChangesNothingAndTellsTheTruth(t *testing.T) {
	for name, sick := range map[string]func(i int) answer{
		"fails": func(i int) answer {
			if i < 10 {
				return answer{from: "a", after: 10 * time.Millisecond}
			}
			return answer{from: "a", after: 10 * time.Millisecond, err: unavailable("down")}
		},
		"hangs": func(i int) answer {
			if i < 10 {
				return answer{from: "a", after: 10 * time.Millisecond}
			}
			return answer{from: "a", after: 10 * time.Second}
		},
	} {
		t.Run(name, func(t *testing.T) {
			enforced, would, off := scenario(t, steady.ModeEnforce, sick), scenario(t, steady.ModeObserve, sick), scenario(t, steady.ModeOff, sick)
			if fmt.Sprint(would.results) != fmt.Sprint(off.results) {
				t.Errorf("observe changed results:\n%v\nwithout:\n%v", would.results, off.results)
			}
			if len(would.attempts) != len(off.attempts) || len(off.attempts) != 60 {
				t.Errorf("observe made %d attempts, off %d", len(would.attempts), len(off.attempts))
			}
			for i := range off.attempts {
				if would.attempts[i] != off.attempts[i] {
					t.Fatalf("attempt %d: %+v, without steady %+v", i+1, would.attempts[i], off.attempts[i])
				}
			}
			for _, kind := range []string{"change to open", "retry", "refuse"} {
				if _, ok := enforced.first[kind]; !ok {
					t.Errorf("the scenario shows no %q", kind)
				}
			}
			first := "retry"
			if name == "hangs" {
				first = "cut attempt=true"
			}
			if enforced.first[first] != would.first[first] {
				t.Errorf("%s at %v, would have at %v", first, enforced.first[first], would.first[first])
			}
			if len(off.first) != 0 {
				t.Errorf("off tells %v", off.first)
			}
			t.Logf("enforce %v\nobserve %v", enforced.first, would.first)
		})
	}
}

// TestFirstWouldHaveOfEachKind compares the instants for each mechanism by itself, so that the cure of one
// does not move the time line of another.
func TestFirstWouldHaveOfEachKind(t *testing.T) {
	kinds := []struct {
		name string
		rule steady.Rule
		give func(n int) answer
	}{
		{"open", steady.Rule{Breaker: &breaker.Config{OpenJitter: -1}}, func(n int) answer {
			return answer{from: "a", after: 7 * time.Millisecond, err: map[bool]error{true: unavailable("x")}[n > 3]}
		}},
		{"refuse", steady.Rule{Breaker: &breaker.Config{OpenJitter: -1}}, func(n int) answer {
			return answer{from: "a", after: 7 * time.Millisecond, err: map[bool]error{true: unavailable("x")}[n > 3]}
		}},
		{"retry", steady.Rule{Retry: &retry.Config{}}, func(n int) answer {
			return answer{from: "a", after: 7 * time.Millisecond, err: map[bool]error{true: unavailable("x")}[n > 3]}
		}},
		{"cut attempt", steady.Rule{Deadline: &deadline.Config{AttemptTimeout: 500 * time.Millisecond}}, func(n int) answer {
			return answer{from: "a", after: time.Duration(n) * 90 * time.Millisecond}
		}},
		{"cut call", steady.Rule{Deadline: &deadline.Config{Default: 500 * time.Millisecond}}, func(n int) answer {
			return answer{from: "a", after: time.Duration(n) * 90 * time.Millisecond}
		}},
		{"open by hanging", steady.Rule{Breaker: &countOnly, Deadline: &deadline.Config{Default: 500 * time.Millisecond}}, func(n int) answer {
			return answer{from: "a", after: map[bool]time.Duration{true: 9 * time.Second}[n > 3]}
		}},
	}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			instants := make(map[steady.Mode]string)
			for _, mode := range []steady.Mode{steady.ModeEnforce, steady.ModeObserve} {
				synctest.Test(t, func(t *testing.T) {
					start := time.Now()
					var mu sync.Mutex
					tell := func(kind string, at time.Time) {
						mu.Lock()
						defer mu.Unlock()
						if instants[mode] == "" {
							instants[mode] = fmt.Sprint(kind, " at ", at.Sub(start))
						}
					}
					rule := k.rule
					rule.Methods, rule.Mode = []string{""}, mode
					c := newClient(t, newStub(k.give), []steady.Rule{rule}, wide, steady.WithRandom(middle),
						steady.WithObserver(steady.ObserverFunc(func(e steady.Event) {
							switch e := e.(type) {
							case *steady.BreakerChanged:
								if k.name != "refuse" {
									tell("open", e.Change.At)
								}
							case *steady.Refused:
								if k.name == "refuse" {
									tell("refuse", e.At)
								}
							case *steady.Retried:
								tell("retry", e.At)
							case *steady.DeadlineCut:
								if k.rule.Breaker == nil {
									tell("cut", e.At)
								}
							}
						})))
					// Open loop: the load does not wait for answers, so that a cut moves nothing else.
					done := make(chan struct{})
					const calls = 120
					for range calls {
						go func() {
							_, _ = c.call(t.Context(), get)
							done <- struct{}{}
						}()
						synctest.Wait()
						time.Sleep(10 * time.Millisecond)
					}
					for range calls {
						<-done
					}
				})
			}
			if instants[steady.ModeEnforce] == "" || instants[steady.ModeEnforce] != instants[steady.ModeObserve] {
				t.Errorf("enforce: %q, observe: %q", instants[steady.ModeEnforce], instants[steady.ModeObserve])
			}
		})
	}
}

func TestSetMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{err: unavailable("down"), from: "a"})
		c := newClient(t, s, retryRule(""), wide, steady.WithMode(steady.ModeObserve))
		count := func() int {
			before := len(s.attempts())
			_, err := c.call(t.Context(), get)
			wantCode(t, err, codes.Unavailable)
			return len(s.attempts()) - before
		}
		if n := count(); n != 1 {
			t.Errorf("observe: %d attempts", n)
		}
		for _, tt := range []struct {
			mode steady.Mode
			want int
		}{{steady.ModeEnforce, 3}, {steady.ModeOff, 1}, {steady.ModeEnforce, 3}} {
			if err := c.out.SetMode(tt.mode); err != nil {
				t.Fatal(err)
			}
			if n := count(); n != tt.want {
				t.Errorf("%v: %d attempts, want %d", tt.mode, n, tt.want)
			}
		}
		if err := c.out.SetMode(9); err == nil {
			t.Error("mode 9 accepted")
		}
		if got := c.out.Snapshot().Mode; got != steady.ModeEnforce {
			t.Errorf("mode %v after a refused change", got)
		}
	})
}

// TestAWouldHaveRetryIsNoReasonToStop: the call under observation ends with what it got, and nobody is told that
// its error was not one to retry on.
func TestAWouldHaveRetryIsNoReasonToStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := new(recorder)
		rules := retryRule("")
		rules[0].Mode = steady.ModeObserve
		c := newClient(t, always(answer{err: unavailable("down"), from: "a"}), rules, wide, steady.WithObserver(rec))
		_, err := c.call(t.Context(), get)
		wantCode(t, err, codes.Unavailable)
		retried, ended := of[steady.Retried](rec), of[steady.CallEnded](rec)
		if len(retried) != 1 || !retried[0].WouldHave || len(ended) != 1 || ended[0].Stop != retry.Go {
			t.Errorf("retried %+v, ended %+v", retried, ended)
		}
	})
}
