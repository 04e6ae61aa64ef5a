package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/grpcsteady/steady/interceptors/breaker"
)

// from is a failure of one of so many endpoints.
func from(source string, sources int) breaker.Outcome {
	return breaker.Outcome{Result: breaker.Failure, Source: source, Sources: sources}
}

func repeat(n int, outcomes ...breaker.Outcome) []breaker.Outcome {
	var all []breaker.Outcome
	for range n {
		all = append(all, outcomes...)
	}
	return all
}

func join(lists ...[]breaker.Outcome) []breaker.Outcome {
	var all []breaker.Outcome
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// TestOpens feeds outcomes one by one, at one instant, and expects the breaker to open at the numbered one.
func TestOpens(t *testing.T) {
	ok := breaker.Outcome{}
	nothing := breaker.Outcome{Result: breaker.Nothing}
	suspect := breaker.Outcome{Result: breaker.Failure, RatioOnly: true}
	everywhere := breaker.Outcome{Result: breaker.Failure, Source: "a", Sources: 5, Everywhere: true}
	slow := breaker.Outcome{Duration: time.Second}
	slowFailure := breaker.Outcome{Result: breaker.Failure, RatioOnly: true, Duration: time.Second}
	onlyCount := breaker.Config{FailureRatio: -1}
	onlyRatio := breaker.Config{ConsecutiveFailures: -1}
	slowRule := breaker.Config{ConsecutiveFailures: -1, FailureRatio: -1, SlowRatio: 0.5, SlowAfter: time.Second}
	for _, tt := range []struct {
		name   string
		cfg    breaker.Config
		give   []breaker.Outcome
		want   int // 1-based; 0 for never
		reason string
	}{
		{"five in a row", onlyCount, repeat(9, failure), 5, breaker.ReasonConsecutive},
		{"a success between", onlyCount, join(repeat(4, failure), repeat(1, ok), repeat(4, failure)), 0, ""},
		{"the run starts anew", onlyCount, join(repeat(4, failure), repeat(1, ok), repeat(5, failure)), 10, breaker.ReasonConsecutive},
		{"nothing between does not end the run", onlyCount, join(repeat(4, failure), repeat(9, nothing), repeat(1, failure)), 14, breaker.ReasonConsecutive},
		{"suspects do not add", onlyCount, join(repeat(4, failure), repeat(99, suspect)), 0, ""},
		{"suspects do not reset", onlyCount, join(repeat(4, failure), repeat(9, suspect), repeat(1, failure)), 14, breaker.ReasonConsecutive},
		{"count off", breaker.Config{ConsecutiveFailures: -1, FailureRatio: -1}, repeat(500, failure), 0, ""},
		{"one of five crashes", breaker.Config{}, repeat(100, from("a", 5)), 0, ""},
		{"one of five crashes, count alone", onlyCount, repeat(100, from("a", 5)), 0, ""},
		{"one of unknown many", onlyCount, repeat(100, from("a", 0)), 0, ""},
		{"two of five", onlyCount, join(repeat(99, from("a", 5)), repeat(1, from("b", 5))), 100, breaker.ReasonConsecutive},
		{"two of unknown many", onlyCount, join(repeat(4, from("a", 0)), repeat(1, from("b", 0))), 5, breaker.ReasonConsecutive},
		{"two, too few", onlyCount, repeat(2, from("a", 5), from("b", 5)), 0, ""},
		{"one without source", onlyCount, join(repeat(4, from("a", 5)), repeat(1, failure)), 5, breaker.ReasonConsecutive},
		{"one without source first", onlyCount, join(repeat(1, failure), repeat(4, from("a", 5))), 5, breaker.ReasonConsecutive},
		{"the only one", onlyCount, repeat(9, from("a", 1)), 5, breaker.ReasonConsecutive},
		{"the others left", onlyCount, join(repeat(9, from("a", 5)), repeat(1, from("a", 1))), 10, breaker.ReasonConsecutive},
		{"no connection at all", onlyCount, repeat(9, everywhere), 5, breaker.ReasonConsecutive},
		{"sources of an ended run", onlyCount, join(repeat(1, from("b", 5)), repeat(1, ok), repeat(99, from("a", 5))), 0, ""},
		{"a dead service", breaker.Config{}, repeat(3, from("a", 5), from("b", 5)), 5, breaker.ReasonConsecutive},

		{"ratio at its minimum", onlyRatio, repeat(30, failure), 20, breaker.ReasonFailures},
		{"ratio of suspects", breaker.Config{}, repeat(30, suspect), 20, breaker.ReasonFailures},
		{"exactly half", onlyRatio, repeat(20, ok, failure), 20, breaker.ReasonFailures},
		{"just below half", onlyRatio, join(repeat(1, ok), repeat(40, ok, failure)), 0, ""},
		{"a fast success never opens", onlyRatio, join(repeat(19, failure), repeat(9, ok)), 0, ""},
		{"but the next failure does", onlyRatio, join(repeat(19, failure), repeat(1, ok), repeat(1, failure)), 21, breaker.ReasonFailures},
		{"nothing does not count", onlyRatio, join(repeat(19, failure), repeat(30, nothing)), 0, ""},
		{"a third", breaker.Config{FailureRatio: 1.0 / 3, MinimumCalls: 3}, repeat(9, ok, ok, failure), 3, breaker.ReasonFailures},
		{"ratio off", breaker.Config{ConsecutiveFailures: -1, FailureRatio: -1}, repeat(99, suspect), 0, ""},
		{"a burst of one of five", onlyRatio, repeat(500, from("a", 5)), 0, ""},
		{"one of five, and a little of another", onlyRatio, join(repeat(500, from("a", 5)), repeat(9, from("b", 5))), 0, ""},
		{"two of five", onlyRatio, join(repeat(500, from("a", 5)), repeat(30, from("b", 5))), 510, breaker.ReasonFailures},
		{"one of five, and the others are well", onlyRatio, join(repeat(500, from("a", 5)), repeat(30, ok, ok, from("b", 5))), 0, ""},
		{"all of two in turns", onlyRatio, repeat(30, from("a", 2), from("b", 2)), 20, breaker.ReasonFailures},
		{"a burst of one of unknown many", onlyRatio, repeat(30, from("a", 0)), 20, breaker.ReasonFailures},

		{"slow calls", slowRule, repeat(30, slow), 20, breaker.ReasonSlow},
		{"slow failures", slowRule, repeat(30, slowFailure), 20, breaker.ReasonSlow},
		{"half of them slow", slowRule, repeat(20, ok, slow), 20, breaker.ReasonSlow},
		{"fewer slow", slowRule, repeat(40, ok, slow, ok), 0, ""},
		{"not slow enough", slowRule, repeat(40, breaker.Outcome{Duration: time.Second - 1}), 0, ""},
		{"slow rule off", onlyRatio, repeat(40, slow), 0, ""},
		{"a slow success ends the run", breaker.Config{FailureRatio: -1, SlowRatio: 1, SlowAfter: time.Second},
			join(repeat(4, failure), repeat(1, slow), repeat(4, failure)), 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBreaker(t, tt.cfg)
				tokens := make([]breaker.Token, len(tt.give))
				for i := range tokens { // all in flight at once: only the ends are in order
					tokens[i] = allow(t, b)
				}
				got := 0
				for i, token := range tokens {
					token.End(time.Now(), tt.give[i])
					if got == 0 && b.State() != breaker.Closed {
						got = i + 1
					}
				}
				if s := b.Snapshot(); got != tt.want || s.Reason != tt.reason || s.Trips != uint64(min(got, 1)) {
					t.Fatalf("opened at %d (%q), want %d (%q): %+v", got, s.Reason, tt.want, tt.reason, s)
				}
			})
		})
	}
}

