package window_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/grpcsteady/steady/balancer/window"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSlides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := window.New(10*time.Second, 10)
		for range 10 {
			w.Add(time.Now(), 0)
			w.Add(time.Now(), 1)
			time.Sleep(time.Second)
		}
		// Ten seconds have passed: the first slice has just left, nine remain.
		if got, want := w.Sum(time.Now()), (window.Sums{9, 9}); got != want {
			t.Fatalf("sum %v, want %v", got, want)
		}
		time.Sleep(9 * time.Second)
		if got := w.Sum(time.Now()).Total(); got != 0 {
			t.Fatalf("total %d after the span, want 0", got)
		}
	})
}

func TestReset(t *testing.T) {
	w := window.New(time.Second, 4)
	w.Add(time.Now(), 2)
	w.Reset()
	if got := w.Sum(time.Now()).Total(); got != 0 {
		t.Fatalf("total %d after Reset, want 0", got)
	}
}

func TestClockBeforeEpochAndDegenerateShapes(t *testing.T) {
	for _, w := range []*window.Window{window.New(0, 0), window.New(time.Second, 1), window.New(-1, -1)} {
		w.Add(time.Now().Add(-time.Hour), 3)
		if w.Span() <= 0 {
			t.Fatalf("span %v", w.Span())
		}
	}
}

// TestModel holds the window against a list of stamped events, under random schedules.
func TestModel(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		synctest.Test(t, func(t *testing.T) {
			buckets := 1 + rnd.IntN(12)
			width := time.Duration(1+rnd.IntN(1000)) * time.Millisecond
			w := window.New(width*time.Duration(buckets), buckets)
			start := time.Now()
			type event struct{ slice, kind int64 }
			var events []event
			for range 400 {
				time.Sleep(time.Duration(rnd.Int64N(int64(width))))
				slice := int64(time.Since(start) / width)
				kind := rnd.Int64N(window.Kinds)
				w.Add(time.Now(), int(kind))
				events = append(events, event{slice, kind})
				var want window.Sums
				for _, e := range events {
					if e.slice > slice-int64(buckets) {
						want[e.kind]++
					}
				}
				if got := w.Sum(time.Now()); got != want {
					t.Fatalf("seed %d: sum %v, want %v", seed, got, want)
				}
			}
		})
	}
}

func TestConcurrentAddLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := window.New(10*time.Second, 10)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 1000 {
					w.Add(time.Now(), 0)
				}
			})
		}
		wg.Wait()
		if got := w.Sum(time.Now())[0]; got != 8000 {
			t.Fatalf("counted %d of 8000", got)
		}
	})
}

func TestAddAllocatesNothing(t *testing.T) {
	w := window.New(time.Second, 10)
	if n := testing.AllocsPerRun(1000, func() { w.Add(time.Now(), 0) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkAdd(b *testing.B) {
	w := window.New(10*time.Second, 10)
	now := time.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			w.Add(now, 0)
		}
	})
}

func ExampleWindow() {
	const ok, failed = 0, 1
	w := window.New(10*time.Second, 10)
	now := time.Now()
	w.Add(now, ok)
	w.Add(now, ok)
	w.Add(now, failed)
	sums := w.Sum(now)
	fmt.Println(sums[ok], "ok,", sums[failed], "failed,", sums.Total(), "in all")
	// Output: 2 ok, 1 failed, 3 in all
}
