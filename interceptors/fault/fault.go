// Package fault injects faults on purpose: it delays calls, fails them with a code of your choice, or lets
// them hang, so that you can see what your breakers, retries and deadlines do before something real breaks.
//
// An [Injector] has rules, each for some methods, a share of their calls and a window of time. It is off
// until it is enabled, and loud once it is: enabling logs a warning that names every rule, and every
// injected error says that it is one. The draws are seeded: the same calls in the same order get the same
// faults again.
//
//	inj, err := fault.New(1, []fault.Rule{
//		{Name: "slow", Share: 0.1, Delay: time.Second, DelayJitter: time.Second},
//		{Name: "sick", Methods: []string{"/orders.v1.Orders/"}, Share: 0.6, Code: 14, Every: 10 * time.Second, For: 5 * time.Second},
//	})
//	inj.Enable()
//	...
//	if f, ok := inj.Decide(method); ok {
//		if err := f.Apply(ctx); err != nil {
//			return err
//		}
//	}
//
// It serves clients and servers alike: whoever makes or handles a call asks Decide with the full method
// name. The errors are no gRPC statuses of their own, since the package knows nothing of gRPC: turn an
// [*Error] into one by its Code.
//
// Not a replacement for faults below the call: lost packets, broken connections and crashed processes look
// different, and need a proxy or a signal.
package fault

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrInjected is what errors.Is finds in every error that a fault made up.
var ErrInjected = errors.New("injected fault")

// Fault is what shall happen to one call.
type Fault struct {
	Rule    string        // name of the rule that struck
	Delay   time.Duration // wait this long first, jitter included
	Code    uint32        // then fail with this gRPC status code; 0: go on
	Message string        // of that failure
	Drop    bool          // hang until the call's context ends
}

// Apply does what the fault says to a call with this context: it waits, hangs or fails. It returns nil if
// the call was only delayed and shall go on, an [*Error] if it failed, and ctx's error if ctx ended before.
// A context that ends at the very instant the delay does wins. Dropping a call whose context never ends
// hangs for ever, as such a call would on a host that went away.
func (f Fault) Apply(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.Drop {
		<-ctx.Done()
		return ctx.Err()
	}
	if f.Delay > 0 {
		if err := wait(ctx, f.Delay); err != nil {
			return err
		}
	}
	if f.Code != 0 {
		return &Error{Rule: f.Rule, Code: f.Code, Message: f.Message}
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	// Two timers that are due at once fire in any order, and select takes any of two that are ready.
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= 0 {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// Error is a failure that did not happen: it was injected.
type Error struct {
	Rule    string // name of the rule that struck
	Code    uint32 // gRPC status code, 1 to 16
	Message string // of the rule
}

// Error says that the failure is injected, by which rule, and which code it carries.
func (e *Error) Error() string {
	s := fmt.Sprintf("INJECTED FAULT by rule %q: %s", e.Rule, codeName(e.Code))
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// Unwrap returns [ErrInjected].
func (e *Error) Unwrap() error { return ErrInjected }

const maxCode = 16

// codeNames are those of gRPC's status codes, which are fixed by its wire protocol.
var codeNames = [maxCode + 1]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
	"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

func codeName(code uint32) string {
	if code <= maxCode {
		return codeNames[code]
	}
	return fmt.Sprintf("code %d", code)
}
