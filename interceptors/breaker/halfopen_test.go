package breaker_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcsteady/steady/interceptors/breaker"
)

// tripped returns a breaker that has just opened, to be called in a bubble.
func tripped(t testing.TB, cfg breaker.Config, opts ...breaker.Option) *breaker.Breaker {
	t.Helper()
	b := newBreaker(t, cfg, opts...)
	end(t, b, cfg.WithDefaults().ConsecutiveFailures, failure)
	wantState(t, b, breaker.Open)
	return b
}

func TestOpenTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := tripped(t, noJitter(breaker.Config{OpenTime: 60 * time.Second, Successes: 2}))
		if got := b.RetryAfter(time.Now()); got != 60*time.Second {
			t.Fatalf("RetryAfter %v", got)
		}
		time.Sleep(60*time.Second - 1)
		refused(t, b)
		if got := b.RetryAfter(time.Now()); got != 1 {
			t.Fatalf("RetryAfter %v", got)
		}
		time.Sleep(1)
		wantState(t, b, breaker.Open) // nobody has asked yet
		if got := b.RetryAfter(time.Now()); got != 0 {
			t.Fatalf("RetryAfter %v", got)
		}
		probe := allow(t, b)
		wantState(t, b, breaker.HalfOpen)
		if !probe.Probe() {
			t.Fatal("not a probe")
		}
		refused(t, b)
		probe.Done(nil)
		wantState(t, b, breaker.HalfOpen)
		allow(t, b).Done(nil)
		if s := b.Snapshot(); s.State != breaker.Closed || s.Reason != breaker.ReasonRecovered || s.Calls != 0 || s.Generation != 4 || s.Trips != 1 {
			t.Fatalf("%+v", s)
		}
		if allow(t, b).Probe() {
			t.Fatal("a probe while closed")
		}
	})
}

func TestGrowth(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	pushback := func(d time.Duration) breaker.Outcome {
		return breaker.Outcome{Result: breaker.Failure, Pushback: d}
	}
	for _, tt := range []struct {
		name   string
		cfg    breaker.Config
		random float64
		ends   []breaker.Outcome // first the trip, then one per probe
		want   []time.Duration
	}{
		{"doubles to the cap", noJitter(breaker.Config{OpenTime: 5 * s}), 0, repeat(7, failure), []time.Duration{5 * s, 10 * s, 20 * s, 40 * s, 60 * s, 60 * s, 60 * s}},
		{"closing starts over", noJitter(breaker.Config{OpenTime: 5 * s, Successes: 1}), 0, join(repeat(3, failure), repeat(1, breaker.Outcome{}), repeat(2, failure)), []time.Duration{5 * s, 10 * s, 20 * s, 0, 5 * s, 10 * s}},
		{"by one and a half", noJitter(breaker.Config{OpenTime: 2 * s, OpenMultiplier: 1.5}), 0, repeat(4, failure), []time.Duration{2 * s, 3 * s, 4500 * ms, 6750 * ms}},
		{"not at all", noJitter(breaker.Config{OpenTime: s, OpenMultiplier: 1}), 0, repeat(3, failure), []time.Duration{s, s, s}},
		{"cap is the open time", noJitter(breaker.Config{OpenTime: 90 * s}), 0, repeat(2, failure), []time.Duration{90 * s, 90 * s}},
		{"least jitter", breaker.Config{}, 0, repeat(2, failure), []time.Duration{5 * s, 10 * s}},
		{"half of the default jitter", breaker.Config{}, 0.5, repeat(2, failure), []time.Duration{5250 * ms, 10500 * ms}},
		{"jitter comes after the cap", breaker.Config{OpenTime: 40 * s, OpenJitter: 1}, 0.25, repeat(3, failure), []time.Duration{50 * s, 75 * s, 75 * s}},
		{"a random source out of range", breaker.Config{OpenTime: 4 * s, MaxOpenTime: 4 * s, OpenJitter: 0.5}, 9, repeat(2, failure), []time.Duration{6 * s, 6 * s}},
		{"a negative random source", breaker.Config{OpenTime: 4 * s}, -9, repeat(1, failure), []time.Duration{4 * s}},
		{"pushback is a floor", noJitter(breaker.Config{OpenTime: 5 * s}), 0,
			[]breaker.Outcome{pushback(30 * s), pushback(s), failure, pushback(30 * s)}, []time.Duration{30 * s, 10 * s, 20 * s, 40 * s}},
		{"pushback is clamped", noJitter(breaker.Config{OpenTime: 5 * s}), 0, []breaker.Outcome{pushback(1 << 62), pushback(-1 << 63)}, []time.Duration{60 * s, 10 * s}},
		{"pushback is jittered", breaker.Config{OpenJitter: 1}, 0.5, []breaker.Outcome{pushback(20 * s)}, []time.Duration{30 * s}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.cfg.ConsecutiveFailures = 1
				b := newBreaker(t, tt.cfg, breaker.WithRandom(func() float64 { return tt.random }))
				for i, o := range tt.ends {
					token := allow(t, b)
					token.End(time.Now(), o)
					if got := b.RetryAfter(time.Now()); got != tt.want[i] {
						t.Fatalf("opening %d: %v, want %v", i, got, tt.want[i])
					}
					if tt.want[i] > 0 {
						if got := time.Until(b.Snapshot().OpenUntil); got != tt.want[i] {
							t.Fatalf("opening %d: OpenUntil in %v, want %v", i, got, tt.want[i])
						}
						time.Sleep(tt.want[i] - 1)
						refused(t, b)
						time.Sleep(1)
					}
				}
			})
		})
	}
}

