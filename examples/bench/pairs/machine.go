package pairs

import (
	"context"
	"math"
	"runtime"
	"sync/atomic"
	"time"
)

// brickShare is the part of an arm's batch that a brick's batch takes.
const brickShare = 10

// Brick is something small that everything is built of, measured on this machine and on the one that the
// targets are from.
type Brick struct {
	Name      string
	NS        float64 // median here, on one thread
	Spread    float64 // interquartile range, as a share of the median
	Reference float64 // nanoseconds on the reference machine
}

// Factor is how much longer the brick takes here than there.
func (b Brick) Factor() float64 { return b.NS / b.Reference }

// Machine is what the bricks say about the machine while a row was measured.
type Machine struct {
	Bricks []Brick

	// Speedup is how much more two threads get done than one, from 1 (no second core to be had) to 2.
	// 0: not measured, as the row has one thread.
	Speedup float64
}

// Factor is the geometric mean of the factors of all bricks: what to multiply a target of the reference
// machine by. 1 without bricks.
func (m Machine) Factor() float64 {
	sum := 0.0
	for _, b := range m.Bricks {
		sum += math.Log(b.Factor())
	}
	return math.Exp(sum / float64(max(len(m.Bricks), 1)))
}

// bricks are those whose cost on the reference machine is known.
var bricks = []struct {
	name      string
	reference float64
	batch     Batch
}{
	{"time.Now", 45, readClock},
	{"atomic add", 5.5, addAtomically},
	{"context.WithTimeout + cancel", 560, makeContext},
}

func readClock(n int) error {
	var last time.Time
	for range n {
		last = time.Now()
	}
	runtime.KeepAlive(last)
	return nil
}

func addAtomically(n int) error {
	var sum atomic.Int64
	for range n {
		sum.Add(1)
	}
	return nil
}

func makeContext(n int) error {
	parent := context.Background()
	for range n {
		ctx, cancel := context.WithTimeout(parent, time.Minute)
		runtime.KeepAlive(ctx)
		cancel()
	}
	return nil
}

// wall gathers measurements of bricks.
type wall struct {
	n        []int
	ns       [][]float64
	speedups []float64
}

// newWall makes a wall whose batches take about that long.
func newWall(batch time.Duration) *wall {
	w := &wall{n: make([]int, len(bricks)), ns: make([][]float64, len(bricks))}
	for i, b := range bricks {
		n, err := calibrate(context.Background(), b.batch, 1, max(batch, 500*time.Microsecond))
		if err != nil {
			panic("pairs: bricks return no error: " + err.Error())
		}
		w.n[i] = n
	}
	return w
}

// measure runs every brick once, and the clock with two threads as well if that matters.
func (w *wall) measure(parallel bool) {
	for i, b := range bricks {
		cost, _ := run(b.batch, 1, w.n[i])
		w.ns[i] = append(w.ns[i], cost.NS)
	}
	if parallel {
		// The clock shares nothing between threads, so that its speedup is the machine's.
		cost, _ := run(bricks[0].batch, 2, w.n[0])
		last := w.ns[0][len(w.ns[0])-1]
		w.speedups = append(w.speedups, last/cost.NS)
	}
}

func (w *wall) machine() Machine {
	m := Machine{Bricks: make([]Brick, len(bricks))}
	for i, b := range bricks {
		m.Bricks[i] = Brick{Name: b.name, NS: Median(w.ns[i]), Spread: Spread(w.ns[i]), Reference: b.reference}
	}
	if len(w.speedups) > 0 {
		m.Speedup = Median(w.speedups)
	}
	return m
}
