package retry_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcsteady/steady/interceptors/retry"
)

func start(cfg retry.Config, now time.Time) retry.Sequence {
	cfg = cfg.WithDefaults()
	return cfg.Start(now)
}

// TestSequenceOrder gives each reason to stop together with all that come after it.
func TestSequenceOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		order := []retry.Stop{
			retry.StopPermanent, retry.StopAttempts, retry.StopPushback, retry.StopDeadline, retry.StopElapsed, retry.StopBudget,
		}
		for i, want := range append(order, retry.Go) {
			active := func(s retry.Stop) bool { return slices.Index(order, s) >= i }
			cfg := retry.Config{MaxElapsed: time.Hour, InitialBackoff: time.Second, Jitter: retry.NoJitter}
			f := retry.Failed{Now: now, Retryable: !active(retry.StopPermanent), Deadline: now.Add(2 * time.Second)}
			if active(retry.StopAttempts) {
				cfg.MaxAttempts = 1
			}
			f.Pushback = retry.Pushback{Set: active(retry.StopPushback), Stop: active(retry.StopPushback)}
			if active(retry.StopDeadline) {
				f.Deadline = now.Add(time.Second)
			}
			if active(retry.StopElapsed) {
				cfg.MaxElapsed = 500 * ms
			}
			f.Budget = newBudget(t, retry.BudgetConfig{})
			if !active(retry.StopBudget) {
				f.Budget.Deposit(now)
			}
			before := f.Budget.Snapshot(now)
			seq := start(cfg, now)
			wait, got := seq.Next(f)
			if got != want {
				t.Errorf("reason %d: stopped by %q, want %q", i, got, want)
			}
			after := f.Budget.Snapshot(now)
			switch {
			case want == retry.Go:
				if wait != time.Second || seq.Attempts() != 2 || after.Retries != 1 {
					t.Errorf("went after %v, %d attempts, budget %+v", wait, seq.Attempts(), after)
				}
			case wait != 0 || seq.Attempts() != 1:
				t.Errorf("%q: wait %v, %d attempts, want none and 1", got, wait, seq.Attempts())
			case want != retry.StopBudget && after != before:
				t.Errorf("%q: the budget went from %+v to %+v", got, before, after)
			}
		}
	})
}

func TestSequenceLimits(t *testing.T) {
	flat := retry.Config{InitialBackoff: time.Second, Jitter: retry.NoJitter, MaxElapsed: -1}
	elapsed := flat
	elapsed.MaxElapsed = 10 * time.Second
	said := func(d time.Duration) retry.Pushback { return retry.Pushback{Set: true, Wait: d} }
	for _, tt := range []struct {
		name     string
		cfg      retry.Config
		at       time.Duration // since the start
		deadline time.Duration // since the start; 0: none
		need     time.Duration
		pushback retry.Pushback
		wait     time.Duration
		stop     retry.Stop
	}{
		{name: "no limit", cfg: flat, at: 1000 * time.Hour, wait: time.Second},
		{name: "a nanosecond left", cfg: flat, deadline: time.Second + 1, wait: time.Second},
		{name: "starts at the deadline", cfg: flat, deadline: time.Second, stop: retry.StopDeadline},
		{name: "deadline has passed", cfg: flat, at: time.Minute, deadline: time.Second, stop: retry.StopDeadline},
		{name: "fits", cfg: flat, deadline: 2 * time.Second, need: time.Second - 1, wait: time.Second},
		{name: "would end at the deadline", cfg: flat, deadline: 2 * time.Second, need: time.Second, stop: retry.StopDeadline},
		{name: "need without deadline", cfg: flat, need: time.Hour, wait: time.Second},
		{name: "starts with max elapsed", cfg: elapsed, at: 9 * time.Second, wait: time.Second},
		{name: "starts after max elapsed", cfg: elapsed, at: 9*time.Second + 1, stop: retry.StopElapsed},
		{name: "need does not count for max elapsed", cfg: elapsed, at: 9 * time.Second, need: time.Hour, wait: time.Second},

		{name: "pushback at once", cfg: flat, pushback: said(0), wait: 0},
		{name: "pushback, shorter than the backoff", cfg: flat, pushback: said(ms), wait: ms},
		{name: "pushback, above the cap", cfg: flat, pushback: said(time.Hour), wait: time.Hour},
		{name: "pushback beyond the deadline", cfg: flat, deadline: 5 * time.Second, pushback: said(5 * time.Second), stop: retry.StopDeadline},
		{name: "pushback beyond max elapsed", cfg: elapsed, pushback: said(time.Minute), stop: retry.StopElapsed},
		{name: "pushback says stop", cfg: flat, pushback: retry.Pushback{Set: true, Stop: true}, stop: retry.StopPushback},
		{name: "stop beats wait", cfg: flat, pushback: retry.Pushback{Set: true, Stop: true, Wait: ms}, stop: retry.StopPushback},
		{name: "stop counts even if not marked as set", cfg: flat, pushback: retry.Pushback{Stop: true}, stop: retry.StopPushback},
		{name: "a negative wait is a stop", cfg: flat, pushback: said(-1), stop: retry.StopPushback},
		{name: "a day", cfg: flat, pushback: said(24 * time.Hour), wait: 24 * time.Hour},
		{name: "for ever is a stop", cfg: flat, pushback: said(math.MaxInt64), stop: retry.StopPushback},
		{name: "a wait that is not set means nothing", cfg: flat, pushback: retry.Pushback{Wait: time.Hour}, wait: time.Second},
		{name: "need for ever", cfg: flat, deadline: time.Hour, need: math.MaxInt64, stop: retry.StopDeadline},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				seq := start(tt.cfg, begin)
				f := retry.Failed{Now: begin.Add(tt.at), Retryable: true, Need: tt.need, Pushback: tt.pushback}
				if tt.deadline > 0 {
					f.Deadline = begin.Add(tt.deadline)
				}
				if wait, stop := seq.Next(f); wait != tt.wait || stop != tt.stop {
					t.Errorf("%v, %q; want %v, %q", wait, stop, tt.wait, tt.stop)
				}
			})
		})
	}
}

