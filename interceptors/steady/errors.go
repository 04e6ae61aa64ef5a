package steady

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
)

// RefusedError is the error of a call that a gate did not admit: nothing was sent. It is a gRPC status of
// its own, so a server that returns it answers with the right code; errors.Is finds the gate's sentinel,
// such as [breaker.ErrOpen], through Unwrap.
type RefusedError struct {
	Gate       string        // "breaker", "deadline", or the name of a gate of the user's
	Method     string        // full method
	RetryAfter time.Duration // when it makes sense to try again; 0: not known
	Err        error         // what the gate said
}

// Error says which gate refused which method, and why.
func (e *RefusedError) Error() string {
	if e.RetryAfter > 0 {
		return fmt.Sprintf("%s refused by %s: %v (retry after %v)", e.Method, e.Gate, e.Err, e.RetryAfter.Round(time.Millisecond))
	}
	return fmt.Sprintf("%s refused by %s: %v", e.Method, e.Gate, e.Err)
}

// Unwrap returns what the gate said.
func (e *RefusedError) Unwrap() error { return e.Err }

// GRPCStatus makes the refusal a gRPC status. A gate's own status code is kept; otherwise an open breaker is
// UNAVAILABLE, a deadline that cannot be met DEADLINE_EXCEEDED, a gate that gave up with its context what the
// context says, and any other gate of the user's UNAVAILABLE.
func (e *RefusedError) GRPCStatus() *status.Status {
	var own interface{ GRPCStatus() *status.Status }
	switch {
	case errors.Is(e.Err, breaker.ErrOpen):
		return status.New(codes.Unavailable, e.Error())
	case errors.Is(e.Err, deadline.ErrExhausted):
		return status.New(codes.DeadlineExceeded, e.Error())
	case errors.As(e.Err, &own):
		if s := own.GRPCStatus(); s.Code() != codes.OK {
			return status.New(s.Code(), e.Error())
		}
	case errors.Is(e.Err, context.Canceled): // a gate that waited until the caller went away
		return status.New(codes.Canceled, e.Error())
	case errors.Is(e.Err, context.DeadlineExceeded):
		return status.New(codes.DeadlineExceeded, e.Error())
	}
	return status.New(codes.Unavailable, e.Error())
}

// CallError is the error of a call that a rule had a hand in: it was retried, cut, or not retried for a
// reason worth telling. It is transparent: its text, its gRPC status and what errors.Is and errors.As find
// are those of the last real error of the server; beside it, it carries the call's [Report] for [Explain].
type CallError struct {
	Report Report
	err    error
}

// Error returns the text of the last real error.
func (e *CallError) Error() string { return e.err.Error() }

// Unwrap returns the last real error.
func (e *CallError) Unwrap() error { return e.err }

// GRPCStatus returns the status of the last real error.
func (e *CallError) GRPCStatus() *status.Status {
	if s, ok := status.FromError(e.err); ok {
		return s
	}
	return status.New(codeOf(e.err), e.err.Error())
}