// TestLoneEndpointOpensByRatioInTheEnd: all traffic may go to one of several endpoints, and nobody take it out, so the
// ratio's patience with it must end.
func TestLoneEndpointOpensByRatioInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, breaker.Config{})
		start := time.Now()
		for b.State() == breaker.Closed && time.Since(start) < time.Minute {
			end(t, b, 1, from("a", 5))
			time.Sleep(20 * time.Millisecond)
		}
		// Open since a window after the first failure.
		if s := b.Snapshot(); s.Reason != breaker.ReasonFailures || s.Since.Sub(start) != 10*time.Second {
			t.Fatalf("%+v, %v after the start", s, s.Since.Sub(start))
		}
	})
}

func TestWindowSlides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, breaker.Config{ConsecutiveFailures: -1})
		end(t, b, 19, failure)
		time.Sleep(10 * time.Second)
		end(t, b, 19, failure) // the first 19 have left
		wantState(t, b, breaker.Closed)
		if s := b.Snapshot(); s.Calls != 19 || s.Failures != 19 || s.Consecutive != 38 {
			t.Fatalf("%+v", s)
		}
		time.Sleep(9 * time.Second)
		end(t, b, 1, failure)
		wantState(t, b, breaker.Open)
	})
}

func TestMeasuresSlowCallsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, breaker.Config{SlowRatio: 1, SlowAfter: time.Second, MinimumCalls: 2})
		for _, took := range []time.Duration{time.Second, time.Second} {
			token := allow(t, b)
			time.Sleep(took)
			token.Done(nil)
		}
		if s := b.Snapshot(); s.State != breaker.Open || s.Reason != breaker.ReasonSlow {
			t.Fatalf("%+v", s)
		}
		b.Reset()
		for range 5 {
			token := allow(t, b)
			time.Sleep(time.Second - 1)
			token.Done(nil)
		}
		if s := b.Snapshot(); s.State != breaker.Closed || s.Slow != 0 || s.Calls != 5 {
			t.Fatalf("%+v", s)
		}
	})
}

