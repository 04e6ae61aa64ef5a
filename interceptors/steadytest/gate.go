package steadytest

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"testing"
	"testing/synctest"
)

// Gate is what [TestGate] tests: the contract of steady.Gate, which breakers, limiters, bulkheads and
// throttles satisfy without importing it.
type Gate interface {
	Admit(ctx context.Context) (done func(error), err error)
}

// TestGate holds a gate against its contract, as testing/fstest does for file systems: run it in the tests
// of a gate of one's own.
//
//	func TestLimiter(t *testing.T) {
//		steadytest.TestGate(t, func() steadytest.Gate { return newLimiter(10) })
//	}
//
// newGate must return a fresh gate that admits; one that starts closed cannot be told from a broken one. Each
// check is a subtest in a bubble of its own, so hours pass in no time. A gate that owns a goroutine must end
// it in a method Close() or Close() error, which the checks call.
//
// It checks that
//
//   - Admit returns either done or an error, never both and never neither, also to a cancelled context;
//   - done takes nil, context.Canceled and any other error, on any goroutine, while a caller panics or calls
//     Goexit, and does not stop either;
//   - a second done does nothing: it frees no second slot;
//   - calls that ended with context.Canceled, bare or wrapped, cost the callers behind them no more than
//     successes do;
//   - a refusal is an error with a text, and is not context.Canceled, which would mean the caller's own end;
//   - Admit does not outlive its context by more than a moment, if it waits;
//   - after failures without end and an hour of rest the gate admits again;
//   - many goroutines may use it at once (run it with -race);
//   - two gates share nothing, and none leaves a goroutine behind.
//
// It does not check what a gate is for: when it refuses is its own business.
func TestGate(t *testing.T, newGate func() Gate) {
	t.Helper()
	for _, c := range gateChecks {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if err := c.run(newGate); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// gateCheck is one demand of the contract. Checks return an error instead of failing a test, so that they
// can be tried on gates that are broken on purpose.
type gateCheck struct {
	name  string
	check func(open func() Gate) error
}

// run makes the check and looks for goroutines left behind. It must run in a bubble.
func (c gateCheck) run(newGate func() Gate) (err error) {
	var gates []Gate
	open := func() Gate {
		g := newGate()
		gates = append(gates, g)
		return g
	}
	return withoutLeak(func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
			for _, g := range gates {
				err = errors.Join(err, closeGate(g))
			}
		}()
		return c.check(open)
	})
}

func closeGate(g Gate) error {
	switch g := g.(type) {
	case interface{ Close() error }:
		if err := g.Close(); err != nil {
			return fmt.Errorf("Close: %w", err)
		}
	case interface{ Close() }:
		g.Close()
	}
	return nil
}

// admit calls Admit and holds its two results against each other: err is the gate's answer, broken is about the
// gate.
func admit(ctx context.Context, g Gate) (done func(error), err, broken error) {
	done, err = g.Admit(ctx)
	switch {
	case err == nil && done == nil:
		broken = errors.New("gate: Admit returned neither done nor an error")
	case err != nil && done != nil:
		broken = fmt.Errorf("gate: Admit returned done together with an error (%w): who ends the call?", err)
	}
	return done, err, broken
}

// mustAdmit is admit for gates that have no reason to refuse.
func mustAdmit(ctx context.Context, g Gate) (func(error), error) {
	done, err, broken := admit(ctx, g)
	if broken != nil {
		return nil, broken
	}
	if err != nil {
		return nil, fmt.Errorf("a gate that should admit refused: %w", err)
	}
	return done, nil
}
