package retry_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcsteady/steady/interceptors/retry"
)

var errDown = errors.New("down")

// record is a function for Do that fails, and remembers when it was called.
type record struct {
	start time.Time
	at    []time.Duration
	fail  func(ctx context.Context, n int) error // n = 1 for the first call
}

func failing(fail func(ctx context.Context, n int) error) *record {
	return &record{start: time.Now(), fail: fail}
}

func (r *record) call(ctx context.Context) error {
	r.at = append(r.at, time.Since(r.start))
	return r.fail(ctx, len(r.at))
}

func down(context.Context, int) error { return errDown }

func (r *record) want(t *testing.T, want ...time.Duration) {
	t.Helper()
	if !slices.Equal(r.at, want) {
		t.Errorf("called at %v, want %v", r.at, want)
	}
}

func TestDoSchedules(t *testing.T) {
	for jitter, want := range map[retry.Jitter][]time.Duration{
		retry.FullJitter:         {0, 50 * ms, 150 * ms, 350 * ms, 550 * ms},
		retry.EqualJitter:        {0, 75 * ms, 225 * ms, 525 * ms, 825 * ms},
		retry.DecorrelatedJitter: {0, 200 * ms, 550 * ms, 950 * ms, 1350 * ms},
		retry.NoJitter:           {0, 100 * ms, 300 * ms, 700 * ms, 1100 * ms},
	} {
		t.Run(jitter.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := failing(down)
				cfg := retry.Config{MaxAttempts: 5, InitialBackoff: 100 * ms, MaxBackoff: 400 * ms, Jitter: jitter}
				if err := retry.Do(t.Context(), cfg, r.call, retry.WithRandom(always(0.5))); err != errDown { //nolint:errorlint // the very error of fn
					t.Errorf("%v", err)
				}
				r.want(t, want...)
				if took := time.Since(r.start); took != want[len(want)-1] {
					t.Errorf("took %v, want to end with the last attempt", took)
				}
			})
		})
	}
}

func TestDo(t *testing.T) {
	second := retry.Config{MaxAttempts: 4, InitialBackoff: time.Second, MaxBackoff: time.Second, Jitter: retry.NoJitter}
	wrapped := fmt.Errorf("send: %w", errDown)
	for _, tt := range []struct {
		name string
		cfg  retry.Config
		opts []retry.Option
		fail func(ctx context.Context, n int) error
		want error // the very value
		at   []time.Duration
	}{
		{"success at once", second, nil, func(context.Context, int) error { return nil }, nil, []time.Duration{0}},
		{"success in the end", second, nil, func(_ context.Context, n int) error {
			if n < 3 {
				return errDown
			}
			return nil
		}, nil, []time.Duration{0, time.Second, 2 * time.Second}},
		{"the last error, not the first", second, nil, func(_ context.Context, n int) error {
			if n == 4 {
				return wrapped
			}
			return errDown
		}, wrapped, []time.Duration{0, time.Second, 2 * time.Second, 3 * time.Second}},
		{"zero config", retry.Config{}, []retry.Option{retry.WithRandom(always(0))}, down, errDown, []time.Duration{0, 0, 0}},
		{"nil options are defaults", retry.Config{MaxAttempts: 2, InitialBackoff: ms, Jitter: retry.NoJitter}, []retry.Option{retry.WithRandom(nil), retry.RetryIf(nil), retry.WithBudget(nil)}, down, errDown, []time.Duration{0, ms}},
		{"permanent", second, nil, func(context.Context, int) error { return retry.Permanent(errDown) }, errDown, []time.Duration{0}},
		{"permanent twice", second, nil, func(context.Context, int) error { return retry.Permanent(retry.Permanent(errDown)) }, errDown, []time.Duration{0}},
		{"permanent beats RetryIf", second, []retry.Option{retry.RetryIf(func(error) bool { return true })}, func(context.Context, int) error { return retry.Permanent(wrapped) }, wrapped, []time.Duration{0}},
		{"permanent, the second time", second, nil, func(_ context.Context, n int) error {
			if n == 2 {
				return retry.Permanent(wrapped)
			}
			return errDown
		}, wrapped, []time.Duration{0, time.Second}},
		{"RetryIf says no", second, []retry.Option{retry.RetryIf(func(err error) bool { return !errors.Is(err, errDown) })}, func(context.Context, int) error { return wrapped }, wrapped, []time.Duration{0}},
		{"a cancel of fn's own is not retried", second, nil, func(context.Context, int) error { return context.Canceled }, context.Canceled, []time.Duration{0}},
		{"unless RetryIf says so", second, []retry.Option{retry.RetryIf(func(error) bool { return true })}, func(_ context.Context, n int) error {
			if n < 2 {
				return context.Canceled
			}
			return nil
		}, nil, []time.Duration{0, time.Second}},
		{"max elapsed", retry.Config{MaxAttempts: 4, InitialBackoff: time.Second, Jitter: retry.NoJitter, MaxElapsed: 1500 * ms}, nil, down, errDown, []time.Duration{0, time.Second}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := failing(tt.fail)
				if err := retry.Do(t.Context(), tt.cfg, r.call, tt.opts...); err != tt.want { //nolint:errorlint // the very error of fn
					t.Errorf("%#v, want %#v", err, tt.want)
				}
				r.want(t, tt.at...)
				if took := time.Since(r.start); took != tt.at[len(tt.at)-1] {
					t.Errorf("took %v, want to end with the last attempt", took)
				}
			})
		})
	}
}

