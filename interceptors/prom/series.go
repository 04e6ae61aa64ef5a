package prom

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/balancer/window"
	"github.com/grpcsteady/steady/interceptors/steady"
)

// What every call pays is counted here and not by the library's counters and histograms: of a call and its attempt one
// atomic addition each for a bucket, a sum and a code, in a shard that a core has more or less to itself. The library's
// own take eight additions and two compare-and-swaps, half as long again on one core, and many times as long where two
// cores count the same method, as they write the same cache lines. What a scrape reads is the same.

// codeCount is how many codes are told apart; the last is for those that gRPC does not know.
const codeCount = int(codes.Unauthenticated) + 2

// shards is how many rows a tally has. Eight rows of two tallies with 15 bounds are 5 KiB for a method of a channel;
// fewer would save little, and two cores would more often meet in one row, where an addition costs ten times as much.
const shards = 8

// series is what is counted of one method of one channel.
type series struct {
	channel, method string
	created         time.Time
	bounds          *bounds
	calls, attempts tally
}

// tally counts ends of one kind: by code, and by how long they took. Its shards are rows of cells: one for each
// code, one for the sum of durations in microseconds, and one for each bucket.
type tally struct {
	cells  []atomic.Uint64
	stride int
}

const (
	cellSum    = codeCount
	cellBucket = codeCount + 1
)

func newTally(buckets int) tally {
	stride := (cellBucket + buckets + 7) / 8 * 8 // whole cache lines
	return tally{cells: make([]atomic.Uint64, shards*stride), stride: stride}
}

// add counts one end. A sum of microseconds holds 10,000 calls at once for 29 years without overflow; a sum of
// nanoseconds would hold them for ten days.
func (t *tally) add(bucket int, code codes.Code, took time.Duration) {
	row := t.cells[int(window.Here()%shards)*t.stride:][:t.stride]
	row[cellBucket+bucket].Add(1)
	row[cellSum].Add(uint64((max(took, 0) + time.Microsecond/2) / time.Microsecond))
	row[min(int(code), codeCount-1)].Add(1)
}

// sums adds the shards up. Each cell only grows, so what is derived from it does too, whatever is added meanwhile.
func (t *tally) sums() []uint64 {
	out := make([]uint64, t.stride)
	for i := range t.cells {
		out[i%t.stride] += t.cells[i].Load()
	}
	return out
}

// bounds are the upper bounds of the duration histograms, as users and as calls count.
type bounds struct {
	seconds []float64
	limits  []time.Duration // the longest duration within each
}

// newBounds panics unless the bounds increase, as the library would in the middle of the first call.
func newBounds(seconds []float64) *bounds {
	b := &bounds{seconds: slices.Clone(seconds)}
	if n := len(b.seconds); n > 0 && math.IsInf(b.seconds[n-1], +1) {
		b.seconds = b.seconds[:n-1] // it is implied
	}
	for i, s := range b.seconds {
		if math.IsNaN(s) || i > 0 && s <= b.seconds[i-1] {
			panic("prom: WithBuckets: the bounds must increase")
		}
		b.limits = append(b.limits, longest(s))
	}
	return b
}

// longest returns the longest duration that is not above so many seconds.
func longest(seconds float64) time.Duration {
	switch {
	case seconds < 0:
		return -1
	case seconds >= math.MaxInt64/1e9:
		return math.MaxInt64
	}
	d := time.Duration(seconds * 1e9)
	for d.Seconds() > seconds { // rounding may be off by one on either side
		d--
	}
	for (d + 1).Seconds() <= seconds {
		d++
	}
	return d
}

// bucket returns the bucket of a duration; the last one is above all bounds.
func (b *bounds) bucket(took time.Duration) int {
	for i, limit := range b.limits {
		if took <= limit {
			return i
		}
	}
	return len(b.limits)
}

// ended counts the end of a call or an attempt.
func (s *series) ended(t *tally, code codes.Code, took time.Duration) {
	t.add(s.bounds.bucket(took), code, took)
}

// allSeries holds the series by their labels. Two channels may carry one name.
type allSeries struct {
	mu   sync.Mutex
	by   map[[2]string]*series
	list []*series // in the order in which they began
}

func (a *allSeries) get(channel, method string, b *bounds) *series {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := [2]string{channel, method}
	if s, ok := a.by[key]; ok {
		return s
	}
	buckets := len(b.limits) + 1
	s := &series{
		channel: channel, method: method, created: time.Now(), bounds: b, calls: newTally(buckets), attempts: newTally(buckets),
	}
	if a.by == nil {
		a.by = make(map[[2]string]*series)
	}
	a.by[key] = s
	a.list = append(a.list, s)
	return s
}

func (a *allSeries) all() []*series {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clip(a.list)
}

// series returns the series of the method that an event is about.
func (m *Metrics) series(about *steady.About) *series {
	if s, ok := about.Memo.Get(m).(*series); ok {
		return s
	}
	method := "other"
	if about.Known {
		method = label(about.Method)
	}
	return about.Memo.Keep(m, m.counted.get(label(about.Channel), method, m.bounds)).(*series)
}

// send sends what was counted of calls and attempts.
func (s *series) send(m *Metrics, ch chan<- prometheus.Metric) {
	s.sendTally(&s.calls, m.calls, m.callSeconds, ch)
	s.sendTally(&s.attempts, m.attempts, m.attemptSeconds, ch)
}

func (s *series) sendTally(t *tally, count, seconds *prometheus.Desc, ch chan<- prometheus.Metric) {
	sums := t.sums()
	for code, n := range sums[:codeCount] {
		if n > 0 {
			ch <- prometheus.MustNewConstMetricWithCreatedTimestamp(count, prometheus.CounterValue, float64(n), s.created,
				s.channel, s.method, codeName(codes.Code(code)))
		}
	}
	var total uint64
	buckets := make(map[float64]uint64, len(s.bounds.seconds))
	for i, bound := range s.bounds.seconds {
		total += sums[cellBucket+i]
		buckets[bound] = total
	}
	total += sums[cellBucket+len(s.bounds.seconds)]
	ch <- prometheus.MustNewConstHistogramWithCreatedTimestamp(seconds, total, float64(sums[cellSum])/1e6, buckets, s.created,
		s.channel, s.method)
}
