package steadytest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// gateChecks are the demands of the contract, simplest first.
var gateChecks = []gateCheck{
	{"admits", checkAdmits},
	{"done takes any end", checkEnds},
	{"done on another goroutine", checkElsewhere},
	{"done during panic", checkPanic},
	{"done during Goexit", checkGoexit},
	{"second done does nothing", checkTwice},
	{"cancelled counts for nothing", checkCanceled},
	{"refusal", checkRefusal},
	{"cancelled context", checkCancelledContext},
	{"waiting ends with context", checkWaiting},
	{"recovers", checkRecovers},
	{"concurrent", checkConcurrent},
	{"gates share nothing", checkApart},
}

const (
	// patience is how long, in the bubble's time, a gate may wait before it admits: no gate of the checks
	// below is crowded for that long unless a check says so.
	patience = time.Minute
	// enough is more failures than any sensible gate needs to see what is up, and more calls than one of
	// these checks holds open at once.
	enough = 1000
	// moment is how long Admit may go on after the end of its context.
	moment = 10 * time.Millisecond
	// rest is longer than any gate may stay shut without asking again.
	rest = time.Hour
)

var errServer = status.Error(codes.Unavailable, "down by test")

func patient() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func checkAdmits(open func() Gate) error {
	// Without a deadline, since a gate must not count on one.
	done, err := mustAdmit(context.Background(), open())
	if err != nil {
		return err
	}
	done(nil)
	return nil
}

var errHedge = fmt.Errorf("hedge lost: %w", context.Canceled)

// ends are the kinds of results a driver tells.
var ends = []struct {
	name string
	err  error
}{
	{"nil", nil},
	{"canceled", context.Canceled},
	{"wrapped canceled", errHedge},
	{"deadline exceeded", context.DeadlineExceeded},
	{"a status", errServer},
	{"a plain error", errors.New("plain")},
	{"joined errors", errors.Join(errServer, errors.New("and more"))},
	{"an error with a source", sourced{}},
}

// sourced is a failure that says which endpoint it came from.
type sourced struct{}

func (sourced) Error() string  { return "refused" }
func (sourced) Source() string { return "a" }

func checkEnds(open func() Gate) error {
	for _, end := range ends {
		ctx, cancel := patient()
		done, err := mustAdmit(ctx, open())
		if err != nil {
			cancel()
			return err
		}
		cancel()
		if p := aside(func() { done(end.err) }); p != nil {
			return fmt.Errorf("done panicked, given %s: %v", end.name, p)
		}
	}
	return nil
}

// aside runs f on a goroutine of its own and waits for its end, by whatever way.
func aside(f func()) (panicked any) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		f()
	}()
	<-done
	return panicked
}

func checkElsewhere(open func() Gate) error {
	g := open()
	for range enough {
		ctx, cancel := patient()
		done, err := mustAdmit(ctx, g)
		if err != nil {
			cancel()
			return fmt.Errorf("after calls that ended on other goroutines: %w", err)
		}
		cancel() // done comes after the end of the context as well
		if p := aside(func() { done(nil) }); p != nil {
			return fmt.Errorf("done panicked on another goroutine: %v", p)
		}
		time.Sleep(time.Second) // for gates that limit a rate
	}
	return nil
}

func checkPanic(open func() Gate) error {
	return checkUnwound(open, func() { panic(errServer) }, func(panicked any) error {
		if panicked != any(errServer) {
			return fmt.Errorf("done stopped or changed a panic that it was deferred in: got %v", panicked)
		}
		return nil
	})
}

func checkGoexit(open func() Gate) error {
	return checkUnwound(open, runtime.Goexit, func(panicked any) error {
		if panicked != nil {
			return fmt.Errorf("done panicked during Goexit: %v", panicked)
		}
		return nil
	})
}

// checkUnwound ends calls by a deferred done while the stack unwinds, more often than a gate has slots, and
// then wants to be admitted.
func checkUnwound(open func() Gate, unwind func(), verdict func(panicked any) error) error {
	g := open()
	for range enough {
		ctx, cancel := patient()
		var refused error
		returned := false
		panicked := aside(func() {
			var done func(error)
			if done, refused = mustAdmit(ctx, g); refused != nil {
				returned = true
				return
			}
			defer done(nil)
			unwind()
			returned = true
		})
		cancel()
		if refused != nil {
			return fmt.Errorf("after calls whose caller unwound: %w", refused)
		}
		if returned {
			return errors.New("the caller went on although it unwound")
		}
		if err := verdict(panicked); err != nil {
			return err
		}
		time.Sleep(time.Second)
	}
	return nil
}
