package pairs_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/grpcsteady/steady/examples/bench/pairs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tiny keeps a measurement short; what it says of time means nothing.
var tiny = pairs.Options{Pairs: pairs.MinPairs, Batch: 50 * time.Microsecond}

var errArm = errors.New("arm")

func opened(ours, peer pairs.Arm) func() (pairs.Arm, pairs.Arm, func(), error) {
	return func() (pairs.Arm, pairs.Arm, func(), error) { return ours, peer, nil, nil }
}

// spin keeps a core busy so that batches are found quickly.
func spin(n int) error {
	for range n {
		for began := time.Now(); time.Since(began) < 5*time.Microsecond; {
		}
	}
	return nil
}

func TestTurnsAreTaken(t *testing.T) {
	var order []byte
	arm := func(name byte) pairs.Arm {
		return pairs.Arm{Run: func(n int) error {
			// A batch and the few operations before it are one turn.
			if len(order) == 0 || order[len(order)-1] != name {
				order = append(order, name)
			}
			return spin(n)
		}}
	}
	closed := false
	row := pairs.Row{Name: "turns", Peer: "peer", Open: func() (pairs.Arm, pairs.Arm, func(), error) {
		return arm('A'), arm('B'), func() { closed = true }, nil
	}}
	r, err := pairs.Measure(t.Context(), row, pairs.Options{Pairs: 1, Batch: tiny.Batch})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Ours) != pairs.MinPairs || len(r.Peer) != pairs.MinPairs {
		t.Fatalf("%d and %d batches, want at least %d", len(r.Ours), len(r.Peer), pairs.MinPairs)
	}
	// Both warm up first: A B, and then the pairs.
	if len(order) != 2+2*pairs.MinPairs || order[0] != 'A' {
		t.Fatalf("order %s, want A and B in turns", order)
	}
	if !closed {
		t.Error("the row was not closed")
	}
	if len(r.Machine.Bricks) != 3 || r.Machine.Speedup != 0 || !(r.Machine.Factor() > 0) {
		t.Errorf("machine %+v, want three bricks and no speedup", r.Machine)
	}
}