func TestDefaultJitterStaysInRange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := map[time.Duration]bool{}
		for range 200 {
			d := tripped(t, breaker.Config{}).RetryAfter(time.Now())
			if d < 5*time.Second || d > 5500*time.Millisecond {
				t.Fatalf("open for %v", d)
			}
			seen[d] = true
		}
		if len(seen) < 100 {
			t.Fatalf("only %d different times of 200", len(seen))
		}
	})
}

func TestExactlyNProbes(t *testing.T) {
	for _, probes := range []int{1, 3, 17, 1000} {
		synctest.Test(t, func(t *testing.T) {
			b := tripped(t, breaker.Config{Probes: probes, Successes: 1000})
			for range 3 { // each round frees all slots
				time.Sleep(6 * time.Second)
				var admitted atomic.Int64
				start := make(chan struct{})
				tokens := make(chan breaker.Token, 1000)
				var wg sync.WaitGroup
				for range 1000 {
					wg.Go(func() {
						<-start
						if token, err := b.Allow(); err == nil {
							admitted.Add(1)
							tokens <- token
						}
					})
				}
				close(start)
				wg.Wait()
				close(tokens)
				if got := admitted.Load(); got != int64(probes) {
					t.Fatalf("%d of 1000 admitted, want %d", got, probes)
				}
				if got := b.Snapshot().ProbesInFlight; got != probes {
					t.Fatalf("ProbesInFlight %d", got)
				}
				for token := range tokens {
					wg.Go(func() { token.Done(context.Canceled) })
				}
				wg.Wait()
				if s := b.Snapshot(); s.ProbesInFlight != 0 || s.State != breaker.HalfOpen || s.Successes != 0 {
					t.Fatalf("%+v", s)
				}
			}
		})
	}
}

// TestProbeEnds runs one probe in every way a call can end, and expects the next caller to be let through,
// at once or after the open time.
func TestProbeEnds(t *testing.T) {
	for _, tt := range []struct {
		name  string
		call  func(breaker.Token)
		want  breaker.State
		waits time.Duration
	}{
		{"success", func(p breaker.Token) { p.Done(nil) }, breaker.HalfOpen, 0},
		{"failure", func(p breaker.Token) { p.Done(errDown) }, breaker.Open, 10 * time.Second},
		{"suspect", func(p breaker.Token) {
			p.End(time.Now(), breaker.Outcome{Result: breaker.Failure, RatioOnly: true})
		}, breaker.Open, 10 * time.Second},
		{"failure of one endpoint of many", func(p breaker.Token) { p.End(time.Now(), from("a", 5)) }, breaker.Open, 10 * time.Second},
		{"slow", func(p breaker.Token) { time.Sleep(time.Second); p.Done(nil) }, breaker.Open, 10 * time.Second},
		{"cancel", func(p breaker.Token) { p.Done(context.Canceled) }, breaker.HalfOpen, 0},
		{"panic", func(p breaker.Token) { defer func() { p.Done(errDown) }(); panic("a probe") }, breaker.Open, 10 * time.Second},
		{"panic, end forgotten", func(breaker.Token) { panic("a probe") }, breaker.HalfOpen, 5 * time.Second},
		{"Goexit", func(p breaker.Token) { defer p.Done(nil); runtime.Goexit() }, breaker.HalfOpen, 0},
		{"Goexit, end forgotten", func(breaker.Token) { runtime.Goexit() }, breaker.HalfOpen, 5 * time.Second},
		{"hang", nil, breaker.HalfOpen, 5 * time.Second},
		{"ended thrice", func(p breaker.Token) { p.Done(nil); p.Done(nil); p.Done(errDown) }, breaker.HalfOpen, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := tripped(t, noJitter(breaker.Config{Successes: 2, SlowRatio: 1, SlowAfter: time.Second}))
				time.Sleep(5 * time.Second)
				probe := allow(t, b)
				done, hang := make(chan struct{}), make(chan struct{})
				defer close(hang)
				go func() {
					defer close(done)
					defer func() { _ = recover() }()
					if tt.call == nil {
						<-hang
						return
					}
					tt.call(probe)
				}()
				if tt.call != nil {
					<-done
				}
				wantState(t, b, tt.want)
				if tt.waits > 0 {
					time.Sleep(tt.waits - 1)
					refused(t, b)
					time.Sleep(1)
				}
				if next := allow(t, b); !next.Probe() {
					t.Fatal("not a probe")
				}
				refused(t, b) // and exactly one
			})
		})
	}
}

