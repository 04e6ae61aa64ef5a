package breaker_test

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcsteady/steady/interceptors/breaker"
)

func TestOnChangeTellsTheStory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []breaker.Change
		b := newBreaker(t, noJitter(breaker.Config{Successes: 1}), breaker.OnChange(func(c breaker.Change) { got = append(got, c) }))
		start := time.Now()
		end(t, b, 5, failure)
		time.Sleep(6 * time.Second)
		probe := allow(t, b)
		time.Sleep(time.Second)
		probe.Done(errDown)
		time.Sleep(10 * time.Second)
		allow(t, b).Done(nil)
		b.Reset() // closed already: a generation, but no change
		b.ForceOpen()
		b.ForceOpen()
		b.ForceClosed()
		b.Reset()
		want := []breaker.Change{
			{From: breaker.Closed, To: breaker.Open, Reason: breaker.ReasonConsecutive, At: start, OpenFor: 5 * time.Second, Generation: 2},
			{From: breaker.Open, To: breaker.HalfOpen, Reason: breaker.ReasonOpenOver, At: start.Add(6 * time.Second), Generation: 3},
			{From: breaker.HalfOpen, To: breaker.Open, Reason: breaker.ReasonProbeFailed, At: start.Add(7 * time.Second), OpenFor: 10 * time.Second, Generation: 4},
			{From: breaker.Open, To: breaker.HalfOpen, Reason: breaker.ReasonOpenOver, At: start.Add(17 * time.Second), Generation: 5},
			{From: breaker.HalfOpen, To: breaker.Closed, Reason: breaker.ReasonRecovered, At: start.Add(17 * time.Second), Generation: 6},
			{From: breaker.Closed, To: breaker.ForcedOpen, Reason: breaker.ReasonForced, At: start.Add(17 * time.Second), Generation: 8},
			{From: breaker.ForcedOpen, To: breaker.ForcedClosed, Reason: breaker.ReasonForced, At: start.Add(17 * time.Second), Generation: 9},
			{From: breaker.ForcedClosed, To: breaker.Closed, Reason: breaker.ReasonReset, At: start.Add(17 * time.Second), Generation: 10},
		}
		if len(got) != len(want) {
			t.Fatalf("%d changes, want %d: %+v", len(got), len(want), got)
		}
		for i := range want {
			if !got[i].At.Equal(want[i].At) {
				t.Errorf("change %d at %v, want %v", i, got[i].At, want[i].At)
			}
			got[i].At, want[i].At = time.Time{}, time.Time{}
			if got[i] != want[i] {
				t.Errorf("change %d: %+v, want %+v", i, got[i], want[i])
			}
		}
	})
}

// TestOnChangeMayCallBack: every method, from within the callback, and its changes arrive in order.
func TestOnChangeMayCallBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *breaker.Breaker
		var states []breaker.State
		depth := 0
		b = newBreaker(t, breaker.Config{}, breaker.OnChange(func(c breaker.Change) {
			if depth++; depth > 1 {
				t.Error("called while a callback is under way")
			}
			defer func() { depth-- }()
			states = append(states, c.To)
			if got := b.State(); got != c.To {
				t.Errorf("State %v in the callback of %v", got, c.To)
			}
			_ = b.Snapshot()
			_ = b.RetryAfter(c.At)
			if err := b.Update(breaker.Config{Buckets: 5}); err != nil {
				t.Error(err)
			}
			switch len(states) {
			case 1:
				refused(t, b)
				b.ForceClosed()
			case 2:
				allow(t, b).Done(errDown)
				b.Reset()
			case 3:
				end(t, b, 5, failure) // trips again, in the callback
			case 4:
				b.Reset()
			}
		}))
		end(t, b, 5, failure)
		want := []breaker.State{breaker.Open, breaker.ForcedClosed, breaker.Closed, breaker.Open, breaker.Closed}
		if len(states) != len(want) {
			t.Fatalf("states %v, want %v", states, want)
		}
		for i := range want {
			if states[i] != want[i] {
				t.Fatalf("states %v, want %v", states, want)
			}
		}
	})
}

// TestOnChangePanics: the panic reaches the caller, but no slot, lock or later change is lost by it.
func TestOnChangePanics(t *testing.T) {
	leave := map[string]func(){
		"panic":  func() { panic("a hook") },
		"Goexit": runtime.Goexit,
	}
	for name, quit := range leave {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b *breaker.Breaker
				var told []breaker.State
				b = newBreaker(t, noJitter(breaker.Config{ConsecutiveFailures: 1, Successes: 1}), breaker.OnChange(func(c breaker.Change) {
					told = append(told, c.To)
					if c.To == breaker.ForcedOpen {
						b.ForceClosed() // waits in the queue while this one leaves
						b.Reset()
					}
					quit()
				}))
				leaves := func(call func()) {
					t.Helper()
					done, left := make(chan struct{}), true
					go func() {
						defer close(done)
						defer func() { _ = recover() }()
						call()
						left = false
					}()
					<-done
					if !left {
						t.Fatal("the hook's way out was swallowed")
					}
				}
				token := allow(t, b)
				leaves(func() { token.Done(errDown) })
				wantState(t, b, breaker.Open)
				refused(t, b)
				time.Sleep(5 * time.Second)
				leaves(func() { _, _ = b.Allow() })
				wantState(t, b, breaker.HalfOpen)
				probe := allow(t, b) // the slot came back, though the token never arrived
				leaves(func() { probe.Done(nil) })
				wantState(t, b, breaker.Closed)
				leaves(b.ForceOpen)
				want := []breaker.State{breaker.Open, breaker.HalfOpen, breaker.Closed, breaker.ForcedOpen, breaker.ForcedClosed, breaker.Closed}
				if len(told) != len(want) {
					t.Fatalf("told %v, want %v", told, want)
				}
				for i := range want {
					if told[i] != want[i] {
						t.Fatalf("told %v, want %v", told, want)
					}
				}
			})
		})
	}
}

// TestRandomPanics: neither is the lock lost by the other hook.
func TestRandomPanics(t *testing.T) {
	b := newBreaker(t, breaker.Config{ConsecutiveFailures: 1}, breaker.WithRandom(func() float64 { panic("a hook") }))
	func() {
		defer func() { _ = recover() }()
		allow(t, b).Done(errDown)
	}()
	b.ForceOpen()
	wantState(t, b, breaker.ForcedOpen)
}

// TestOnChangeInOrder: whoever delivers, the generations arrive rising, one at a time, and none is missing.
func TestOnChangeInOrder(t *testing.T) {
	var got []uint64 // no lock: deliveries do not overlap, which the race detector checks
	b := newBreaker(t, breaker.Config{}, breaker.OnChange(func(c breaker.Change) { got = append(got, c.Generation) }))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				b.ForceOpen()
				b.ForceClosed()
			}
		})
	}
	wg.Wait()
	b.ForceOpen()
	b.ForceClosed() // has been delivered when it returns, or another goroutine would still be at it
	for i, n := range got {
		if n != uint64(i)+2 {
			t.Fatalf("change %d is generation %d", i, n)
		}
	}
	if last := b.Snapshot().Generation; got[len(got)-1] != last {
		t.Fatalf("last told %d, is %d", got[len(got)-1], last)
	}
}

func TestNilHooks(t *testing.T) {
	b := newBreaker(t, breaker.Config{ConsecutiveFailures: 1}, breaker.OnChange(nil), breaker.WithRandom(nil))
	end(t, b, 1, failure)
	wantState(t, b, breaker.Open)
}