// TestAColdStartIsNotABatch is about connections: the first call pays for one, and must not make the harness
// believe that a single call fills a batch.
func TestAColdStartIsNotABatch(t *testing.T) {
	cold, largest := true, 0
	arm := pairs.Arm{Run: func(n int) error {
		if cold {
			cold = false
			return spin(1000)
		}
		largest = max(largest, n)
		return spin(n)
	}}
	row := pairs.Row{Name: "cold", Peer: "peer", Open: opened(arm, pairs.Arm{Run: spin})}
	if _, err := pairs.Measure(t.Context(), row, pairs.Options{Pairs: pairs.MinPairs, Batch: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if largest < 10 {
		t.Errorf("batches of %d operations of 5 us, want about 200 to fill 1 ms", largest)
	}
}

var sink [2]*[64]byte

func TestHeapObjectsAreCountedAndTakenOff(t *testing.T) {
	two := func(n int) error {
		for range n {
			sink[0], sink[1] = new([64]byte), new([64]byte)
		}
		return nil
	}
	one := func(n int) error {
		for range n {
			sink[0] = new([64]byte)
		}
		return nil
	}
	row := pairs.Row{Name: "objects", Peer: "peer", Open: opened(pairs.Arm{Run: two, Less: one}, pairs.Arm{Run: two})}
	r, err := pairs.Measure(t.Context(), row, pairs.Options{Batch: time.Millisecond, Pairs: pairs.MinPairs})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name          string
		got           pairs.Cost
		allocs, bytes float64
	}{
		{"ours", pairs.Middle(r.Ours), 1, 64},
		{"peer", pairs.Middle(r.Peer), 2, 128},
	} {
		if d := c.got.Allocs - c.allocs; d < -0.05 || d > 0.05 {
			t.Errorf("%s: %v objects, want %v", c.name, c.got.Allocs, c.allocs)
		}
		if d := c.got.Bytes - c.bytes; d < -4 || d > 4 {
			t.Errorf("%s: %v bytes, want %v", c.name, c.got.Bytes, c.bytes)
		}
	}
}

func TestThreadsRunAtOnce(t *testing.T) {
	var now, most atomic.Int64
	batch := func(n int) error {
		for at := now.Add(1); ; {
			if seen := most.Load(); at <= seen || most.CompareAndSwap(seen, at) {
				break
			}
		}
		defer now.Add(-1)
		// Both threads are started before either may run, so that they meet here.
		for most.Load() < 2 {
			runtime.Gosched()
		}
		return spin(n)
	}
	row := pairs.Row{Name: "threads", Peer: "peer", Threads: 2, Open: opened(pairs.Arm{Run: batch}, pairs.Arm{Run: spin})}
	r, err := pairs.Measure(t.Context(), row, tiny)
	if err != nil {
		t.Fatal(err)
	}
	if most.Load() != 2 {
		t.Errorf("%d threads at once, want 2", most.Load())
	}
	if r.Machine.Speedup <= 0 {
		t.Errorf("speedup %v, want it measured for a row with two threads", r.Machine.Speedup)
	}
}

func TestALimitStopsAtTheLeastNumberOfPairs(t *testing.T) {
	row := pairs.Row{Name: "row", Peer: "peer", Open: opened(pairs.Arm{Run: spin}, pairs.Arm{Run: spin})}
	r, err := pairs.Measure(t.Context(), row, pairs.Options{Pairs: 1000, Batch: tiny.Batch, Limit: 1})
	if err != nil || len(r.Ours) != pairs.MinPairs || len(r.Peer) != pairs.MinPairs {
		t.Errorf("error %v, %d and %d batches, want %d each", err, len(r.Ours), len(r.Peer), pairs.MinPairs)
	}
}

func TestMeasureFails(t *testing.T) {
	good := pairs.Arm{Run: spin}
	left := 3 // batches before the arm fails, so that it does so while warming up or later
	bad := pairs.Arm{Run: func(n int) error {
		if left--; left < 0 {
			return errArm
		}
		return spin(n)
	}}
	for name, open := range map[string]func() (pairs.Arm, pairs.Arm, func(), error){
		"ours fails":     opened(bad, good),
		"peer fails":     opened(good, bad),
		"less fails":     opened(pairs.Arm{Run: spin, Less: bad.Run}, good),
		"opening fails":  func() (pairs.Arm, pairs.Arm, func(), error) { return good, good, nil, errArm },
		"without an arm": opened(good, pairs.Arm{}),
		"a keeper":       opened(good, pairs.Arm{Run: spin, Keep: hoard(1, nil)}),
	} {
		left = 3
		_, err := pairs.Measure(t.Context(), pairs.Row{Name: "row", Peer: "peer", Open: open}, tiny)
		if err == nil || name != "without an arm" && name != "a keeper" && !errors.Is(err, errArm) {
			t.Errorf("%s: error %v, want the arm's", name, err)
		}
	}
}

func TestMeasureStopsWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	batches, late, closed := 0, 0, false
	row := pairs.Row{Name: "row", Peer: "peer", Open: func() (pairs.Arm, pairs.Arm, func(), error) {
		arm := pairs.Arm{Run: func(n int) error {
			if ctx.Err() == nil {
				if batches++; batches == 12 {
					cancel()
				}
			} else {
				late++
			}
			return spin(n)
		}}
		return arm, arm, func() { closed = true }, nil
	}}
	_, err := pairs.Measure(ctx, row, pairs.Options{Pairs: 1000, Batch: tiny.Batch})
	if !errors.Is(err, context.Canceled) || batches != 12 || late > 1 || !closed {
		t.Errorf("error %v, %d batches, %d after the end, closed %v; want context.Canceled, 12, the one under way, closed",
			err, batches, late, closed)
	}
}

func TestMachine(t *testing.T) {
	m := pairs.MeasureMachine(tiny)
	if m.Speedup <= 0 || len(m.Bricks) != 3 {
		t.Fatalf("machine %+v, want a speedup and three bricks", m)
	}
	for _, b := range m.Bricks {
		if b.Name == "" || !(b.NS > 0) || !(b.Reference > 0) || !(b.Factor() > 0) {
			t.Errorf("brick %+v, want all of it", b)
		}
	}
}