func TestDoPermanent(t *testing.T) {
	if err := retry.Permanent(nil); err != nil {
		t.Errorf("nil became %v", err)
	}
	if err := retry.Permanent(errDown); !errors.Is(err, errDown) || err.Error() != "down" {
		t.Errorf("%v hides the error", err)
	}
	// What was wrapped after it was marked comes back with its wrapping.
	n := 0
	err := retry.Do(t.Context(), retry.Config{}, func(context.Context) error {
		n++
		return fmt.Errorf("order 7: %w", retry.Permanent(errDown))
	})
	if n != 1 || !errors.Is(err, errDown) || err.Error() != "order 7: down" {
		t.Errorf("%v after %d calls", err, n)
	}
}

func TestDoConfig(t *testing.T) {
	err := retry.Do(t.Context(), retry.Config{MaxAttempts: 9}, func(context.Context) error {
		t.Error("called")
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "MaxAttempts: 9, want 1 to 5") {
		t.Errorf("%v", err)
	}
}

// TestDoNeverSleepsPastTheDeadline checks that the last real error comes back at once, and not the deadline's
// after having slept to it.
func TestDoNeverSleepsPastTheDeadline(t *testing.T) {
	for _, tt := range []struct {
		name    string
		timeout time.Duration
		at      []time.Duration
	}{
		{"before the first wait", time.Second, []time.Duration{0}},
		{"before the second", 2500 * ms, []time.Duration{0, time.Second}},
		{"room for the second", 3*time.Second + 1, []time.Duration{0, time.Second, 3 * time.Second}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
				defer cancel()
				r := failing(down)
				cfg := retry.Config{InitialBackoff: time.Second, MaxBackoff: time.Minute, Jitter: retry.NoJitter}
				if err := retry.Do(ctx, cfg, r.call); err != errDown { //nolint:errorlint // the very error of fn
					t.Errorf("%v, want the last error of fn", err)
				}
				r.want(t, tt.at...)
				if took := time.Since(r.start); took != tt.at[len(tt.at)-1] {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestDoAttemptTimeout(t *testing.T) {
	attempt := func(ctx context.Context, _ int) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	cfg := retry.Config{InitialBackoff: ms, Jitter: retry.NoJitter}
	t.Run("of the attempt is retried", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := failing(attempt)
			if err := retry.Do(t.Context(), cfg, r.call); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
			r.want(t, 0, 1001*ms, 2003*ms)
		})
	})
	t.Run("of the call is not", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 500*ms)
			defer cancel()
			r := failing(attempt)
			if err := retry.Do(ctx, cfg, r.call); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
			r.want(t, 0)
		})
	})
}

