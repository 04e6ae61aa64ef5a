package retry

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Option changes how [Do] retries.
type Option func(*doing)

type doing struct {
	budget *Budget
	retry  func(error) bool
	random func() float64
}

// WithBudget makes the retries of Do count against a budget. Default: none.
func WithBudget(b *Budget) Option { return func(d *doing) { d.budget = b } }

// RetryIf says which errors are retried. Default: all but those of a context, and those marked [Permanent].
func RetryIf(f func(error) bool) Option { return func(d *doing) { d.retry = f } }

// WithRandom replaces the source of jitter, numbers in [0, 1). Default: math/rand/v2.
func WithRandom(f func() float64) Option { return func(d *doing) { d.random = f } }

// permanent marks an error that is not retried.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks an error as one that is not retried; Do returns it unmarked. Nil stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// Do calls fn until it succeeds or there is a reason to stop, and returns fn's last error. It never sleeps
// past ctx's deadline: where the next attempt could not start before it, the last error is returned at once.
// If ctx is canceled between two attempts, the error is both the last one and ctx's. A panic of fn passes
// through.
func Do(ctx context.Context, cfg Config, fn func(ctx context.Context) error, opts ...Option) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("retry: %w", err)
	}
	d := doing{retry: func(err error) bool {
		return !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
	}}
	for _, o := range opts {
		o(&d)
	}
	now := time.Now()
	if d.budget != nil {
		d.budget.Deposit(now)
	}
	cfg = cfg.WithDefaults()
	seq := cfg.Start(now)
	deadline, _ := ctx.Deadline()
	for {
		err := fn(ctx)
		if err == nil {
			return nil
		}
		var p permanent
		if errors.As(err, &p) {
			if direct, ok := err.(permanent); ok { //nolint:errorlint // only the mark itself is taken off
				return direct.error
			}
			return err
		}
		wait, stop := seq.Next(Failed{
			Now: time.Now(), Deadline: deadline, Retryable: ctx.Err() == nil && d.retry(err), Budget: d.budget, Random: d.random,
		})
		if stop != Go {
			return err
		}
		if cause := sleep(ctx, wait); cause != nil {
			return errors.Join(err, cause)
		}
	}
}

func sleep(ctx context.Context, wait time.Duration) error {
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
