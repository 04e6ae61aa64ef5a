package deadline

import (
	"sync/atomic"
	"time"
)

const (
	probeOneIn = 20
	probeEvery = time.Second
)

// Feasible decides whether a first attempt is worth sending, for [FeasibilityAll]. The zero value is ready
// to use, and its methods may be called from any goroutine. It must not be copied after first use.
//
// Whoever refuses calls because they are slow never learns that they have become fast. So 1 in 20 of the
// calls that would be refused is sent as a probe, and at least one in each second; together with the
// expiry of [Learned] this keeps a method from being starved by its own past.
type Feasible struct {
	clock clock
	tight atomic.Uint64 // calls that came with too little time
	probe atomic.Int64  // when the last of them was sent all the same, on clock, plus one; 0: never
}

// Check returns nil if an attempt with this much time left should be sent, and [ErrExhausted] if the median
// of what was learned is longer than that. With fewer than [MinSamples] samples, or a nil l, it refuses
// nothing. A call with no time left at all is no probe, as nothing can be learned from it.
func (f *Feasible) Check(now time.Time, left time.Duration, l *Learned) error {
	if l == nil {
		return nil
	}
	median, known := l.Median(now)
	if !known || left >= median {
		return nil
	}
	if left <= 0 || !f.mayProbe(now) {
		return ErrExhausted
	}
	return nil
}

// mayProbe counts a call that would be refused and reports whether it goes through.
func (f *Feasible) mayProbe(now time.Time) bool {
	t := int64(f.clock.since(now)) + 1
	if f.tight.Add(1)%probeOneIn == 0 {
		f.probe.Store(t)
		return true
	}
	last := f.probe.Load()
	// Of those that find the second over at the same instant, one is the probe.
	return (last == 0 || t-last >= int64(probeEvery)) && f.probe.CompareAndSwap(last, t)
}