func TestDoCancel(t *testing.T) {
	cfg := retry.Config{MaxAttempts: 5, InitialBackoff: time.Second, MaxBackoff: time.Second, Jitter: retry.NoJitter}
	both := func(t *testing.T, err error) {
		t.Helper()
		if !errors.Is(err, errDown) || !errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the last error and the cancel", err)
		}
		if err.Error() != "down (context canceled before the next attempt)" {
			t.Errorf("text %q", err)
		}
	}
	t.Run("during a wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(1300*ms, cancel)
			r := failing(down)
			both(t, retry.Do(ctx, cfg, r.call))
			r.want(t, 0, time.Second)
			if took := time.Since(r.start); took != 1300*ms {
				t.Errorf("took %v, want to end with the cancel", took)
			}
		})
	})
	t.Run("at the instant a wait ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx := unheard{t.Context(), time.Now().Add(2 * time.Second)}
			r := failing(down)
			both(t, retry.Do(ctx, cfg, r.call))
			r.want(t, 0, time.Second)
		})
	})
	t.Run("during an attempt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			r := failing(func(context.Context, int) error { cancel(); return errDown })
			if err := retry.Do(ctx, cfg, r.call); err != errDown { //nolint:errorlint // the very error of fn
				t.Errorf("%v", err)
			}
			r.want(t, 0)
		})
	})
	t.Run("before the call, fn decides", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			r := failing(func(ctx context.Context, _ int) error { return ctx.Err() })
			if err := retry.Do(ctx, cfg, r.call); err != context.Canceled { //nolint:errorlint // the very error of ctx
				t.Errorf("%v", err)
			}
			r.want(t, 0)
		})
	})
}

// unheard is canceled at an instant, without its channel saying so: what a select sees that has taken the other
// of two events.
type unheard struct {
	context.Context
	at time.Time
}

func (unheard) Done() <-chan struct{} { return nil }

func (u unheard) Err() error {
	if time.Now().Before(u.at) {
		return nil
	}
	return context.Canceled
}

func TestDoBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(t, retry.BudgetConfig{MinPerSecond: -1})
		cfg := retry.Config{InitialBackoff: ms, Jitter: retry.NoJitter}
		calls := 0
		for range 50 {
			err := retry.Do(t.Context(), cfg, func(context.Context) error { calls++; return errDown }, retry.WithBudget(b))
			if err != errDown { //nolint:errorlint // the very error of fn
				t.Fatal(err)
			}
		}
		if s := b.Snapshot(time.Now()); calls != 60 || s.Calls != 50 || s.Retries != 10 || s.Left != 0 {
			t.Errorf("%d attempts of 50 calls, %+v; want a fifth more", calls, s)
		}
		// Success and a permanent error are calls, and spend nothing.
		for _, end := range []error{nil, retry.Permanent(errDown)} {
			if err := retry.Do(t.Context(), cfg, func(context.Context) error { return end }, retry.WithBudget(b)); (err == nil) != (end == nil) {
				t.Error(err)
			}
		}
		if s := b.Snapshot(time.Now()); s.Calls != 52 || s.Retries != 10 {
			t.Errorf("%+v", s)
		}
	})
}

func TestDoPanicAndGoexit(t *testing.T) {
	func() {
		defer func() {
			if got := recover(); got != "boom" {
				t.Errorf("recovered %v, want fn's own panic", got)
			}
		}()
		_ = retry.Do(t.Context(), retry.Config{}, func(context.Context) error { panic("boom") })
		t.Error("returned")
	}()
	ended := make(chan bool)
	go func() {
		defer close(ended)
		_ = retry.Do(t.Context(), retry.Config{}, func(context.Context) error { runtime.Goexit(); return nil })
		t.Error("returned")
	}()
	<-ended
}
