package pairs

import (
	"context"
	"math"
	"runtime"
	"sync"
	"time"
)

// Cost is what one operation costs.
type Cost struct {
	NS     float64 // elapsed nanoseconds, divided by the operations of all threads
	Allocs float64 // heap objects
	Bytes  float64 // bytes of them
	Held   float64 // bytes that stay, of a thing that is kept
}

func (c Cost) minus(d Cost) Cost {
	return Cost{NS: c.NS - d.NS, Allocs: c.Allocs - d.Allocs, Bytes: c.Bytes - d.Bytes}
}

// run measures one batch: n operations on each of the threads. The heap is cleaned first, so that no side
// pays for the garbage of the other. That empties pools as well, so a few operations go before those that
// are counted; the threads exist by then.
func run(batch Batch, threads, n int) (Cost, error) {
	runtime.GC()
	errs := make([]error, threads)
	start := make(chan struct{})
	var ready, done sync.WaitGroup
	for i := range threads {
		ready.Add(1)
		done.Go(func() {
			errs[i] = batch(max(n/warmShare, 1))
			ready.Done()
			<-start
			if errs[i] == nil {
				errs[i] = batch(n)
			}
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

// warmShare is the part of a batch that is made before it, uncounted.
const warmShare = 10

// maxBatch bounds what a clock that stands still could make of a batch.
const maxBatch = 1 << 30

// calibrate finds how many operations of each thread fill a batch. It grows them until half of a batch is
// filled, which warms caches, pools and connections up as well. A run that was slow only because it was the
// first, or because the machine did something else, must not pass for a full batch, so the fastest of three
// counts.
func calibrate(ctx context.Context, batch Batch, threads int, want time.Duration) (int, error) {
	for n := 1; ; {
		took := math.Inf(1)
		for range 3 {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			cost, err := run(batch, threads, n)
			if err != nil {
				return 0, err
			}
			took = min(took, cost.NS*float64(n)*float64(threads))
			if took < float64(want)/2 {
				break
			}
		}
		fits := int(min(float64(n)*float64(want)/max(took, 1), maxBatch))
		if took >= float64(want)/2 || n == maxBatch {
			return max(fits, 1), nil
		}
		n = min(max(n+1, fits), n*16, maxBatch)
	}
}
