package steadytest

import (
	"context"
	"errors"
	"fmt"
	"testing/synctest"
	"time"
)

// admitted makes calls that all end the same way, 100 a second, and counts those let in.
func admitted(g Gate, end error) (n int, broken error) {
	for range enough {
		done, err, broken := admitNow(g)
		if broken != nil {
			return n, broken
		}
		if err == nil {
			n++
			done(end)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return n, nil
}

func checkCanceled(open func() Gate) error {
	want, broken := admitted(open(), nil)
	if broken != nil {
		return broken
	}
	for _, end := range []error{context.Canceled, errHedge} {
		got, broken := admitted(open(), end)
		if broken != nil {
			return broken
		}
		// A gate that draws lots may differ a little; one that counts a cancel as a failure differs by far.
		if got < want*9/10 {
			return fmt.Errorf("of %d calls that ended with %v the gate admitted %d, of as many successes %d: a caller's cancel counts as failure",
				enough, end.Error(), got, want)
		}
	}
	return nil
}

func checkRefusal(open func() Gate) error {
	g := open()
	// By failures, for gates that learn.
	for range enough {
		ctx, cancel := patient()
		done, err, broken := admit(ctx, g)
		gone := ctx.Err()
		cancel()
		if broken != nil {
			return broken
		}
		if err != nil && gone == nil {
			return refusal(err)
		}
		if err == nil {
			done(errServer)
		}
	}
	// By crowding, for gates that count. Their context lives, so a wait is cut by a timer beside it.
	g = open()
	var dones []func(error)
	defer func() {
		for _, done := range dones {
			done(nil)
		}
	}()
	for range enough {
		ctx, cancel := context.WithCancel(context.Background())
		cut := false
		timer := time.AfterFunc(time.Second, func() { cut = true; cancel() })
		done, err, broken := admit(ctx, g)
		timer.Stop()
		cancel()
		if broken != nil {
			return broken
		}
		if err != nil {
			synctest.Wait()
			if cut {
				return nil // it waits instead of refusing; checkWaiting looks at that
			}
			return refusal(err)
		}
		dones = append(dones, done)
	}
	return nil
}

func overstayed(by time.Duration) error {
	return fmt.Errorf("gate: Admit returned %v after the end of its context", by)
}

// refusal looks at the error of a refusal whose context was alive.
func refusal(err error) error {
	if err.Error() == "" {
		return errors.New("a refusal without a text")
	}
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("a refusal that is context.Canceled while the context lives: %w", err)
	}
	return nil
}

func checkCancelledContext(open func() Gate) error {
	g := open()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range enough {
		done, err, broken := admit(ctx, g)
		if broken != nil {
			return fmt.Errorf("with a cancelled context: %w", broken)
		}
		if err == nil {
			done(context.Canceled)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := recovered(g); err != nil {
		return fmt.Errorf("after calls with a cancelled context: %w", err)
	}
	return nil
}

// recovered rests and asks for admission a few times, as chance may refuse one.
func recovered(g Gate) (err error) {
	time.Sleep(rest)
	for range 100 {
		ctx, cancel := patient()
		var done func(error)
		done, err = mustAdmit(ctx, g)
		cancel()
		if err == nil {
			done(nil)
			return nil
		}
		time.Sleep(time.Second)
	}
	return err
}

func checkRecovers(open func() Gate) error {
	g := open()
	for round := range 3 {
		for range enough {
			done, err, broken := admitNow(g)
			if broken != nil {
				return broken
			}
			if err == nil {
				done(errServer)
			}
			time.Sleep(time.Millisecond)
		}
		if err := recovered(g); err != nil {
			return fmt.Errorf("after outage %d and %v of rest: %w", round+1, rest, err)
		}
	}
	return nil
}