// TestHungProbe: its slot is given on after one open interval; its late end counts, but frees nothing that
// is not its own.
func TestHungProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := tripped(t, noJitter(breaker.Config{Probes: 2, Successes: 3}))
		time.Sleep(5 * time.Second)
		hung := allow(t, b)
		time.Sleep(time.Second)
		other := allow(t, b)
		refused(t, b)
		time.Sleep(4 * time.Second) // hung is due, other is not
		third := allow(t, b)
		refused(t, b)
		hung.Done(nil)
		if s := b.Snapshot(); s.Successes != 1 || s.ProbesInFlight != 2 {
			t.Fatalf("%+v", s)
		}
		refused(t, b)
		hung.Done(nil)
		if s := b.Snapshot(); s.Successes != 1 {
			t.Fatalf("counted twice: %+v", s)
		}
		third.Done(nil)
		other.Done(nil)
		wantState(t, b, breaker.Closed)
	})
}

func TestHungProbesForeverKeepProbing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := tripped(t, noJitter(breaker.Config{Probes: 2}))
		admitted := 0
		for range 100 { // all hang
			time.Sleep(5 * time.Second)
			for range 10 {
				if _, err := b.Allow(); err == nil {
					admitted++
				}
			}
		}
		if admitted != 200 || b.Snapshot().ProbesInFlight != 2 {
			t.Fatalf("%d admitted, %+v", admitted, b.Snapshot())
		}
		b.Reset()
		wantState(t, b, breaker.Closed)
	})
}

// TestLateResults: what was admitted in an older generation changes nothing in any later one.
func TestLateResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, noJitter(breaker.Config{Probes: 2, Successes: 2}))
		var late []breaker.Token
		for range 100 {
			late = append(late, allow(t, b))
		}
		end(t, b, 5, failure)
		check := func(where string) {
			t.Helper()
			want := b.Snapshot()
			for i, token := range late {
				token.End(time.Now(), breaker.Outcome{Result: breaker.Result(i % 3), Pushback: time.Hour})
			}
			if got := b.Snapshot(); got != want {
				t.Fatalf("%s: %+v became %+v", where, want, got)
			}
		}
		check("open")
		time.Sleep(5 * time.Second)
		probe, leftover := allow(t, b), allow(t, b)
		check("half-open")
		probe.Done(nil)
		check("half-open with a success")
		probe = allow(t, b)
		probe.Done(errDown)
		late = append(late, leftover)
		check("open again")
		time.Sleep(10 * time.Second)
		allow(t, b).Done(nil)
		check("half-open again")
		allow(t, b).Done(nil)
		wantState(t, b, breaker.Closed)
		check("closed again")
		end(t, b, 4, failure)
		check("closed with four failures")
		end(t, b, 1, failure)
		wantState(t, b, breaker.Open)
	})
}

// TestProbesUnderLoad has callers of all kinds at work while the breaker cycles, and holds the number of
// probes in flight to its limit at every admission.
func TestProbesUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const probes = 3
		b := newBreaker(t, noJitter(breaker.Config{Probes: probes, Successes: 4, OpenTime: time.Second, MaxOpenTime: time.Second}))
		var inFlight, most, seen atomic.Int64
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				for j := range 200 {
					if token, err := b.Allow(); err == nil {
						if token.Probe() {
							seen.Add(1)
							n := inFlight.Add(1)
							for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
							}
						}
						time.Sleep(time.Duration(1+(i*7+j)%20) * time.Millisecond)
						if token.Probe() {
							inFlight.Add(-1)
						}
						switch (i + j/50) % 3 {
						case 0:
							token.Done(errDown)
						case 1:
							token.Done(nil)
						default:
							token.Done(context.Canceled)
						}
					} else {
						time.Sleep(50 * time.Millisecond)
					}
				}
			})
		}
		wg.Wait()
		if most.Load() > probes || seen.Load() == 0 {
			t.Fatalf("%d probes at a time, %d in all", most.Load(), seen.Load())
		}
		if s := b.Snapshot(); s.ProbesInFlight != 0 || s.Trips < 2 {
			t.Fatalf("%+v", s)
		}
	})
}
