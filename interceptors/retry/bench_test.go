package retry_test

import (
	"testing"
	"time"

	"github.com/grpcsteady/steady/interceptors/retry"
)

func TestAllocatesNothing(t *testing.T) {
	cfg := retry.Config{MaxAttempts: 5, Jitter: retry.DecorrelatedJitter}.WithDefaults()
	budget := newBudget(t, retry.BudgetConfig{Ratio: 10, MaxRatio: 10})
	spent := newBudget(t, retry.BudgetConfig{})
	now := time.Now()
	values := []string{"250"}
	for name, run := range map[string]func(){
		"Deposit":      func() { budget.Deposit(now) },
		"a refusal":    func() { spent.Withdraw(now) },
		"a withdrawal": func() { budget.Deposit(now); budget.Withdraw(now) },
		"Snapshot":     func() { budget.Snapshot(now) },
		"a call that succeeds": func() {
			budget.Deposit(now)
			seq := cfg.Start(now)
			if seq.Attempts() != 1 {
				t.Error(seq.Attempts())
			}
		},
		"a call that fails five times": func() {
			budget.Deposit(now)
			seq := cfg.Start(now)
			f := retry.Failed{Now: now, Retryable: true, Budget: budget}
			for stop := retry.Go; stop == retry.Go; {
				_, stop = seq.Next(f)
			}
			if seq.Attempts() != 5 {
				t.Error(seq.Attempts())
			}
		},
		"ParsePushback": func() { retry.ParsePushback(values) },
		"Stop.String":   func() { _ = retry.StopBudget.String() },
	} {
		if n := testing.AllocsPerRun(1000, run); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// BenchmarkSuccess is what every call pays whose first attempt succeeds.
func BenchmarkSuccess(b *testing.B) {
	cfg := retry.Config{}.WithDefaults()
	budget := newBudget(b, retry.BudgetConfig{})
	now := time.Now()
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			budget.Deposit(now)
			seq := cfg.Start(now)
			if seq.Attempts() != 1 {
				b.Fatal()
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				budget.Deposit(now)
				seq := cfg.Start(now)
				if seq.Attempts() != 1 {
					b.Error()
				}
			}
		})
	})
}

// BenchmarkRetry is a failed attempt that is followed by another.
func BenchmarkRetry(b *testing.B) {
	cfg := retry.Config{}.WithDefaults()
	budget := newBudget(b, retry.BudgetConfig{Ratio: 10, MaxRatio: 10})
	now := time.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			budget.Deposit(now)
			seq := cfg.Start(now)
			if _, stop := seq.Next(retry.Failed{Now: now, Retryable: true, Budget: budget}); stop != retry.Go {
				b.Error(stop)
			}
		}
	})
}

// BenchmarkRefused is a failed attempt whose budget is spent: what an outage costs.
func BenchmarkRefused(b *testing.B) {
	cfg := retry.Config{}.WithDefaults()
	budget := newBudget(b, retry.BudgetConfig{})
	now := time.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			seq := cfg.Start(now)
			if _, stop := seq.Next(retry.Failed{Now: now, Retryable: true, Budget: budget}); stop != retry.StopBudget {
				b.Error(stop)
			}
		}
	})
}

func BenchmarkBackoff(b *testing.B) {
	cfg := retry.Config{}.WithDefaults()
	b.ReportAllocs()
	for b.Loop() {
		cfg.Backoff(2, 0, 0.5)
	}
}

func BenchmarkParsePushback(b *testing.B) {
	values := []string{"250"}
	b.ReportAllocs()
	for b.Loop() {
		retry.ParsePushback(values)
	}
}
