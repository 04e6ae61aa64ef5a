package healthsvc

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Checker probes a dependency. Check returns nil if it can be used; it must return when ctx ends, which is
// after the check's timeout. Its error is logged and shown where details are enabled, so it should hold no
// secret. Check is never called twice at once by the same check.
//
// A Checker that also has a method Validate() error is asked by [New], which fails with what it returns.
type Checker interface {
	Check(ctx context.Context) error
}

// Func makes a Checker of a function:
//
//	healthsvc.WithCheck("cache", healthsvc.Func(func(ctx context.Context) error { return client.Ping(ctx).Err() }))
type Func func(ctx context.Context) error

// Check calls the function.
func (f Func) Check(ctx context.Context) error { return f(ctx) }

// Validate refuses a nil function.
func (f Func) Validate() error {
	if f == nil {
		return errors.New("Func is nil, want a function")
	}
	return nil
}

// Errors of probes that did not return one.
var (
	// ErrTimeout is in the error of a probe that took longer than its check's timeout.
	ErrTimeout = errors.New("healthsvc: no answer in time")
	// ErrPanic is in the error of a probe that panicked or called runtime.Goexit.
	ErrPanic = errors.New("healthsvc: the check panicked")
)

// A probe is one call of a Checker.
type probe struct {
	began time.Time
	done  chan struct{} // closed when the call has ended
	err   error         // valid after done
}

// start begins a probe on a goroutine of its own, which is the only one of its check until it ends. A panic is
// an error, and so is a Goexit, after which nothing can be returned: its error stands there before the call.
func start(ctx context.Context, c Checker) *probe {
	p := &probe{began: time.Now(), done: make(chan struct{}), err: fmt.Errorf("%w: runtime.Goexit", ErrPanic)}
	go func() {
		defer close(p.done)
		defer func() {
			if r := recover(); r != nil {
				p.err = fmt.Errorf("%w: %v", ErrPanic, r)
			}
		}()
		p.err = c.Check(ctx)
	}()
	return p
}

func (p *probe) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
