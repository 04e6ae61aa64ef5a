package pool

import (
	"math"
	"testing"
	"time"
)

const tick = int64(1) << tickShift

func TestFallenFollowsTheExponential(t *testing.T) {
	for _, tau := range []time.Duration{100 * time.Millisecond, 10 * time.Second, 10 * time.Minute} {
		for i := range 40_000 {
			age := time.Duration(float64(tau) * float64(i) / 2500) // up to 16 tau
			got, want := fallen(age, tau), math.Exp(-float64(age)/float64(tau))
			if math.Abs(got-want) > 0.001*want {
				t.Fatalf("fallen(%v, %v) = %v, want %v within 0.1 %%", age, tau, got, want)
			}
		}
		if got := fallen(17*tau, tau); got != 0 {
			t.Errorf("after 17 tau %v is left, want nothing", got)
		}
		if got := fallen(-time.Hour, tau); got != 1 {
			t.Errorf("of what lies ahead %v is left, want all", got)
		}
	}
}

func TestPeakRisesAtOnceAndFallsSlowly(t *testing.T) {
	const tau = 10 * time.Second
	var d decaying
	if got := d.at(5*tick, tau); got != 0 {
		t.Fatalf("nothing was observed: %v", got)
	}
	d.peak(0, tau, 1e6)
	d.peak(10*tick, tau, 5e6)
	if got := d.at(10*tick, tau); got != 5e6 {
		t.Fatalf("%v after a rise to 5e6", got)
	}
	// One tau of observations at 1e6, however many there are, takes 1/e of the difference.
	for _, step := range []int64{1, 7, 100} {
		var d decaying
		d.peak(0, tau, 5e6)
		n := int64(tau) / tick
		last := int64(0)
		for i := step; i <= n; i += step {
			d.peak(i*tick, tau, 1e6)
			last = i
		}
		want := 1e6 + 4e6*math.Exp(-float64(last*tick)/float64(tau))
		if got := d.at(last*tick, tau); math.Abs(got-want) > 0.005*want {
			t.Errorf("observed every %d ticks: %v after one tau, want %v", step, got, want)
		}
	}
	// Many within one tick are no more than one.
	var dense decaying
	dense.peak(0, tau, 5e6)
	for range 10_000 {
		dense.peak(tick/2, tau, 1e6)
	}
	if got := dense.at(tick/2, tau); got != 5e6 {
		t.Errorf("%v after many observations in no time, want 5e6", got)
	}
}

func TestWhatLiesAheadDoesNotFall(t *testing.T) {
	const tau = time.Second
	var d decaying
	d.change(0, tau, func(float64, int64) (float64, int64) { return 100, 10 * int64(time.Second) })
	for _, at := range []time.Duration{0, time.Second, 9 * time.Second} {
		if got := d.at(int64(at), tau); got != 100 {
			t.Errorf("%v at %v, want 100 until 10s", got, at)
		}
	}
	if got, want := d.at(int64(11*time.Second), tau), 100/math.E; math.Abs(got-want) > 1 {
		t.Errorf("%v one tau after, want %v", got, want)
	}
	d.peak(int64(time.Second), tau, 1)
	if got := d.at(int64(time.Second), tau); got != 100 {
		t.Errorf("an observation took what lies ahead to %v", got)
	}
	// Who changes it is told how far ahead it lies, so that it need not be shortened.
	d.change(int64(2*time.Second), tau, func(v float64, held int64) (float64, int64) {
		if v != 100 || held < 10*int64(time.Second)-tick || held > 10*int64(time.Second)+tick {
			t.Errorf("v %v held until %v, want 100 until 10s", v, time.Duration(held))
		}
		return v, held
	})
	d.change(int64(20*time.Second), tau, func(v float64, held int64) (float64, int64) {
		if held != int64(20*time.Second) {
			t.Errorf("held until %v, want now", time.Duration(held))
		}
		return 0, held
	})
	if d.bits.Load() != 0 {
		t.Error("0 is not nothing")
	}
}

func TestTicksWrapAround(t *testing.T) {
	const tau = 10 * time.Second
	wrap := int64(math.MaxUint32) + 1
	for name, begin := range map[string]int64{"at the wrap": (wrap - 5) * tick, "at half of it": (wrap/2 - 5) * tick, "late": (3*wrap - 5) * tick} {
		var d decaying
		d.peak(begin, tau, 1e6)
		for _, age := range []time.Duration{0, time.Second, 30 * time.Second} {
			got, want := d.at(begin+int64(age), tau), 1e6*math.Exp(-float64(age)/float64(tau))
			if math.Abs(got-want) > 0.002*want {
				t.Errorf("%s: %v at age %v, want %v", name, got, age, want)
			}
		}
		// A number that nobody looked at for most of a year is gone, not ahead of its time.
		for _, days := range []int64{1, 100, 209, 300, 416} {
			if got := d.at(begin+days*int64(24*time.Hour), tau); got != 0 {
				t.Errorf("%s: %v after %d days", name, got, days)
			}
		}
	}
}

func FuzzDecaying(f *testing.F) {
	f.Add(int64(0), int64(1e9), 1e6, int64(5e9), 3.0)
	f.Add(int64(1)<<62, int64(-1), math.MaxFloat64, int64(1), math.NaN())
	f.Fuzz(func(t *testing.T, now, step int64, v float64, ahead int64, w float64) {
		sane := func(x float64) float64 { // what callers can come to: durations, and shares of 1
			if !(x >= 0) {
				return 0
			}
			return min(x, math.MaxInt64)
		}
		now, v, w = max(now, 0), sane(v), sane(w)
		var d decaying
		check := func(at int64) {
			if got := d.at(at, 10*time.Second); math.IsNaN(got) || got < 0 || got > 1.001*max(v, w, 1) {
				t.Fatalf("%v at %d after %v and %v", got, at, v, w)
			}
		}
		for i := range int64(4) {
			d.peak(now+i*step, 10*time.Second, v)
			check(now + i*step)
			d.change(now+i*step, 10*time.Second, func(float64, int64) (float64, int64) { return w, now + ahead })
			check(now + (i+1)*step)
			check(now)
		}
	})
}
