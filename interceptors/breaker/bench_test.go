package breaker_test

import (
	"errors"
	"testing"
	"time"

	"github.com/grpcsteady/steady/interceptors/breaker"
)

var errDown = errors.New("down")

func TestAllocatesNothing(t *testing.T) {
	closed := newBreaker(t, breaker.Config{})
	slow := newBreaker(t, breaker.Config{SlowRatio: 1, SlowAfter: time.Hour})
	open := newBreaker(t, breaker.Config{ConsecutiveFailures: 1, OpenTime: time.Hour})
	end(t, open, 1, failure)
	forced := newBreaker(t, breaker.Config{})
	forced.ForceOpen()
	failing := newBreaker(t, breaker.Config{ConsecutiveFailures: -1, FailureRatio: -1})
	full := newBreaker(t, breaker.Config{ConsecutiveFailures: 1, OpenTime: time.Hour})
	end(t, full, 1, failure)
	later := time.Now().Add(3 * time.Hour)
	if _, err := full.AllowAt(later); err != nil {
		t.Fatal(err)
	}
	for name, run := range map[string]func(){
		"Allow and Done": func() {
			token, _ := closed.Allow()
			token.Done(nil)
		},
		"AllowAt and End": func() {
			now := time.Now()
			token, _ := closed.AllowAt(now)
			token.End(now, breaker.Outcome{})
		},
		"with the slow rule": func() {
			token, _ := slow.Allow()
			token.Done(nil)
		},
		"failure": func() {
			token, _ := failing.Allow()
			token.End(time.Now(), failure)
		},
		"failure by Done": func() {
			token, _ := failing.Allow()
			token.Done(errDown)
		},
		"refused while open":           func() { _, _ = open.Allow() },
		"refused while forced open":    func() { _, _ = forced.Allow() },
		"refused while probes are out": func() { _, _ = full.AllowAt(later) },
	} {
		if n := testing.AllocsPerRun(1000, run); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkAllowDone(b *testing.B) {
	br := newBreaker(b, breaker.Config{})
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			token, _ := br.Allow()
			token.Done(nil)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				token, _ := br.Allow()
				token.Done(nil)
			}
		})
	})
}

// BenchmarkAllowAtEnd is the breaker's share when the driver reads the clock anyway.
func BenchmarkAllowAtEnd(b *testing.B) {
	br := newBreaker(b, breaker.Config{})
	now := time.Now()
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			token, _ := br.AllowAt(now)
			token.End(now, breaker.Outcome{})
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				token, _ := br.AllowAt(now)
				token.End(now, breaker.Outcome{})
			}
		})
	})
}

func BenchmarkSlowRule(b *testing.B) {
	br := newBreaker(b, breaker.Config{SlowRatio: 0.5, SlowAfter: time.Second})
	b.ReportAllocs()
	for b.Loop() {
		token, _ := br.Allow()
		token.Done(nil)
	}
}

// BenchmarkFailure pays for the lock and the sum of the window, with a success beside each failure so that
// the breaker stays closed.
func BenchmarkFailure(b *testing.B) {
	br := newBreaker(b, breaker.Config{ConsecutiveFailures: -1, FailureRatio: 1})
	end(b, br, 1, breaker.Outcome{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			token, _ := br.Allow()
			token.Done(nil)
			token, _ = br.Allow()
			token.Done(errDown)
		}
	})
}

func BenchmarkRefused(b *testing.B) {
	br := newBreaker(b, breaker.Config{ConsecutiveFailures: 1, OpenTime: time.Hour})
	end(b, br, 1, failure)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, _ = br.Allow()
		}
	})
}
