package steady

import (
	"context"
	"fmt"
)

// A Gate admits one attempt or refuses it, and learns how it ended: done gets nil for success, an error that
// is context.Canceled if the end counts for nothing, and any other error for a failure of the server. An
// error given to done may have a method Source() string that names the endpoint. done must be called once;
// a gate does best to ignore a second call.
//
// [breaker.Breaker] is a Gate without knowing it, and so is whatever else has this method. A gate finds
// method, channel and number of the attempt through [attempt.From](ctx).
type Gate interface {
	Admit(ctx context.Context) (done func(error), err error)
}

// namedGate is a gate of the user's.
type namedGate struct {
	name string
	gate Gate
}

// attemptError is a failure of the server as gates get it: the error and the endpoint it came from.
type attemptError struct {
	error
	source string
}

func (e *attemptError) Source() string { return e.source }
func (e *attemptError) Unwrap() error  { return e.error }

// errSuspect and errFailure stand for failures that only a classifier saw, in replies without an error.
var errVerdict = fmt.Errorf("the classifier calls the reply a failure")

// forGates translates a verdict into the words of the Gate contract.
func forGates(v Verdict, err error, source string) error {
	switch v {
	case VerdictNothing:
		return context.Canceled
	case VerdictFailure, VerdictSuspect:
		if err == nil {
			err = errVerdict
		}
		return &attemptError{err, source}
	default:
		return nil
	}
}