type sourced struct{ error }

func (sourced) Source() string { return "a" }

func TestDone(t *testing.T) {
	for _, tt := range []struct {
		name         string
		give         error
		calls, fails int64
		opens        bool // five of them
	}{
		{"success", nil, 5, 0, false},
		{"canceled", context.Canceled, 0, 0, false},
		{"canceled inside", fmt.Errorf("call: %w", context.Canceled), 0, 0, false},
		{"deadline", context.DeadlineExceeded, 0, 0, true},
		{"plain", errDown, 0, 0, true},
		{"one source", fmt.Errorf("call: %w", sourced{errDown}), 5, 5, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBreaker(t, breaker.Config{})
				for range 5 {
					allow(t, b).Done(tt.give)
				}
				s := b.Snapshot()
				if open := s.State == breaker.Open; open != tt.opens || s.Calls != tt.calls || s.Failures != tt.fails {
					t.Fatalf("%+v", s)
				}
			})
		})
	}
}

func TestAdmit(t *testing.T) {
	b := newBreaker(t, breaker.Config{ConsecutiveFailures: 2})
	done, err := b.Admit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 9 {
		done(errDown) // one call, one failure
	}
	wantState(t, b, breaker.Closed)
	if done, err = b.Admit(t.Context()); err != nil {
		t.Fatal(err)
	}
	done(errDown)
	wantState(t, b, breaker.Open)
	if done, err = b.Admit(t.Context()); done != nil || !errors.Is(err, breaker.ErrOpen) {
		t.Fatalf("done %v, err %v", done != nil, err)
	}
}

func TestForced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, breaker.Config{})
		early := allow(t, b)
		b.ForceClosed()
		gen := b.Snapshot().Generation
		b.ForceClosed()
		for range 100 {
			token := allow(t, b)
			token.Done(errDown)
			early.Done(errDown)
		}
		if s := b.Snapshot(); s.State != breaker.ForcedClosed || s.Generation != gen || s.Calls != 0 || s.Consecutive != 0 {
			t.Fatalf("%+v", s)
		}
		b.ForceOpen()
		refused(t, b)
		time.Sleep(24 * time.Hour)
		refused(t, b)
		if got := b.RetryAfter(time.Now()); got != 0 {
			t.Fatalf("RetryAfter %v while forced", got)
		}
		early.Done(nil)
		b.Reset()
		if s := b.Snapshot(); s.State != breaker.Closed || s.Calls != 0 || s.Trips != 0 || s.Generation != 4 {
			t.Fatalf("%+v", s)
		}
		end(t, b, 5, failure)
		wantState(t, b, breaker.Open)
	})
}

func TestResetForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, breaker.Config{})
		late := allow(t, b)
		end(t, b, 4, failure)
		b.Reset()
		late.Done(errDown) // belongs to before
		if s := b.Snapshot(); s.Calls != 0 || s.Consecutive != 0 || s.Generation != 2 {
			t.Fatalf("%+v", s)
		}
		end(t, b, 4, failure)
		wantState(t, b, breaker.Closed)
	})
}

func TestZeroToken(t *testing.T) {
	var token breaker.Token
	token.Done(nil)
	token.Done(errDown)
	token.End(time.Now(), failure)
	if token.Probe() {
		t.Fatal("a zero token is no probe")
	}
}

// stepWall returns t as it would have been read had the wall clock been set by d in the meantime: the
// monotonic part stays. There is no other way to make such a value without setting the machine's clock.
func stepWall(t time.Time, d time.Duration) time.Time {
	const secondShift = 30 // layout of time.Time with a monotonic reading
	*(*uint64)(unsafe.Pointer(&t)) += uint64(int64(d/time.Second)) << secondShift
	return t
}

func TestWallClockMovesNothing(t *testing.T) {
	base := time.Now()
	if moved := stepWall(base, -time.Hour); moved.Sub(base) != 0 || moved.Round(0).Sub(base.Round(0)) != -time.Hour {
		t.Fatal("stepWall does not know the layout of time.Time any more")
	}
	for _, step := range []time.Duration{-1000 * time.Hour, 1000 * time.Hour} {
		b := newBreaker(t, noJitter(breaker.Config{ConsecutiveFailures: 3, OpenTime: time.Minute, MinimumCalls: 3, SlowRatio: 1, SlowAfter: time.Second}))
		start := time.Now()
		at := func(d time.Duration) time.Time { return stepWall(start.Add(d), step) }
		for i := range 3 {
			wantState(t, b, breaker.Closed)
			token, err := b.AllowAt(start)
			if err != nil {
				t.Fatal(i, err)
			}
			token.End(at(0), failure)
		}
		wantState(t, b, breaker.Open)
		if _, err := b.AllowAt(at(time.Minute - 1)); err == nil {
			t.Fatalf("step %v: admitted too early", step)
		}
		if got := b.RetryAfter(start.Add(time.Second)); got != 59*time.Second {
			t.Fatalf("step %v: RetryAfter %v", step, got)
		}
		probe, err := b.AllowAt(start.Add(time.Minute))
		if err != nil {
			t.Fatalf("step %v: %v", step, err)
		}
		if _, err := b.AllowAt(at(2*time.Minute - 1)); err == nil {
			t.Fatalf("step %v: slot freed too early", step)
		}
		probe.End(at(time.Minute), breaker.Outcome{}) // not slow
		wantState(t, b, breaker.HalfOpen)
	}
}

// TestSuccessesRace holds the lock-free path against changes of state: no success of an old generation may
// be seen in a new one.
func TestSuccessesRace(t *testing.T) {
	b := newBreaker(t, breaker.Config{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 2000 {
				if token, err := b.Allow(); err == nil {
					token.Done(nil)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 500 {
			switch i % 4 {
			case 0:
				b.ForceOpen()
			case 1:
				b.ForceClosed()
			case 2:
				b.Reset()
			default:
				_ = b.Update(breaker.Config{Buckets: 1 + i%50})
				_ = b.Snapshot()
			}
		}
	})
	wg.Wait()
	b.Reset()
	if s := b.Snapshot(); s.Calls != 0 || s.Generation == 1 {
		t.Fatalf("%+v", s)
	}
}

// TestFailuresRace: however many failures arrive together, they open the breaker once.
func TestFailuresRace(t *testing.T) {
	for range 200 {
		b := newBreaker(t, breaker.Config{ConsecutiveFailures: 1, FailureRatio: -1})
		start := make(chan struct{})
		var wg sync.WaitGroup
		for range 16 {
			token := allow(t, b)
			wg.Go(func() {
				<-start
				token.Done(errDown)
			})
		}
		close(start)
		wg.Wait()
		if s := b.Snapshot(); s.State != breaker.Open || s.Trips != 1 || s.Generation != 2 {
			t.Fatalf("%+v", s)
		}
	}
}
