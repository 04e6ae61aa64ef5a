package steadytest_test

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/interceptors/steadytest"
)

func instantly(context.Context, int) error { return nil }

func TestOpenLoopArrivesOnTime(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		// Calls are far slower than they come, and none waits for another.
		r := steadytest.Load{Rate: 300, For: time.Second, Call: func(context.Context, int) error {
			time.Sleep(5 * time.Second)
			return nil
		}}.Run(context.Background())
		if r.Calls != 300 || r.OK != 300 {
			t.Fatalf("%v", r)
		}
		for i, o := range r.Outcomes {
			want := time.Duration(math.Round(float64(i) / 300 * 1e9))
			if o.Call != i || o.At != want || o.Took != 5*time.Second {
				t.Fatalf("call %d: %+v, want it at %v", i, o, want)
			}
		}
		if last := r.Outcomes[299].At; r.Took != last+5*time.Second {
			t.Errorf("took %v", r.Took)
		}
	})
}

func TestPoissonArrivals(t *testing.T) {
	arrivals := func(seed uint64) (at []time.Duration) {
		steadytest.Run(t, func(*testing.T) {
			r := steadytest.Load{Rate: 100, For: 100 * time.Second, Poisson: true, Seed: seed, Call: instantly}.Run(context.Background())
			for _, o := range r.Outcomes {
				at = append(at, o.At)
			}
		})
		return at
	}
	one := arrivals(3)
	// 10,000 are expected with a standard deviation of 100.
	if len(one) < 9500 || len(one) > 10500 {
		t.Errorf("%d arrivals, want about 10000", len(one))
	}
	// Of exponential gaps, a share of 1/e is longer than the mean.
	long := 0
	for i := range one[1:] {
		if one[i+1]-one[i] > 10*time.Millisecond {
			long++
		}
	}
	if share := float64(long) / float64(len(one)); share < 0.35 || share > 0.39 {
		t.Errorf("a share of %.3f of the gaps is longer than their mean, want about 0.368", share)
	}
	if !slices.Equal(one, arrivals(3)) || slices.Equal(one, arrivals(4)) {
		t.Error("arrivals do not follow the seed")
	}
	if !slices.Equal(arrivals(0), arrivals(1)) {
		t.Error("the default seed is not 1")
	}
}

func TestClosedLoopWaitsForAnswers(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		var now, most atomic.Int64
		r := steadytest.Load{Workers: 4, Pause: 50 * time.Millisecond, For: 3 * time.Second, Call: func(context.Context, int) error {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			time.Sleep(250 * time.Millisecond)
			return nil
		}}.Run(context.Background())
		if r.Calls != 40 || most.Load() != 4 { // 4 workers, 10 calls of 300 ms each
			t.Errorf("%v, %d at once", r, most.Load())
		}
		numbers := make([]int, 0, r.Calls)
		for _, o := range r.Outcomes {
			numbers = append(numbers, o.Call)
		}
		slices.Sort(numbers)
		for i, n := range numbers {
			if i != n {
				t.Fatalf("call numbers: %v", numbers)
			}
		}
	})
}

func TestLoadDefaults(t *testing.T) {
	for _, give := range []steadytest.Load{
		{},
		{Rate: -1, For: -1},
		{Rate: math.NaN()},
		{Rate: math.Inf(1)},
	} {
		steadytest.Run(t, func(t *testing.T) {
			give.Call = func(ctx context.Context, _ int) error {
				if d, ok := ctx.Deadline(); !ok || time.Until(d) != 10*time.Second {
					t.Errorf("the deadline is in %v", time.Until(d))
				}
				return nil
			}
			if r := give.Run(context.Background()); r.Calls != 1000 {
				t.Errorf("%+v: %v, want 100 a second for 10 s", give, r)
			}
		})
	}
	steadytest.Run(t, func(t *testing.T) {
		steadytest.Load{For: time.Second, Timeout: -1, Call: func(ctx context.Context, _ int) error {
			if _, ok := ctx.Deadline(); ok {
				t.Error("a deadline although there should be none")
			}
			return nil
		}}.Run(context.Background())
	})
}

func TestLoadEndsWithContext(t *testing.T) {
	for _, workers := range []int{0, 2} {
		steadytest.Run(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(1500*time.Millisecond, cancel)
			start := time.Now()
			r := steadytest.Load{Rate: 1, Workers: workers, For: time.Hour, Call: func(ctx context.Context, _ int) error {
				<-ctx.Done()
				return ctx.Err()
			}}.Run(ctx)
			if took := time.Since(start); took != 1500*time.Millisecond || r.Calls != 2 || r.Errors[codes.Canceled] != 2 {
				t.Errorf("%d workers: ended after %v: %v", workers, took, r)
			}
		})
	}
}

func TestResult(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		// One call a second; call i takes i ms; from 5 s on every call fails.
		r := steadytest.Load{Rate: 1, For: 10 * time.Second, Call: func(_ context.Context, i int) error {
			time.Sleep(time.Duration(i) * time.Millisecond)
			switch {
			case i < 5:
				return nil
			case i < 8:
				return status.Error(codes.Unavailable, "down")
			case i == 8:
				return context.DeadlineExceeded
			default:
				return errors.New("plain")
			}
		}}.Run(context.Background())
		if want := map[codes.Code]int{codes.Unavailable: 3, codes.DeadlineExceeded: 1, codes.Unknown: 1}; !maps.Equal(r.Errors, want) || r.OK != 5 {
			t.Errorf("errors %v, %d ok", r.Errors, r.OK)
		}
		for q, want := range map[float64]int{-1: 0, 0: 0, 0.05: 0, 0.1: 0, 0.5: 4, 0.51: 5, 0.9: 8, 0.91: 9, 1: 9, 2: 9} {
			if got := r.Quantile(q); got != time.Duration(want)*time.Millisecond {
				t.Errorf("quantile %v is %v, want %v ms", q, got, want)
			}
		}
		if got, want := r.String(), "10 calls, 50.00 % ok, p50 4ms, p99 9ms, max 9ms; DeadlineExceeded 1, Unavailable 3, Unknown 1"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		part := r.Between(4*time.Second, 6*time.Second)
		if part.Calls != 2 || part.OK != 1 || part.Availability() != 0.5 || part.Took != time.Second+5*time.Millisecond {
			t.Errorf("second 4 to 6: %v in %v", part, part.Took)
		}
		none := r.Between(time.Hour, 2*time.Hour)
		if none.Calls != 0 || none.Availability() != 1 || none.Quantile(0.5) != 0 {
			t.Errorf("nothing: %v", none)
		}
	})
}
