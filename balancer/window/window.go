// Package window counts what happened in the last few seconds, exactly.
//
// A [Window] is a ring of buckets. Each bucket holds one slice of the span, and a bucket that has left the
// span counts for nothing any more: unlike a decaying average, a tight burst of failures is neither smeared
// over the past nor remembered for ever. With ten buckets of one second, a sum covers the bucket under way
// and the nine before it, so between nine and ten seconds.
//
// Adding is what every call pays: one clock comparison and one atomic addition, no lock. The buckets are
// spread over a few shards, so that cores do not fight over one cache line. A lock is taken only when a
// bucket is turned over, once in each slice.
//
// Not for percentiles or averages: it counts kinds of events, no values.
package window

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Kinds is how many kinds of events one window counts. What each kind means is the caller's business.
const Kinds = 4

// maxShards bounds what a window costs on a large machine: 8 shards of 10 buckets are 5 KiB.
const maxShards = 8

// Sums holds how often each kind was counted within the span.
type Sums [Kinds]int64

// Total returns the sum over all kinds.
func (s Sums) Total() int64 {
	var n int64
	for _, v := range s {
		n += v
	}
	return n
}

// Window counts events in a sliding span of time. Its methods may be called from any goroutine.
type Window struct {
	epoch   time.Time // carries the monotonic clock, so a jump of the wall clock moves nothing
	width   time.Duration
	buckets int64
	last    atomic.Int64 // the slice last asked for, as stamp*maxBuckets + place in the ring
	mask    uint32       // shards - 1; the number of shards is a power of two
	shards  []shard
}

// shard is one ring. Rings differ only in who writes them; a sum reads all.
type shard struct {
	mu   sync.Mutex // guards turning a bucket over
	ring []bucket
}

// maxBuckets is a power of two, so that the place in the ring is taken out of a number by a mask.
const maxBuckets = 1024

// bucket fills one cache line, so that neighbours do not disturb each other.
type bucket struct {
	stamp atomic.Int64 // which slice since the epoch the counts belong to, plus one; 0 is never used
	n     [Kinds]atomic.Int64
	_     [64 - 8 - 8*Kinds]byte
}

// New returns a window of the given span, cut into 1 to 1024 buckets; a number outside is moved to the nearest
// end, and a span below one nanosecond per bucket is raised to it.
func New(span time.Duration, buckets int) *Window {
	shards := 1
	for shards < 2*runtime.GOMAXPROCS(0) && shards < maxShards {
		shards *= 2
	}
	return build(span, buckets, shards)
}

// NewSingle returns a window of one shard, for where there are thousands of windows and none is written by all
// cores at once: ten buckets are 640 bytes.
func NewSingle(span time.Duration, buckets int) *Window { return build(span, buckets, 1) }

func build(span time.Duration, buckets, shards int) *Window {
	buckets = min(max(buckets, 1), maxBuckets)
	width := max(span/time.Duration(buckets), 1)
	w := &Window{
		epoch:   time.Now(),
		width:   width,
		buckets: int64(buckets),
		mask:    uint32(shards - 1), //nolint:gosec // 0 to 7
		shards:  make([]shard, shards),
	}
	for i := range w.shards {
		w.shards[i].ring = make([]bucket, buckets)
	}
	return w
}

// Span returns the time a window covers.
func (w *Window) Span() time.Duration { return w.width * time.Duration(w.buckets) }

// slice returns the number of the slice of time that now lies in, from 1, and its place in the ring. An
// instant before the epoch belongs to the first slice. Nearly always it is the slice of the call before,
// which is found without a division.
func (w *Window) slice(now time.Time) (stamp, place int64) {
	at := max(now.Sub(w.epoch), 0)
	if last := w.last.Load(); last != 0 {
		stamp, place = last/maxBuckets, last%maxBuckets
		if begin := time.Duration(stamp-1) * w.width; at >= begin && at-begin < w.width {
			return stamp, place
		}
	}
	stamp = int64(at/w.width) + 1
	place = stamp % w.buckets
	w.last.Store(stamp*maxBuckets + place)
	return stamp, place
}

// Add counts one event of the kind at now. An event so late that its bucket has been turned over since is
// counted in the bucket that took its place: an event is never lost while it is still within two spans.
func (w *Window) Add(now time.Time, kind int) {
	s := &w.shards[Here()&w.mask]
	stamp, place := w.slice(now)
	b := &s.ring[place]
	if b.stamp.Load() < stamp {
		s.turn(b, stamp)
	}
	b.n[kind].Add(1)
}

// turn empties a bucket for a new slice of time, unless another goroutine has just done so.
func (s *shard) turn(b *bucket, stamp int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.stamp.Load() >= stamp {
		return
	}
	for i := range b.n {
		b.n[i].Store(0)
	}
	b.stamp.Store(stamp)
}

// Here returns a number that stays the same for a goroutine as long as its stack stays where it is, and
// differs between goroutines: each keeps to one shard, so that two which run at once on two cores rarely
// write the same cache line. A random shard would be someone else's half of the time, on two cores as on
// many. It is only a hint: which shard counts an event changes no sum. It is exported for others that count in
// shards, and costs about a nanosecond.
func Here() uint32 {
	var b byte
	page := uintptr(unsafe.Pointer(&b)) >> 11 //nolint:gosec // the address is hashed, never used as one
	return uint32(page * 0x9E3779B1 >> 16)    //nolint:gosec // the low bits of a hash
}

// Sum returns what was counted within the span that ends at now.
func (w *Window) Sum(now time.Time) Sums {
	var sums Sums
	last, _ := w.slice(now)
	for i := range w.shards {
		for j := range w.shards[i].ring {
			b := &w.shards[i].ring[j]
			stamp := b.stamp.Load()
			if stamp == 0 || stamp <= last-w.buckets {
				continue
			}
			for k := range sums {
				sums[k] += b.n[k].Load()
			}
		}
	}
	return sums
}

// Reset forgets everything.
func (w *Window) Reset() {
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		for j := range s.ring {
			b := &s.ring[j]
			for k := range b.n {
				b.n[k].Store(0)
			}
		}
		s.mu.Unlock()
	}
}
