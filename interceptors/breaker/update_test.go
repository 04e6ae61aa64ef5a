package breaker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcsteady/steady/interceptors/breaker"
)

func TestUpdateMemory(t *testing.T) {
	base := noJitter(breaker.Config{ConsecutiveFailures: 10, FailureRatio: -1})
	with := func(change func(*breaker.Config)) breaker.Config {
		c := base
		change(&c)
		return c
	}
	for _, tt := range []struct {
		name               string
		to                 breaker.Config
		calls, consecutive int64
		opens              bool // at the next failure
	}{
		{"same", base, 9, 9, true},
		{"lower threshold decides nothing at once", with(func(c *breaker.Config) { c.ConsecutiveFailures = 3 }), 9, 9, true},
		{"higher threshold", with(func(c *breaker.Config) { c.ConsecutiveFailures = 11 }), 9, 9, false},
		{"ratio on", with(func(c *breaker.Config) { c.ConsecutiveFailures, c.FailureRatio, c.MinimumCalls = -1, 1, 10 }), 9, 9, true},
		{"window empties the window only", with(func(c *breaker.Config) { c.Window = time.Minute }), 0, 9, true},
		{"buckets empty the window", with(func(c *breaker.Config) {
			c.Buckets, c.ConsecutiveFailures, c.FailureRatio, c.MinimumCalls = 5, -1, 1, 2
		}), 0, 9, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBreaker(t, base)
				inFlight := allow(t, b)
				end(t, b, 9, failure)
				if err := b.Update(tt.to); err != nil {
					t.Fatal(err)
				}
				if s := b.Snapshot(); s.State != breaker.Closed || s.Generation != 1 || s.Calls != tt.calls || s.Consecutive != tt.consecutive {
					t.Fatalf("%+v", s)
				}
				inFlight.Done(errDown) // admitted before the change, counts after it
				if s := b.Snapshot(); (s.State == breaker.Open) != tt.opens {
					t.Fatalf("%+v", s)
				}
			})
		})
	}
}

func TestUpdateRefusedChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, breaker.Config{})
		end(t, b, 4, failure)
		if err := b.Update(breaker.Config{ConsecutiveFailures: 1, Window: time.Minute, Probes: -3}); err == nil {
			t.Fatal("accepted")
		}
		if s := b.Snapshot(); s.Calls != 4 {
			t.Fatalf("%+v", s)
		}
		end(t, b, 1, failure)
		wantState(t, b, breaker.Open)
	})
}

func TestUpdateSwitchesTheSlowRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, breaker.Config{})
		unmeasured := allow(t, b)
		on := breaker.Config{SlowRatio: 0.5, SlowAfter: time.Second, MinimumCalls: 1}
		if err := b.Update(on); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		unmeasured.Done(nil) // nobody read the clock when it began
		wantState(t, b, breaker.Closed)
		measured := allow(t, b)
		time.Sleep(time.Second)
		if err := b.Update(breaker.Config{}); err != nil {
			t.Fatal(err)
		}
		measured.Done(nil)
		wantState(t, b, breaker.Closed)
		if err := b.Update(on); err != nil {
			t.Fatal(err)
		}
		end(t, b, 2, breaker.Outcome{Duration: time.Second})
		wantState(t, b, breaker.Open)
	})
}

func TestUpdateWhileHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := noJitter(breaker.Config{Successes: 5})
		b := tripped(t, cfg)
		time.Sleep(5 * time.Second)
		first := allow(t, b)
		refused(t, b)
		cfg.Probes = 3
		if err := b.Update(cfg); err != nil {
			t.Fatal(err)
		}
		second, third := allow(t, b), allow(t, b)
		refused(t, b)
		cfg.Probes = 2
		if err := b.Update(cfg); err != nil {
			t.Fatal(err)
		}
		first.Done(nil)
		refused(t, b) // two are still under way
		second.Done(nil)
		cfg.Successes = 2
		if err := b.Update(cfg); err != nil {
			t.Fatal(err)
		}
		wantState(t, b, breaker.HalfOpen) // decided with the next result
		third.Done(nil)
		wantState(t, b, breaker.Closed)
	})
}

func TestUpdateWhileOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := noJitter(breaker.Config{})
		b := tripped(t, cfg)
		cfg.OpenTime, cfg.OpenMultiplier = time.Second, 3
		if err := b.Update(cfg); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5*time.Second - 1)
		refused(t, b) // this open time was set when it opened
		time.Sleep(1)
		allow(t, b).Done(errDown)
		if got := b.RetryAfter(time.Now()); got != 3*time.Second {
			t.Fatalf("reopened for %v, want the new open time grown once", got)
		}
	})
}
