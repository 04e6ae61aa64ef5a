package deadline_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/grpcsteady/steady/interceptors/deadline"
)

// near reports whether an estimate is as close as Learned promises.
func near(got, want time.Duration) bool {
	switch {
	case want < 8192:
		return max(got-want, want-got) < 1024
	case want > 18*time.Minute:
		return got > 17*time.Minute
	default:
		return math.Abs(float64(got-want)) <= 0.0625*float64(want)
	}
}

// TestQuantileAgainstSortedSamples is the property that an estimate is as good as promised, whatever the
// durations look like.
func TestQuantileAgainstSortedSamples(t *testing.T) {
	shapes := map[string]func(r *rand.Rand) time.Duration{
		"uniform":     func(r *rand.Rand) time.Duration { return time.Duration(r.Int64N(int64(time.Second))) },
		"exponential": func(r *rand.Rand) time.Duration { return time.Duration(r.ExpFloat64() * float64(20*time.Millisecond)) },
		"lognormal": func(r *rand.Rand) time.Duration {
			return time.Duration(math.Exp(r.NormFloat64()*2) * float64(5*time.Millisecond))
		},
		"two modes": func(r *rand.Rand) time.Duration {
			if r.IntN(10) == 0 {
				return 2*time.Second + time.Duration(r.Int64N(1000))
			}
			return 300*time.Microsecond + time.Duration(r.Int64N(1000))
		},
		"constant":   func(*rand.Rand) time.Duration { return 1234567 },
		"tiny":       func(r *rand.Rand) time.Duration { return time.Duration(r.IntN(20_000)) },
		"everything": func(r *rand.Rand) time.Duration { return time.Duration(r.Uint64() >> (1 + r.IntN(63))) },
	}
	for name, draw := range shapes {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(40) {
				r := rand.New(rand.NewPCG(seed, 7))
				now := time.Now()
				var l deadline.Learned
				samples := make([]time.Duration, deadline.MinSamples+r.IntN(2000))
				for i := range samples {
					samples[i] = draw(r)
					l.Observe(now, samples[i])
				}
				slices.Sort(samples)
				for _, q := range []float64{0, 0.01, 0.5, r.Float64(), 0.95, 0.999, 1} {
					want := samples[max(int(math.Ceil(q*float64(len(samples)))), 1)-1]
					got, n := l.Quantile(now, q)
					if n != len(samples) || !near(got, want) {
						t.Fatalf("seed %d: quantile %v is %v of %d samples, want %v of %d", seed, q, got, n, want, len(samples))
					}
				}
			}
		})
	}
}

func TestFewSamplesSayNothing(t *testing.T) {
	var l deadline.Learned
	now := time.Now()
	for i := range deadline.MinSamples {
		if d, n := l.Quantile(now, 0.5); d != 0 || n != i {
			t.Fatalf("after %d samples: %v of %d", i, d, n)
		}
		if d, ok := l.Median(now); ok {
			t.Fatalf("after %d samples the median is %v", i, d)
		}
		l.Observe(now, time.Second)
	}
	if d, ok := l.Median(now); !ok || !near(d, time.Second) {
		t.Fatalf("after %d samples the median is %v, known %v", deadline.MinSamples, d, ok)
	}
}

func TestOddQuantilesAndDurations(t *testing.T) {
	var l deadline.Learned
	now := time.Now()
	for range deadline.MinSamples {
		l.Observe(now, math.MinInt64)
		l.Observe(now, math.MaxInt64)
	}
	tests := map[string]struct {
		q      float64
		lo, hi time.Duration
	}{
		"below 0": {-3, 0, 1024},
		"-Inf":    {math.Inf(-1), 0, 1024},
		"above 1": {7, 17 * time.Minute, 18 * time.Minute},
		"+Inf":    {math.Inf(1), 17 * time.Minute, 18 * time.Minute},
		"NaN":     {math.NaN(), 0, 0},
	}
	for name, tt := range tests {
		if d, n := l.Quantile(now, tt.q); d < tt.lo || d > tt.hi || n != 2*deadline.MinSamples {
			t.Errorf("%s: %v of %d, want between %v and %v", name, d, n, tt.lo, tt.hi)
		}
	}
}

// TestExpiry holds a Learned against a list of stamped samples, under random pauses.
func TestExpiry(t *testing.T) {
	const generation = 15 * time.Second
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 3))
		synctest.Test(t, func(t *testing.T) {
			var l deadline.Learned
			start := time.Now()
			type sample struct {
				gen int64
				d   time.Duration
			}
			var all []sample
			for range 300 {
				pause := time.Second
				if r.IntN(20) == 0 {
					pause = 50 * time.Second
				}
				time.Sleep(time.Duration(r.Int64N(int64(pause))))
				now := time.Now()
				if len(all) == 0 {
					start = now // a Learned counts from its first use
				}
				gen := int64(now.Sub(start) / generation)
				s := sample{gen, time.Duration(1+r.IntN(100)) * time.Millisecond}
				all = append(all, s)
				l.Observe(now, s.d)

				var want []time.Duration
				for _, s := range all {
					if s.gen >= gen-1 {
						want = append(want, s.d)
					}
				}
				slices.Sort(want)
				got, n := l.Quantile(now, 0.5)
				if n != len(want) {
					t.Fatalf("seed %d: %d samples, want %d", seed, n, len(want))
				}
				if n >= deadline.MinSamples && !near(got, want[(n+1)/2-1]) {
					t.Fatalf("seed %d: median %v, want %v", seed, got, want[(n+1)/2-1])
				}
			}
		})
	}
}