// TestSequencePushbackResets checks that the backoff after a pushback begins anew, in the exponent and in the
// memory of the decorrelated jitter.
func TestSequencePushbackResets(t *testing.T) {
	for jitter, want := range map[retry.Jitter][]time.Duration{
		retry.NoJitter:           {100 * ms, 200 * ms, 7 * ms, 100 * ms},
		retry.DecorrelatedJitter: {200 * ms, 350 * ms, 7 * ms, 200 * ms},
	} {
		seq := start(retry.Config{MaxAttempts: 5, InitialBackoff: 100 * ms, Jitter: jitter}, time.Now())
		for i, w := range want {
			f := retry.Failed{Now: time.Now(), Retryable: true, Random: always(0.5)}
			if i == 2 {
				f.Pushback = retry.ParsePushback([]string{"7"})
			}
			if wait, stop := seq.Next(f); wait != w || stop != retry.Go {
				t.Errorf("%v, retry %d: %v, %q; want %v", jitter, i+1, wait, stop, w)
			}
			if got := seq.Attempts(); got != i+2 {
				t.Errorf("%v: %d attempts, want %d", jitter, got, i+2)
			}
		}
	}
}

func TestSequenceIsAValue(t *testing.T) {
	now := time.Now()
	seq := start(retry.Config{MaxAttempts: 2}, now)
	fork := seq
	f := retry.Failed{Now: now, Retryable: true}
	if _, stop := seq.Next(f); stop != retry.Go {
		t.Fatal(stop)
	}
	if fork.Attempts() != 1 || seq.Attempts() != 2 {
		t.Errorf("%d attempts of the copy, %d of the original", fork.Attempts(), seq.Attempts())
	}
	var zero retry.Sequence
	if _, stop := zero.Next(f); stop != retry.StopAttempts || zero.Attempts() != 0 {
		t.Errorf("zero: %q after %d attempts", stop, zero.Attempts())
	}
	var unfilled retry.Config
	empty := unfilled.Start(now)
	if _, stop := empty.Next(f); stop != retry.StopAttempts {
		t.Errorf("without defaults: %q", stop)
	}
}

// TestSequenceProperties runs random calls: what Next allows never breaks a limit.
func TestSequenceProperties(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 4))
	went := 0
	for range 20_000 {
		cfg := retry.Config{
			MaxAttempts: 1 + random.IntN(5), InitialBackoff: ms * time.Duration(1+random.IntN(500)),
			Multiplier: 1 + 9*random.Float64(), Jitter: retry.Jitter(random.IntN(4)), MaxElapsed: -1,
		}.WithDefaults()
		if random.IntN(2) == 0 {
			cfg.MaxElapsed = ms * time.Duration(1+random.IntN(5000))
		}
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		now := begin
		f := retry.Failed{Random: random.Float64, Need: time.Duration(random.Int64N(int64(100 * ms)))}
		if random.IntN(2) == 0 {
			f.Deadline = begin.Add(time.Duration(random.Int64N(int64(5 * time.Second))))
		}
		seq := cfg.Start(begin)
		for made := 1; ; made++ {
			if seq.Attempts() != made || made > cfg.MaxAttempts {
				t.Fatalf("%+v: %d attempts, counted %d", cfg, made, seq.Attempts())
			}
			now = now.Add(time.Duration(random.Int64N(int64(300 * ms))))
			f.Now, f.Retryable = now, random.IntN(10) > 0
			wait, stop := seq.Next(f)
			if stop != retry.Go {
				break
			}
			went++
			now = now.Add(wait)
			switch {
			case !f.Retryable:
				t.Fatal("retried what must not be")
			case wait < 0 || wait > cfg.MaxBackoff:
				t.Fatalf("%+v: wait %v", cfg, wait)
			case !f.Deadline.IsZero() && !now.Add(f.Need).Before(f.Deadline):
				t.Fatalf("%+v: starts %v before the deadline, needs %v", cfg, f.Deadline.Sub(now), f.Need)
			case cfg.MaxElapsed > 0 && now.Sub(begin) > cfg.MaxElapsed:
				t.Fatalf("%+v: starts after %v", cfg, now.Sub(begin))
			}
		}
	}
	if went < 10_000 {
		t.Errorf("only %d retries: the test has lost its subject", went)
	}
}

func TestStopString(t *testing.T) {
	for stop, want := range map[retry.Stop]string{
		retry.Go: "", retry.StopPermanent: "not retryable", retry.StopAttempts: "attempts", retry.StopElapsed: "max elapsed",
		retry.StopBudget: "budget", retry.StopPushback: "pushback", retry.StopDeadline: "deadline", retry.StopCanceled: "canceled",
		retry.StopRefused: "refused", 77: "Stop(77)",
	} {
		if got := stop.String(); got != want {
			t.Errorf("%d: %q, want %q", uint8(stop), got, want)
		}
	}
}
