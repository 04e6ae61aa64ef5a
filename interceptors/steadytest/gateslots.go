package steadytest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// fill admits calls without ending them until the gate refuses or would wait. It returns nothing when the
// gate takes more than enough.
func fill(g Gate) (dones []func(error), full bool, broken error) {
	for range enough {
		done, err, broken := admitNow(g)
		if broken != nil || err != nil {
			return dones, err != nil, broken
		}
		dones = append(dones, done)
	}
	return dones, false, nil
}

// admitNow gives a gate that waits an instant only: long enough for it to try, too short for a rate to
// bring much.
func admitNow(g Gate) (done func(error), err, broken error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	start := time.Now()
	done, err, broken = admit(ctx, g)
	if took := time.Since(start); broken == nil && took > moment {
		broken = overstayed(took)
	}
	return done, err, broken
}

func checkTwice(open func() Gate) error {
	g := open()
	dones, full, broken := fill(g)
	if broken != nil {
		return broken
	}
	if !full { // there are no slots to free; done must survive being called again
		for i, done := range dones {
			done(nil)
			done([]error{nil, errServer, context.Canceled}[i%3])
		}
		ctx, cancel := patient()
		defer cancel()
		done, err := mustAdmit(ctx, g)
		if err == nil {
			done(nil)
		}
		return err
	}
	if len(dones) == 0 {
		return errors.New("a fresh gate refused")
	}
	dones[0](nil)
	for range 3 {
		dones[0](nil)
	}
	again := 0
	for range 3 {
		done, err, broken := admitNow(g)
		if broken != nil {
			return broken
		}
		if err == nil {
			again++
			dones = append(dones, done)
		}
	}
	for _, done := range dones[1:] {
		done(nil)
	}
	if again > 1 {
		return fmt.Errorf("a full gate admitted %d calls after one had ended: further calls of its done freed slots of others", again)
	}
	return nil
}

func checkWaiting(open func() Gate) error {
	g := open()
	dones, full, broken := fill(g)
	defer func() {
		for _, done := range dones {
			done(nil)
		}
	}()
	if broken != nil || !full {
		return broken
	}
	const wait = time.Second
	for _, cancelled := range []bool{true, false} {
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		if cancelled {
			ctx, cancel = context.WithCancel(context.Background())
			time.AfterFunc(wait, cancel)
		}
		start := time.Now()
		returned := make(chan error, 1)
		go func() {
			done, err, broken := admit(ctx, g)
			if err == nil && broken == nil {
				done(nil) // a rate has come round
			}
			returned <- broken
		}()
		select {
		case broken := <-returned:
			if took := time.Since(start); broken == nil && took > wait+moment {
				broken = overstayed(took - wait)
			}
			if broken != nil {
				cancel()
				return broken
			}
		case <-time.After(rest):
			cancel()
			return errors.New("gate: Admit did not return after the end of its context")
		}
		cancel()
	}
	return nil
}

func checkConcurrent(open func() Gate) error {
	const workers, calls = 32, 100
	g := open()
	var all sync.WaitGroup
	problems := make(chan error, workers)
	for w := range workers {
		all.Go(func() {
			for i := range calls {
				ctx, cancel := patient()
				done, err, broken := admit(ctx, g)
				if broken == nil && err == nil {
					if i%10 == 0 {
						time.Sleep(time.Millisecond)
					}
					end := []error{nil, errServer, context.Canceled, nil}[(w+i)%4]
					if i%3 == 0 { // both at once, as when a call ends while its caller gives up
						var two sync.WaitGroup
						two.Go(func() { done(end) })
						two.Go(func() { done(nil) })
						two.Wait()
					} else {
						done(end)
					}
				}
				cancel()
				if broken != nil {
					problems <- broken
					return
				}
			}
		})
	}
	all.Wait()
	select {
	case broken := <-problems:
		return broken
	default:
	}
	if err := recovered(g); err != nil {
		return fmt.Errorf("after %d calls by %d goroutines and %v of rest: %w", workers*calls, workers, rest, err)
	}
	return nil
}

func checkApart(open func() Gate) error {
	sick, well := open(), open()
	for range enough {
		done, err, broken := admitNow(sick)
		if broken != nil {
			return broken
		}
		if err == nil {
			done(errServer)
		}
	}
	if _, _, broken := fill(sick); broken != nil {
		return broken
	}
	ctx, cancel := patient()
	defer cancel()
	done, err := mustAdmit(ctx, well)
	if err != nil {
		return fmt.Errorf("what happened to one gate shut another: %w", err)
	}
	done(nil)
	return nil
}