func TestMedianExpiresAt30Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l deadline.Learned
		for range deadline.MinSamples {
			l.Observe(time.Now(), time.Second)
		}
		time.Sleep(30*time.Second - 1)
		if _, ok := l.Median(time.Now()); !ok {
			t.Fatal("forgotten before 30 s")
		}
		time.Sleep(1)
		if d, ok := l.Median(time.Now()); ok {
			t.Fatalf("after 30 s still %v", d)
		}
	})
}

func TestMedianIsKept100Milliseconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l deadline.Learned
		for range deadline.MinSamples {
			l.Observe(time.Now(), time.Millisecond)
		}
		before, _ := l.Median(time.Now())
		for range 10 * deadline.MinSamples {
			l.Observe(time.Now(), time.Second)
		}
		time.Sleep(100*time.Millisecond - 1)
		if got, _ := l.Median(time.Now()); got != before {
			t.Fatalf("computed again after less than 100 ms: %v", got)
		}
		time.Sleep(1)
		if got, ok := l.Median(time.Now()); !ok || !near(got, time.Second) {
			t.Fatalf("after 100 ms the median is %v, known %v", got, ok)
		}
	})
}

// TestZeroValueInABubble takes a Learned from the real clock into a bubble, where it is the year 2000.
func TestZeroValueInABubble(t *testing.T) {
	var l deadline.Learned
	fill := func() {
		for range deadline.MinSamples {
			l.Observe(time.Now(), time.Second)
		}
		if _, ok := l.Median(time.Now()); !ok {
			t.Error("nothing learned")
		}
	}
	fill()
	synctest.Test(t, func(*testing.T) { fill() })
	fill()
}

// TestConcurrentObserve crosses several generations with eight writers and a reader. No sample of the
// generation under way is lost, not even while the histograms turn over; of the one before, those that came
// in at that moment may have been put into the histogram that is gone by now.
func TestConcurrentObserve(t *testing.T) {
	const writers, each, rounds = 8, 2000, 6
	start := time.Now()
	var l deadline.Learned
	for round := range rounds {
		now := start.Add(time.Duration(round) * 15 * time.Second)
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					l.Observe(now, time.Duration(w*each+i)*time.Microsecond)
				}
			})
		}
		wg.Go(func() {
			for range 100 {
				if d, _ := l.Quantile(now, 1); d > time.Second {
					t.Errorf("%v was never observed", d)
				}
				l.Median(now)
			}
		})
		wg.Wait()
		const one = writers * each
		if _, n := l.Quantile(now, 0.5); n < one || n > one*min(round+1, 2) {
			t.Fatalf("round %d: %d samples, want %d and up to as many of the round before", round, n, one)
		}
	}
}

// TestLateClock observes with a reading that is older than what others have brought in since.
func TestLateClock(t *testing.T) {
	var l deadline.Learned
	start := time.Now()
	l.Observe(start, time.Second)
	now := start.Add(40 * time.Second)
	for range deadline.MinSamples {
		l.Observe(now, time.Millisecond)
		l.Observe(start.Add(-time.Hour), time.Millisecond)
	}
	if d, n := l.Quantile(now, 1); n < deadline.MinSamples || !near(d, time.Millisecond) {
		t.Fatalf("%v of %d samples", d, n)
	}
}

func TestLearnedIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(deadline.Learned{}); size > 2048 {
		t.Fatalf("%d bytes, documented are less than 2 KiB", size)
	}
}

func TestLearnedAllocatesNothing(t *testing.T) {
	var l deadline.Learned
	now := time.Now()
	l.Observe(now, time.Millisecond) // first use
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(20 * time.Millisecond)
		l.Observe(now, 3*time.Millisecond)
		l.Median(now)
		l.Quantile(now, 0.99)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	var l deadline.Learned
	now := time.Now()
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.Observe(now, 3*time.Millisecond)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for d := time.Millisecond; pb.Next(); d += time.Microsecond {
				l.Observe(now, d)
			}
		})
	})
}

func BenchmarkMedian(b *testing.B) {
	var l deadline.Learned
	now := time.Now()
	for range deadline.MinSamples {
		l.Observe(now, time.Millisecond)
	}
	b.ReportAllocs()
	for b.Loop() {
		l.Median(now)
	}
}

func BenchmarkQuantile(b *testing.B) {
	var l deadline.Learned
	now := time.Now()
	for i := range 10_000 {
		l.Observe(now, time.Duration(i)*time.Microsecond)
	}
	b.ReportAllocs()
	for b.Loop() {
		l.Quantile(now, 0.99)
	}
}
