// Package pairs measures two ways to do one thing in turns, A B A B, and compares them pair by pair.
//
// Two benchmarks run one after the other differ by whatever the machine did meanwhile. Run in turns, both
// sides of a pair see the same minute, and the ratio of a pair is worth more than either time. Between
// pairs, a few bricks are measured (reading the clock, an atomic add, a context with a timeout), so that a
// budget written on another machine can be judged on this one, and so that a machine that is too busy is
// noticed instead of believed.
//
//	result, err := pairs.Measure(ctx, pairs.Row{Name: "lock", Peer: "rwlock", Open: open}, pairs.Options{})
//	verdict := pairs.Judge(result)
//
// Not for code whose single run takes longer than a batch: use a load generator.
package pairs

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// MinPairs is the least number of pairs that a row is judged by.
const MinPairs = 10

// Batch makes n operations in a row and returns the first error, which ends the measurement. With more than
// one thread it is called by all of them at once.
type Batch func(n int) error

// Keep makes n things and holds them until release is called.
type Keep func(n int) (release func(), err error)

// Arm is one side of a row.
type Arm struct {
	// Run makes the operations that are measured.
	Run Batch

	// Keep takes the place of Run in a row about memory, see [Row.Keeps].
	Keep Keep

	// Less makes the same operations without the part that the row is about; what it costs is taken off.
	// Nil: nothing is taken off.
	Less Batch
}

// Target is the budget of a row, as measured on the reference machine. A nil field is not judged.
type Target struct {
	NS     *float64 // nanoseconds of one operation, all threads together
	Allocs *float64 // heap objects of one operation
}

// Row is one comparison.
type Row struct {
	Name    string // what is done
	Peer    string // who does it beside us
	Threads int    // how many do it at once; below 1 counts as 1
	Target  Target

	// Keeps makes it a row about memory, if above 0: an operation is to make a thing and hold it, and the
	// ratio is that of the bytes that this many things hold at once.
	Keeps int

	// Open makes both arms, warm and ready. release, which may be nil, gives back what they hold.
	Open func() (ours, peer Arm, release func(), err error)
}

// String names row and peer.
func (r Row) String() string { return r.Name + " vs " + r.Peer }

// threads is at least 1.
func (r Row) threads() int { return max(r.Threads, 1) }

// Options say how long to measure. The zero value is usable. Many short batches tell more than few long ones:
// on a machine with other work, a batch shorter than the scheduler's slice is mostly either left alone or
// interrupted as a whole, and medians do not see the second kind.
type Options struct {
	Pairs int           // default 101, at least MinPairs
	Batch time.Duration // of one arm in one pair; default 20 ms
	Limit time.Duration // of a row: after it only MinPairs are still made; default: none
}

func (o Options) withDefaults() Options {
	if o.Pairs == 0 {
		o.Pairs = 101
	}
	o.Pairs = max(o.Pairs, MinPairs)
	if o.Batch <= 0 {
		o.Batch = 20 * time.Millisecond
	}
	return o
}

// Result is what was measured of one row.
type Result struct {
	Row        Row
	Ours, Peer []Cost // of one operation, one for each pair
	Machine    Machine
}

// Measure runs both arms of a row in turns. It returns early, with ctx's error, between two batches.
func Measure(ctx context.Context, row Row, opts Options) (_ Result, err error) {
	opts, began := opts.withDefaults(), time.Now()
	ours, peer, done, err := row.Open()
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", row, err)
	}
	if done != nil {
		defer done()
	}
	for _, arm := range []Arm{ours, peer} {
		if keeps := row.Keeps > 0; (arm.Keep != nil) != keeps || (arm.Run != nil) == keeps {
			return Result{}, fmt.Errorf("%s: an arm without Run or with Keep, want both with Run; with Keep alone if the row keeps things", row)
		}
	}
	defer func() {
		if err != nil && !errors.Is(err, context.Canceled) {
			err = fmt.Errorf("%s: %w", row, err)
		}
	}()
	if row.Keeps > 0 {
		return measureKept(ctx, row, ours, peer)
	}
	a, err := newSide(ctx, ours, row.threads(), opts.Batch)
	if err != nil {
		return Result{}, fmt.Errorf("ours: %w", err)
	}
	b, err := newSide(ctx, peer, row.threads(), opts.Batch)
	if err != nil {
		return Result{}, fmt.Errorf("peer: %w", err)
	}
	wall := newWall(opts.Batch / brickShare)
	result := Result{Row: row}
	for i := range opts.Pairs {
		if opts.Limit > 0 && i >= MinPairs && time.Since(began) > opts.Limit {
			break
		}
		x, err := a.measure(ctx)
		if err != nil {
			return Result{}, fmt.Errorf("ours: %w", err)
		}
		y, err := b.measure(ctx)
		if err != nil {
			return Result{}, fmt.Errorf("peer: %w", err)
		}
		result.Ours, result.Peer = append(result.Ours, x), append(result.Peer, y)
		wall.measure(row.threads() > 1)
	}
	result.Machine = wall.machine()
	return result, nil
}

// MeasureMachine measures the bricks alone, for a head line.
func MeasureMachine(opts Options) Machine {
	opts = opts.withDefaults()
	wall := newWall(opts.Batch / brickShare)
	for range MinPairs {
		wall.measure(true)
	}
	return wall.machine()
}

// side is an arm with the length of its batches.
type side struct {
	threads   int
	run, less Batch
	n, nLess  int // operations of a batch and thread
}

// newSide warms an arm up while it finds out how many operations fill a batch.
func newSide(ctx context.Context, arm Arm, threads int, batch time.Duration) (*side, error) {
	s := &side{threads: threads, run: arm.Run, less: arm.Less}
	var err error
	if s.n, err = calibrate(ctx, s.run, threads, batch); err != nil {
		return nil, err
	}
	if s.less != nil {
		s.nLess, err = calibrate(ctx, s.less, threads, batch)
	}
	return s, err
}

func (s *side) measure(ctx context.Context) (Cost, error) {
	if err := ctx.Err(); err != nil {
		return Cost{}, err
	}
	cost, err := run(s.run, s.threads, s.n)
	if err != nil || s.less == nil {
		return cost, err
	}
	less, err := run(s.less, s.threads, s.nLess)
	return cost.minus(less), err
}
