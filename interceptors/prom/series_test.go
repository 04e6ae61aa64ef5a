package prom_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/prom"
	"github.com/grpcsteady/steady/interceptors/steady"
)

// TestCountsAsTheLibrary feeds the same ends to Metrics and to the library's own counters and histograms, and
// compares what a scrape reads, on, just below and just above every bound.
func TestCountsAsTheLibrary(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, bounds := range [][]float64{
		nil, {1}, {0, 1}, {-1, .1, .3}, {.1, .2, .3, .7, 1.1}, {.001, math.Inf(1)}, {1e-9, 1, 1e300}, {.0015, .3333333333},
	} {
		t.Run(fmt.Sprint(bounds), func(t *testing.T) {
			theirs := bounds
			if bounds == nil {
				theirs = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
			}
			metrics := prom.New(prom.WithBuckets(bounds...))
			want := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "x", Buckets: theirs})
			byCode := make(map[codes.Code]float64)
			about := steady.About{Channel: "c", Method: "/a.B/C", Known: true, Memo: new(steady.Memo)}
			observe := func(d time.Duration) {
				code := codes.Code(rng.Uint32N(18))
				byCode[code]++
				metrics.Observe(&steady.CallEnded{About: about, Duration: d, Code: code})
				want.Observe(d.Seconds())
			}
			for _, b := range theirs {
				if b < 1e6 && b >= 0 {
					for off := range 5 {
						observe(max(time.Duration(b*1e9)+time.Duration(off-2), 0))
					}
				}
			}
			for range 2000 {
				observe(time.Duration(rng.Int64N(int64(time.Hour))) >> rng.UintN(40))
			}
			if got, want := histogramOf(t, metrics, "steady_call_duration_seconds"), histogramOf(t, want, "x"); !same(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
			var text strings.Builder
			text.WriteString("# HELP steady_calls_total Calls that ended, by the code their callers got.\n# TYPE steady_calls_total counter\n")
			for code, n := range byCode {
				name := code.String()
				if code > codes.Unauthenticated {
					name = "Other"
				}
				fmt.Fprintf(&text, "steady_calls_total{channel=\"c\",code=%q,method=\"/a.B/C\"} %v\n", name, n)
			}
			if err := testutil.CollectAndCompare(metrics, strings.NewReader(text.String()), "steady_calls_total"); err != nil {
				t.Error(err)
			}
		})
	}
}

// histogram is what a scrape reads.
type histogram struct {
	count  uint64
	sum    float64
	bounds []float64
	below  []uint64 // how many within each bound
}

func histogramOf(t *testing.T, c prometheus.Collector, name string) histogram {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		read := f.GetMetric()[0].GetHistogram()
		h := histogram{count: read.GetSampleCount(), sum: read.GetSampleSum()}
		for _, b := range read.GetBucket() {
			h.bounds, h.below = append(h.bounds, b.GetUpperBound()), append(h.below, b.GetCumulativeCount())
		}
		return h
	}
	t.Fatalf("no %s", name)
	return histogram{}
}

// same compares all but sums, which ours keeps to the microsecond of each end.
func same(a, b histogram) bool {
	return a.count == b.count && slices.Equal(a.bounds, b.bounds) && slices.Equal(a.below, b.below) &&
		math.Abs(a.sum-b.sum) <= 0.5e-6*float64(a.count)+1e-9*b.sum
}

// TestNothingIsLost: ends counted at once by many goroutines, over two channels of one name and while scrapes read,
// are all there at the end, and no scrape sees fewer than the one before.
func TestNothingIsLost(t *testing.T) {
	metrics := prom.New()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics)
	const writers, each = 8, 2000
	var wg sync.WaitGroup
	for i := range writers {
		about := steady.About{Channel: "c", Method: "/a.B/C", Known: true, Memo: new(steady.Memo)}
		wg.Go(func() {
			for j := range each {
				metrics.Observe(&steady.AttemptEnded{About: about, Code: codes.Code(j % 3), Duration: time.Millisecond})
				metrics.Observe(&steady.CallEnded{About: about, Duration: time.Duration(i) * time.Second})
			}
		})
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		last := make(map[string]float64)
		for {
			families, err := registry.Gather()
			if err != nil {
				t.Error(err)
			}
			for _, f := range families {
				for _, m := range f.GetMetric() {
					for what, n := range map[string]float64{
						"counter": m.GetCounter().GetValue(), "count": float64(m.GetHistogram().GetSampleCount()), "sum": m.GetHistogram().GetSampleSum(),
					} {
						key := fmt.Sprint(f.GetName(), m.GetLabel(), what)
						if n < last[key] {
							t.Errorf("%s fell from %v to %v", key, last[key], n)
						}
						last[key] = n
					}
				}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	wg.Wait()
	close(stop)
	<-stopped
	h := histogramOf(t, metrics, "steady_call_duration_seconds")
	if h.count != writers*each || h.sum != each*(0+1+2+3+4+5+6+7) {
		t.Errorf("%d calls of %v s in all", h.count, h.sum)
	}
	const want = `
# HELP steady_attempts_total Attempts that ended, by code.
# TYPE steady_attempts_total counter
steady_attempts_total{channel="c",code="Canceled",method="/a.B/C"} 5336
steady_attempts_total{channel="c",code="OK",method="/a.B/C"} 5336
steady_attempts_total{channel="c",code="Unknown",method="/a.B/C"} 5328
`
	if err := testutil.CollectAndCompare(metrics, strings.NewReader(want), "steady_attempts_total"); err != nil {
		t.Error(err)
	}
}

func TestBoundsMustIncrease(t *testing.T) {
	for _, bounds := range [][]float64{{1, 1}, {2, 1}, {math.NaN()}, {1, math.NaN()}, {math.Inf(1), 1}} {
		func() {
			defer func() {
				if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "WithBuckets") {
					t.Errorf("%v: %v, want a panic that names WithBuckets", bounds, p)
				}
			}()
			prom.New(prom.WithBuckets(bounds...))
		}()
	}
}
