package pairs

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// Cost is what one operation costs.
type Cost struct {
	NS     float64 // elapsed nanoseconds, divided by the operations of all threads
	Allocs float64 // heap objects
	Bytes  float64 // bytes of them
}

func (c Cost) minus(d Cost) Cost {
	return Cost{NS: c.NS - d.NS, Allocs: c.Allocs - d.Allocs, Bytes: c.Bytes - d.Bytes}
}

// run measures one batch: n operations on each of the threads. The heap is cleaned first, so that no side
// pays for the garbage of the other, and the threads exist before anything is counted.
func run(batch Batch, threads, n int) (Cost, error) {
	runtime.GC()
	errs := make([]error, threads)
	start := make(chan struct{})
	var ready, done sync.WaitGroup
	for i := range threads {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-start
			errs[i] = batch(n)
		})
	}
	ready.Wait()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	close(start)
	done.Wait()
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	for _, err := range errs {
		if err != nil {
			return Cost{}, err
		}
	}
	ops := float64(n) * float64(threads)
	return Cost{
		NS:     float64(took) / ops,
		Allocs: float64(after.Mallocs-before.Mallocs) / ops,
		Bytes:  float64(after.TotalAlloc-before.TotalAlloc) / ops,
	}, nil
}

// maxBatch bounds what a clock that stands still could make of a batch.
const maxBatch = 1 << 30

// calibrate finds how many operations of each thread fill a batch. It grows them until half of a batch is
// filled, which warms caches, pools and connections up as well.
func calibrate(ctx context.Context, batch Batch, threads int, want time.Duration) (int, error) {
	for n := 1; ; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		cost, err := run(batch, threads, n)
		if err != nil {
			return 0, err
		}
		took := cost.NS * float64(n) * float64(threads)
		fits := int(min(float64(n)*float64(want)/max(took, 1), maxBatch))
		if took >= float64(want)/2 || n == maxBatch {
			return max(fits, 1), nil
		}
		n = min(max(n+1, fits), n*16, maxBatch) // a first, cold run may be far off: grow in steps
	}
}
