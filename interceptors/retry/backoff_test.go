package retry_test

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/grpcsteady/steady/interceptors/retry"
)

func TestBackoff(t *testing.T) {
	with := func(j retry.Jitter) retry.Config {
		return retry.Config{InitialBackoff: 100 * ms, MaxBackoff: time.Second, Multiplier: 2, Jitter: j}.WithDefaults()
	}
	steep := retry.Config{InitialBackoff: 10 * ms, MaxBackoff: time.Second, Multiplier: 10, Jitter: retry.NoJitter}.WithDefaults()
	flat := retry.Config{InitialBackoff: 70 * ms, Multiplier: 1, Jitter: retry.NoJitter}.WithDefaults()
	for _, tt := range []struct {
		name     string
		cfg      retry.Config
		n        int
		previous time.Duration
		random   float64
		want     time.Duration
	}{
		{"none, first", with(retry.NoJitter), 0, 0, 0.9, 100 * ms},
		{"none, fourth", with(retry.NoJitter), 3, 0, 0.9, 800 * ms},
		{"none, capped", with(retry.NoJitter), 4, 0, 0.9, time.Second},
		{"none, far out", with(retry.NoJitter), math.MaxInt, 0, 0.9, time.Second},
		{"none, before the first", with(retry.NoJitter), -7, 0, 0.9, 100 * ms},
		{"none, by ten", steep, 1, 0, 0, 100 * ms},
		{"none, by ten, capped", steep, 3, 0, 0, time.Second},
		{"none, by one", flat, 1000, 0, 0, 70 * ms},

		{"full, at once", with(retry.FullJitter), 3, 0, 0, 0},
		{"full, quarter", with(retry.FullJitter), 3, 0, 0.25, 200 * ms},
		{"full, capped", with(retry.FullJitter), 60, 0, 0.25, 250 * ms},
		{"full, random beyond its range", with(retry.FullJitter), 60, 0, 7, time.Second},
		{"full, random below its range", with(retry.FullJitter), 60, 0, -7, 0},
		{"full, random that is none", with(retry.FullJitter), 60, 0, math.NaN(), 0},

		{"equal, least", with(retry.EqualJitter), 1, 0, 0, 100 * ms},
		{"equal, middle", with(retry.EqualJitter), 1, 0, 0.5, 150 * ms},
		{"equal, capped", with(retry.EqualJitter), 60, 0, 0.5, 750 * ms},
		{"equal, random that is none", with(retry.EqualJitter), 60, 0, math.NaN(), 500 * ms},

		{"decorrelated, first, least", with(retry.DecorrelatedJitter), 0, 0, 0, 100 * ms},
		{"decorrelated, first, middle", with(retry.DecorrelatedJitter), 0, 0, 0.5, 200 * ms},
		{"decorrelated, from the last wait and not from the count", with(retry.DecorrelatedJitter), 40, 200 * ms, 0.5, 350 * ms},
		{"decorrelated, a wait below the base counts as the base", with(retry.DecorrelatedJitter), 1, ms, 0.5, 200 * ms},
		{"decorrelated, capped", with(retry.DecorrelatedJitter), 1, time.Second, 0.5, time.Second},
		{"decorrelated, after a century", with(retry.DecorrelatedJitter), 1, math.MaxInt64, 0.5, time.Second},
		{"decorrelated, negative", with(retry.DecorrelatedJitter), 1, math.MinInt64, 0.5, 200 * ms},

		{"an unknown jitter is full", with(9), 1, 0, 0.5, 100 * ms},
		{"no config", retry.Config{}, 3, 0, 0.5, 0},
		{"no base, for ever", retry.Config{Multiplier: 10, MaxBackoff: time.Second}, math.MaxInt, 0, 0.5, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.cfg.Backoff(tt.n, tt.previous, tt.random); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestBackoffIsSpread draws from a seeded source and compares with the uniform distribution that each jitter
// promises: its ends, and a tenth of the waits in each tenth between them.
func TestBackoffIsSpread(t *testing.T) {
	const draws = 100_000
	cfg := retry.Config{InitialBackoff: 100 * ms, MaxBackoff: 10 * time.Second}.WithDefaults()
	for _, tt := range []struct {
		jitter      retry.Jitter
		least, most time.Duration // for n = 2, and 400 ms before
	}{
		{retry.FullJitter, 0, 400 * ms},
		{retry.EqualJitter, 200 * ms, 400 * ms},
		{retry.DecorrelatedJitter, 100 * ms, 1200 * ms},
		{retry.NoJitter, 400 * ms, 400 * ms},
	} {
		t.Run(tt.jitter.String(), func(t *testing.T) {
			cfg.Jitter = tt.jitter
			random := rand.New(rand.NewPCG(1, uint64(tt.jitter)))
			var tenths [10]int
			var sum float64
			for range draws {
				wait := cfg.Backoff(2, 400*ms, random.Float64())
				if wait < tt.least || wait > tt.most {
					t.Fatalf("%v, want %v to %v", wait, tt.least, tt.most)
				}
				sum += float64(wait)
				if tt.most > tt.least {
					tenths[min(9, 10*(wait-tt.least)/(tt.most-tt.least))]++
				}
			}
			mean, want := sum/draws, float64(tt.least+tt.most)/2
			if math.Abs(mean-want) > 0.01*want {
				t.Errorf("mean %v, want %v", time.Duration(mean), time.Duration(want))
			}
			if tt.most == tt.least {
				return
			}
			for i, n := range tenths { // 5 sigma of a binomial with p = 0.1
				if d := math.Abs(float64(n) - draws/10); d > 5*math.Sqrt(draws*0.1*0.9) {
					t.Errorf("tenth %d holds %d of %d waits", i, n, draws)
				}
			}
		})
	}
}

func FuzzBackoff(f *testing.F) {
	f.Add(uint8(0), int64(25*ms), int64(time.Second), 2.0, 0, int64(0), 0.5)
	f.Add(uint8(1), int64(1), int64(math.MaxInt64), 1e300, math.MaxInt, int64(math.MaxInt64), 0.9999999999999999)
	f.Add(uint8(2), int64(math.MaxInt64), int64(math.MaxInt64), 10.0, 3, int64(math.MaxInt64), 1.0)
	f.Add(uint8(3), int64(0), int64(-1), math.Inf(1), 7, int64(-1), math.NaN())
	f.Add(uint8(9), int64(math.MinInt64), int64(math.MinInt64), math.NaN(), math.MinInt, int64(math.MinInt64), math.Inf(-1))
	f.Fuzz(func(t *testing.T, jitter uint8, initial, most int64, multiplier float64, n int, previous int64, random float64) {
		cfg := retry.Config{
			InitialBackoff: time.Duration(initial), MaxBackoff: time.Duration(most), Multiplier: multiplier, Jitter: retry.Jitter(jitter),
		}
		got := cfg.Backoff(n, time.Duration(previous), random)
		if got < 0 || got > max(cfg.MaxBackoff, 0) {
			t.Fatalf("%+v: Backoff(%d, %d, %v) = %d, want 0 to %d", cfg, n, previous, random, got, most)
		}
		if cfg.Validate() != nil {
			return
		}
		// What a user may write also keeps the lower ends of the formulas.
		cfg = cfg.WithDefaults()
		got = cfg.Backoff(n, time.Duration(previous), random)
		least := map[retry.Jitter]time.Duration{
			retry.EqualJitter: cfg.InitialBackoff / 2, retry.DecorrelatedJitter: cfg.InitialBackoff, retry.NoJitter: cfg.InitialBackoff,
		}[cfg.Jitter]
		if got < least {
			t.Fatalf("%+v: Backoff(%d, %d, %v) = %v, want at least %v", cfg, n, previous, random, got, least)
		}
	})
}

// TestFullJitterSpendsLess plays clients that contend for one row, as in the AWS Architecture Blog's
// "Exponential Backoff And Jitter": each reads a version and writes it back, and a write whose version has
// changed meanwhile fails. Jitter must save calls and time against the plain exponential.
func TestFullJitterSpendsLess(t *testing.T) {
	type result struct {
		calls int
		took  time.Duration
	}
	play := func(j retry.Jitter) result {
		const clients = 100
		random := rand.New(rand.NewPCG(7, 7))
		cfg := retry.Config{InitialBackoff: 5 * ms, MaxBackoff: 2 * time.Second, Jitter: j}.WithDefaults()
		hop := func() time.Duration { return max(0, 10*ms+time.Duration(random.NormFloat64()*float64(2*ms))) }
		var q events
		for range clients {
			heap.Push(&q, event{at: hop(), version: -1})
		}
		var r result
		version := 0
		for len(q) > 0 {
			e := heap.Pop(&q).(event)
			r.took = e.at
			switch {
			case e.version < 0: // a read arrives; its answer comes back as a write
				e.version = version
				e.at += hop() + hop()
			case e.version == version:
				version++
				r.calls++
				continue
			default:
				r.calls++
				e.wait = cfg.Backoff(e.failed, e.wait, random.Float64())
				e.failed++
				e.version = -1
				e.at += hop() + e.wait + hop()
			}
			heap.Push(&q, e)
		}
		return r
	}
	none := play(retry.NoJitter)
	for _, j := range []retry.Jitter{retry.FullJitter, retry.EqualJitter, retry.DecorrelatedJitter} {
		got := play(j)
		t.Logf("%-12v %5d calls, %v; without jitter %d, %v", j, got.calls, got.took, none.calls, none.took)
		if got.calls*10 > none.calls*6 || got.took*4 > none.took {
			t.Errorf("%v: %d calls in %v, want at most 60 %% and a quarter of %d and %v", j, got.calls, got.took, none.calls, none.took)
		}
	}
}

type event struct {
	at      time.Duration
	version int // -1: about to read
	failed  int
	wait    time.Duration
}

type events []event

func (q events) Len() int           { return len(q) }
func (q events) Less(i, j int) bool { return q[i].at < q[j].at }
func (q events) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)        { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
