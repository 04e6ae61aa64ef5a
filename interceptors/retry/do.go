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

// RetryIf says which errors are retried. Default, also for nil: all but [context.Canceled]. Errors marked
// [Permanent], and any error once the context of Do has ended, are not retried whatever f says.
func RetryIf(f func(error) bool) Option { return func(d *doing) { d.retry = f } }

// WithRandom replaces the source of jitter, numbers in [0, 1). Default, also for nil: math/rand/v2.
func WithRandom(f func() float64) Option { return func(d *doing) { d.random = f } }

// permanent marks an error that is not retried.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks an error as one that is not retried; [Do] returns it unmarked. If it is wrapped after it was
// marked, Do returns the wrapping error. Nil stays nil.
func Permanent(err error) error {
	if _, marked := err.(permanent); marked || err == nil { //nolint:errorlint // only the mark itself
		return err
	}
	return permanent{err}
}

// notCanceled is the default of [RetryIf]. A deadline that ran out while the context of Do has time left was
// that of one attempt, which is a reason to make another.
func notCanceled(err error) bool { return !errors.Is(err, context.Canceled) }

// Do calls fn until it succeeds or there is a reason to stop, and returns nil or fn's last error as it is. fn
// is called at least once, unless cfg is not valid. It never sleeps past ctx's deadline: where the next
// attempt could not start before it, the last error is returned at once. If ctx is canceled between two
// attempts, the error is both the last one and ctx's, for [errors.Is] and [errors.As]. A panic of fn passes
// through.
//
// cfg needs no defaults filled in. Whether fn may be repeated at all, only its author knows.
func Do(ctx context.Context, cfg Config, fn func(ctx context.Context) error, opts ...Option) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("retry: %w", err)
	}
	var d doing
	for _, o := range opts {
		o(&d)
	}
	if d.retry == nil {
		d.retry = notCanceled
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
		if _, marked := errors.AsType[permanent](err); marked {
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
			return fmt.Errorf("%w (%w before the next attempt)", err, cause)
		}
	}
}

// sleep waits, and returns ctx's error if that has ended by then: of two that come at the same instant, the
// cancel counts.
func sleep(ctx context.Context, wait time.Duration) error {
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}
