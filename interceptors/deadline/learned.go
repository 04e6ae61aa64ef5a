package deadline

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// MinSamples is how many durations must have been learned before anything is concluded from them.
const MinSamples = 20

const (
	// generation is how long one histogram is written. Two are read, so a sample counts for 15 to 30 s.
	generation = 15 * time.Second

	// medianFor is how long a median is good for: long enough that it costs nothing, short enough that a
	// change is seen within a few calls of a person.
	medianFor = 100 * time.Millisecond

	// Buckets are as wide as an eighth of the power of two they lie in; the first eight are one unit each.
	unitBits    = 10 // the unit is 1024 ns
	subBits     = 3
	subBuckets  = 1 << subBits
	bucketCount = 224 // up to 2^30 units, about 18 minutes
)

// Learned knows how long a method took lately. The zero value is ready to use, and its methods may be called
// from any goroutine. It must not be copied after first use.
//
// It is a histogram whose buckets grow with the duration: an estimate is within 6.25 % of the true value, or
// within 1 us below 8 us; what took longer than 18 minutes counts as 18. Samples are forgotten after 15 to
// 30 s, in steps of 15 s. A Learned takes less than 2 KiB, whatever it is fed.
type Learned struct {
	clock    clock
	medianAt atomic.Int64 // when median was computed, on clock, plus one; 0: never
	median   atomic.Int64 // written before medianAt, read after it
	gens     [2]histogram // the generation with number g is in g mod 2
}

// histogram is one generation.
type histogram struct {
	stamp atomic.Int64 // number of the generation, from 1; 0: never used, turning: being emptied
	n     [bucketCount]atomic.Uint32
}

const turning = -1

// Observe learns that a call which ended at now took d. Of one that was cut off nothing is known but that it
// would have taken longer; whoever learns from those too should keep that in mind.
//
// It takes no lock and allocates nothing, but for 24 bytes on first use.
func (l *Learned) Observe(now time.Time, d time.Duration) {
	g := generationAt(l.clock.since(now))
	h := &l.gens[g&1]
	if stamp := h.stamp.Load(); stamp < g && !h.turn(stamp, g) {
		// Another goroutine empties this histogram. The one before it counts just as much, if not as long.
		h = &l.gens[(g&1)^1]
	}
	h.n[bucketOf(d)].Add(1)
}

// turn makes the histogram one of generation g and reports whether that is done.
func (h *histogram) turn(stamp, g int64) bool {
	if stamp == turning {
		return false
	}
	if stamp == 0 { // nothing to empty
		return h.stamp.CompareAndSwap(0, g) || h.stamp.Load() >= g
	}
	if !h.stamp.CompareAndSwap(stamp, turning) {
		return h.stamp.Load() >= g
	}
	for i := range h.n {
		h.n[i].Store(0)
	}
	h.stamp.Store(g)
	return true
}

// Quantile returns how long the fraction q of the calls took at most, and how many samples it is drawn from.
// With fewer than [MinSamples] the duration is 0. q below 0 counts as 0, above 1 as 1; for NaN the duration
// is 0. The rank is the nearest one above: of 20 samples, 0.5 is the 10th.
//
// It reads some 450 counters; [Learned.Median] is for every call.
func (l *Learned) Quantile(now time.Time, q float64) (d time.Duration, samples int) {
	return l.quantile(generationAt(l.clock.since(now)), q)
}

func (l *Learned) quantile(g int64, q float64) (time.Duration, int) {
	var n [bucketCount]uint64
	var total uint64
	for i := range l.gens {
		h := &l.gens[i]
		if stamp := h.stamp.Load(); stamp <= 0 || stamp < g-1 {
			continue
		}
		for j := range h.n {
			v := uint64(h.n[j].Load())
			n[j] += v
			total += v
		}
	}
	if total < MinSamples || math.IsNaN(q) {
		return 0, int(min(total, math.MaxInt))
	}
	rank := max(math.Ceil(min(max(q, 0), 1)*float64(total)), 1)
	var sum uint64
	for j, v := range &n {
		sum += v
		if float64(sum) >= rank {
			return middleOf(j), int(min(total, math.MaxInt))
		}
	}
	return middleOf(bucketCount - 1), int(min(total, math.MaxInt))
}

// Median returns the median, and false if it is not known for want of samples. It is computed at most every
// 100 ms, and otherwise costs two atomic reads.
func (l *Learned) Median(now time.Time) (time.Duration, bool) {
	t := l.clock.since(now)
	g := generationAt(t)
	// Never past the end of a generation: an estimate expires when its samples do. That a median is not
	// known is not remembered, so that the twentieth sample is seen at once; few calls can be that early.
	if at := l.medianAt.Load() - 1; at >= 0 && int64(t)-at < int64(medianFor) && generationAt(time.Duration(at)) == g {
		return time.Duration(l.median.Load()), true
	}
	d, n := l.quantile(g, 0.5)
	if n < MinSamples {
		return 0, false
	}
	l.median.Store(int64(d))
	l.medianAt.Store(int64(t) + 1)
	return d, true
}

// generationAt numbers the generation an instant lies in, from 1.
func generationAt(t time.Duration) int64 { return int64(t/generation) + 1 }

// bucketOf returns the bucket of a duration.
func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0)) >> unitBits
	if v < subBuckets {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return min(shift*subBuckets+int(v>>shift), bucketCount-1) //nolint:gosec // v>>shift is below 16
}

// middleOf returns the duration in the middle of a bucket.
func middleOf(bucket int) time.Duration {
	low, shift := bucket, 0
	if bucket >= subBuckets {
		shift = bucket/subBuckets - 1
		low = bucket - shift*subBuckets
	}
	width := time.Duration(1) << (shift + unitBits)
	return time.Duration(low)*width + width/2
}

// clock measures time from its first use. It keeps a time.Time, not a number, because only the difference of
// two readings is free of jumps of the wall clock, and because a zero value cannot know when it will be used.
type clock struct{ epoch atomic.Pointer[time.Time] }

// since returns the time from the first use to now, at least 0.
func (c *clock) since(now time.Time) time.Duration {
	epoch := c.epoch.Load()
	if epoch == nil {
		epoch = c.start(now)
	}
	return max(now.Sub(*epoch), 0)
}

// start is apart from since so that the latter allocates nothing.
//
//go:noinline
func (c *clock) start(now time.Time) *time.Time {
	c.epoch.CompareAndSwap(nil, &now)
	return c.epoch.Load()
}
