package deadline_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcsteady/steady/interceptors/deadline"
)

// learned returns what has seen n calls of d at now.
func learned(now time.Time, n int, d time.Duration) *deadline.Learned {
	l := new(deadline.Learned)
	for range n {
		l.Observe(now, d)
	}
	return l
}

func TestCheck(t *testing.T) {
	now := time.Now()
	tests := map[string]struct {
		left    time.Duration
		learned *deadline.Learned
		want    error // of the second check, as the first that is refused goes as a probe
	}{
		"nothing learned":          {time.Millisecond, new(deadline.Learned), nil},
		"no estimate":              {time.Millisecond, nil, nil},
		"too few samples":          {time.Millisecond, learned(now, deadline.MinSamples-1, time.Second), nil},
		"time enough":              {2 * time.Second, learned(now, deadline.MinSamples, time.Second), nil},
		"too little":               {900 * time.Millisecond, learned(now, deadline.MinSamples, time.Second), deadline.ErrExhausted},
		"none left":                {0, learned(now, deadline.MinSamples, time.Second), deadline.ErrExhausted},
		"none left, no samples":    {0, new(deadline.Learned), nil},
		"past, and samples enough": {-time.Second, learned(now, deadline.MinSamples, time.Second), deadline.ErrExhausted},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var f deadline.Feasible
			first := f.Check(now, tt.left, tt.learned)
			if probe := first == nil; probe != (tt.want == nil || tt.left > 0) {
				t.Fatalf("first check: %v", first)
			}
			if err := f.Check(now, tt.left, tt.learned); !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// TestProbes counts what gets through of a load that never fits.
func TestProbes(t *testing.T) {
	tests := map[string]struct {
		every time.Duration // between two calls
		calls int
		want  int // sent
	}{
		"all at once":      {0, 2000, 1 + 2000/20},
		"fast, 1 in 20":    {time.Millisecond, 2000, 1 + 2000/20},
		"20/s":             {50 * time.Millisecond, 200, 1 + 200/20},
		"4/s, one each 1s": {250 * time.Millisecond, 40, 10 + 1}, // the 20th is one on top, and restarts the second
		"slow, all":        {time.Second, 25, 25},
		"slower, all":      {3 * time.Second, 9, 9},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f deadline.Feasible
				sent, last := 0, time.Now()
				for range tt.calls {
					now := time.Now()
					if f.Check(now, time.Millisecond, learned(now, deadline.MinSamples, time.Second)) == nil {
						sent++
						last = now
					} else if now.Sub(last) >= time.Second {
						t.Errorf("nothing sent for %v", now.Sub(last))
					}
					time.Sleep(tt.every)
				}
				if sent != tt.want {
					t.Fatalf("%d of %d sent, want %d", sent, tt.calls, tt.want)
				}
			})
		})
	}
}

// TestNeverStarves is the reason for the probes: a method that was slow and is fast again must be found out,
// however little time its callers bring, and however seldom they come.
func TestNeverStarves(t *testing.T) {
	for _, every := range []time.Duration{time.Millisecond, 70 * time.Millisecond, 800 * time.Millisecond, 20 * time.Second} {
		t.Run(every.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const left, fast, slow = 100 * time.Millisecond, 10 * time.Millisecond, time.Second
				var f deadline.Feasible
				l := learned(time.Now(), 500, slow)
				start := time.Now()
				for time.Since(start) < 31*time.Second {
					if f.Check(time.Now(), left, l) == nil {
						l.Observe(time.Now(), fast)
					}
					time.Sleep(every)
				}
				for i := range 50 {
					if err := f.Check(time.Now(), left, l); err != nil {
						t.Fatalf("call %d, half a minute after the recovery: %v", i, err)
					}
				}
			})
		})
	}
}

// TestCheckModel holds the probes against plain arithmetic, under random loads.
func TestCheckModel(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 5))
		synctest.Test(t, func(t *testing.T) {
			var f deadline.Feasible
			var l deadline.Learned
			pause := time.Duration(1 + r.Int64N(int64(400*time.Millisecond)))
			n, probed, last := 0, false, time.Time{}
			for range 500 {
				now := time.Now()
				for range deadline.MinSamples {
					l.Observe(now, time.Second)
				}
				left := 1 + time.Duration(r.Int64N(int64(3*time.Second)))
				if left > 900*time.Millisecond && left < 1100*time.Millisecond {
					continue // within the error of the estimate
				}
				var want error
				if left < time.Second {
					n++
					if n%20 == 0 || !probed || now.Sub(last) >= time.Second {
						probed, last = true, now
					} else {
						want = deadline.ErrExhausted
					}
				}
				if got := f.Check(now, left, &l); !errors.Is(got, want) {
					t.Fatalf("seed %d: got %v, want %v", seed, got, want)
				}
				time.Sleep(time.Duration(r.Int64N(int64(pause))))
			}
		})
	}
}

func TestConcurrentChecksShareProbes(t *testing.T) {
	const callers, each = 10, 200
	now := time.Now()
	l := learned(now, deadline.MinSamples, time.Second)
	var f deadline.Feasible
	var sent atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				if f.Check(now, time.Millisecond, l) == nil {
					sent.Add(1)
				}
			}
		})
	}
	wg.Wait()
	// One in twenty, and the first of the second unless one of those came before it.
	if got, want := sent.Load(), int64(callers*each/20); got != want && got != want+1 {
		t.Fatalf("%d sent, want %d or one more", got, want)
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	now := time.Now()
	l := learned(now, deadline.MinSamples, time.Second)
	var f deadline.Feasible
	_ = f.Check(now, time.Millisecond, l) // first use
	if n := testing.AllocsPerRun(1000, func() {
		_ = f.Check(now, time.Millisecond, l)
		_ = f.Check(now, time.Minute, l)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	now := time.Now()
	l := learned(now, deadline.MinSamples, time.Second)
	var f deadline.Feasible
	b.ReportAllocs()
	for b.Loop() {
		_ = f.Check(now, time.Minute, l)
	}
}
