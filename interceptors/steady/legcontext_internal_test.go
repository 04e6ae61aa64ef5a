package steady

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

type legKey struct{}

// TestLegContext: whatever is derived from the context of a leg gets its end, its reason, its values and its deadline.
func TestLegContext(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(leg *legContext, cancel context.CancelFunc)
		want error
		at   time.Duration
	}{
		{"out of time", func(leg *legContext, _ context.CancelFunc) { leg.cancel(context.DeadlineExceeded) }, context.DeadlineExceeded, 0},
		{"given up", func(leg *legContext, _ context.CancelFunc) { leg.cancel(context.Canceled) }, context.Canceled, 0},
		{"twice", func(leg *legContext, cancel context.CancelFunc) {
			leg.cancel(context.DeadlineExceeded)
			leg.cancel(context.Canceled)
			cancel()
		}, context.DeadlineExceeded, 0},
		{"the caller's cancel", func(_ *legContext, cancel context.CancelFunc) { cancel() }, context.Canceled, 0},
		{"the caller's deadline", func(*legContext, context.CancelFunc) {}, context.DeadlineExceeded, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				parent, cancel := context.WithTimeout(context.WithValue(t.Context(), legKey{}, "v"), time.Second)
				defer cancel()
				leg := newLegContext(&wire{Context: parent})
				ctx := leg.given
				if d, ok := ctx.Deadline(); !ok || d.Sub(start) != time.Second || ctx.Value(legKey{}) != "v" || ctx.Err() != nil {
					t.Fatalf("deadline %v, value %v, %v", d, ctx.Value(legKey{}), ctx.Err())
				}
				before := runtime.NumGoroutine()
				derived, cancelDerived := context.WithCancel(context.WithValue(ctx, legKey{}, "w"))
				defer cancelDerived()
				called, stopped := 0, 0
				context.AfterFunc(derived, func() { called++ })
				if stop := context.AfterFunc(ctx, func() { stopped++ }); !stop() {
					t.Error("it was not to be stopped")
				}
				if n := runtime.NumGoroutine(); n > before {
					t.Errorf("%d goroutines for a derived context", n-before)
				}
				tt.end(leg, cancel)
				<-derived.Done()
				synctest.Wait()
				if took := time.Since(start); took != tt.at {
					t.Errorf("ended after %v", took)
				}
				late, cancelLate := context.WithCancel(ctx)
				defer cancelLate()
				for name, ctx := range map[string]context.Context{"given": ctx, "derived": derived, "late": late} {
					if !errors.Is(ctx.Err(), tt.want) || !errors.Is(context.Cause(ctx), tt.want) {
						t.Errorf("%s: %v because of %v, want %v", name, ctx.Err(), context.Cause(ctx), tt.want)
					}
				}
				if !errors.Is(leg.Err(), tt.want) || called != 1 || stopped != 0 {
					t.Errorf("%v, called %d times, stopped ones %d", leg.Err(), called, stopped)
				}
			})
		})
	}
}
