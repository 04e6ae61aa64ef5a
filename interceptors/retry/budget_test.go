package retry_test

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcsteady/steady/interceptors/retry"
)

// drain withdraws until it is refused, and returns how often it was not.
func drain(t testing.TB, b *retry.Budget) int {
	t.Helper()
	for n := range 1_000_000 {
		if !b.Withdraw(time.Now()) {
			return n
		}
	}
	t.Fatal("a budget without end")
	return 0
}

func deposit(b *retry.Budget, n int) {
	for range n {
		b.Deposit(time.Now())
	}
}

func TestBudgetGrants(t *testing.T) {
	bare := func(ratio float64) retry.BudgetConfig {
		return retry.BudgetConfig{Ratio: ratio, MinPerSecond: -1, MaxRatio: 10}
	}
	for _, tt := range []struct {
		name  string
		cfg   retry.BudgetConfig
		calls int
		want  int
	}{
		{"no call, no retry", retry.BudgetConfig{}, 0, 0},
		{"one call, one retry: the ceiling is above the floor", retry.BudgetConfig{}, 1, 1},
		{"the ceiling ends where ratio and floor meet it", retry.BudgetConfig{}, 12, 12},
		{"beyond, the ratio and the floor of 10", retry.BudgetConfig{}, 13, 12},
		{"a hundred calls", retry.BudgetConfig{}, 100, 30},
		{"no floor: four calls do not make a retry", retry.BudgetConfig{MinPerSecond: -1}, 4, 0},
		{"no floor: five do, exactly", retry.BudgetConfig{MinPerSecond: -1}, 5, 1},
		{"no ratio: the floor alone", retry.BudgetConfig{Ratio: -1}, 1000, 10},
		{"neither", retry.BudgetConfig{Ratio: -1, MinPerSecond: -1}, 1000, 0},
		{"ceiling below the ratio", retry.BudgetConfig{Ratio: 0.5, MaxRatio: 0.1}, 100, 10},
		{"several retries for each call", retry.BudgetConfig{Ratio: 3, MaxRatio: 4}, 10, 40},
		{"a reserve of a part of one", retry.BudgetConfig{Ratio: -1, MinPerSecond: 0.25, Interval: 7 * time.Second}, 100, 1},
		{"0.1 of 30", bare(0.1), 30, 3},
		{"0.3 of 10", bare(0.3), 10, 3},
		{"0.7 of 10", bare(0.7), 10, 7},
		{"0.29 of 100", bare(0.29), 100, 29},
		{"0.57 of 100", bare(0.57), 100, 57},
		{"1.1 of 10", bare(1.1), 10, 11},
		{"just below one", bare(0.199999), 5, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBudget(t, tt.cfg)
				deposit(b, tt.calls)
				want := retry.BudgetSnapshot{Calls: int64(tt.calls), Left: int64(tt.want), Capacity: int64(tt.want)}
				if got := b.Snapshot(time.Now()); got != want {
					t.Errorf("before: %+v, want %+v", got, want)
				}
				if got := drain(t, b); got != tt.want {
					t.Errorf("granted %d, want %d", got, tt.want)
				}
				want.Retries, want.Left, want.Refused = int64(tt.want), 0, 1
				if got := b.Snapshot(time.Now()); got != want {
					t.Errorf("after: %+v, want %+v", got, want)
				}
			})
		})
	}
}

func TestBudgetForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(t, retry.BudgetConfig{MinPerSecond: -1})
		deposit(b, 50)
		time.Sleep(5 * time.Second)
		if got := drain(t, b); got != 10 {
			t.Fatalf("granted %d, want 10", got)
		}
		deposit(b, 5) // eleven granted by 55 calls, ten of them taken
		if got := drain(t, b); got != 1 {
			t.Fatalf("granted %d, want 1", got)
		}
		time.Sleep(5 * time.Second) // the fifty calls leave the interval, the retries are still in it
		deposit(b, 20)
		if s := b.Snapshot(time.Now()); s.Calls != 25 || s.Retries != 11 || s.Left != 0 || s.Capacity != 5 {
			t.Fatalf("%+v", s)
		}
		if got := drain(t, b); got != 0 {
			t.Fatalf("granted %d while eleven retries are remembered", got)
		}
		time.Sleep(5 * time.Second) // now the retries too
		if got := drain(t, b); got != 4 {
			t.Fatalf("granted %d, want a fifth of 20 calls", got)
		}
		time.Sleep(time.Hour)
		if s, want := b.Snapshot(time.Now()), (retry.BudgetSnapshot{Refused: 4}); s != want {
			t.Fatalf("%+v, want %+v", s, want)
		}
	})
}

// TestBudgetModel holds a budget against a list of everything that happened, counted in whole numbers.
func TestBudgetModel(t *testing.T) {
	type spent struct {
		slice int64
		retry bool
	}
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 3))
		synctest.Test(t, func(t *testing.T) {
			percent, tenths, ceiling := 1+random.Int64N(300), random.Int64N(60), 1+random.Int64N(300)
			seconds := 1 + random.Int64N(20)
			cfg := retry.BudgetConfig{
				Ratio: float64(percent) / 100, MinPerSecond: float64(tenths) / 10,
				Interval: time.Duration(seconds) * time.Second, MaxRatio: float64(ceiling) / 100,
			}
			if tenths == 0 {
				cfg.MinPerSecond = -1
			}
			b := newBudget(t, cfg)
			start, width := time.Now(), cfg.Interval/10
			var all []spent
			var refused uint64
			for step := range 600 {
				if random.IntN(3) == 0 {
					time.Sleep(time.Duration(random.Int64N(int64(width))))
				}
				now := time.Now()
				slice := int64(now.Sub(start) / width)
				var calls, retries int64
				for _, s := range all {
					switch {
					case s.slice <= slice-10:
					case s.retry:
						retries++
					default:
						calls++
					}
				}
				// In thousandths of a retry: percent/100 of the calls, tenths/10 a second.
				capacity := min(percent*calls*10+tenths*seconds*100, ceiling*calls*10) / 1000
				switch random.IntN(4) {
				case 0:
					want := retry.BudgetSnapshot{
						Calls: calls, Retries: retries, Capacity: capacity, Left: max(0, capacity-retries), Refused: refused,
					}
					if got := b.Snapshot(now); got != want {
						t.Fatalf("seed %d, step %d, %+v: got %+v, want %+v", seed, step, cfg, got, want)
					}
				case 1:
					b.Deposit(now)
					all = append(all, spent{slice, false})
				default:
					got := b.Withdraw(now)
					if want := retries+1 <= capacity; got != want {
						t.Fatalf("seed %d, step %d, %+v: withdrawal of %d in %d calls: %v, want %v", seed, step, cfg, retries+1, calls, got, want)
					}
					if got {
						all = append(all, spent{slice, true})
					} else {
						refused++
					}
				}
			}
		})
	}
}

// TestBudgetNeverExceeds lets eight goroutines call and retry for all they are worth. What was granted can
// at no time be above what the calls so far allow, and at the end nothing is left over.
func TestBudgetNeverExceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const workers, each = 8, 2000
		b := newBudget(t, retry.BudgetConfig{Ratio: 0.1, MinPerSecond: -1})
		var announced, granted, denied atomic.Int64
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range each {
					announced.Add(1) // before the deposit, so that it bounds what the budget may know of
					b.Deposit(time.Now())
					if !b.Withdraw(time.Now()) {
						denied.Add(1)
						continue
					}
					n := granted.Add(1)
					if calls := announced.Load(); n > calls/10 {
						t.Errorf("%d retries granted when %d calls had begun", n, calls)
						return
					}
				}
			})
		}
		wg.Wait()
		const calls = workers * each
		if s := b.Snapshot(time.Now()); s.Calls != calls || s.Retries != granted.Load() || s.Refused != uint64(denied.Load()) {
			t.Errorf("%+v, but %d calls, %d granted, %d denied", s, calls, granted.Load(), denied.Load())
		}
		drain(t, b)
		if s := b.Snapshot(time.Now()); s.Retries != calls/10 || s.Left != 0 {
			t.Errorf("%+v, want exactly %d retries in the end", s, calls/10)
		}
	})
}

func TestBudgetUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(t, retry.BudgetConfig{MinPerSecond: -1})
		deposit(b, 100)
		drain(t, b)
		if err := b.Update(retry.BudgetConfig{MinPerSecond: -1, Ratio: 0.5}); err != nil {
			t.Fatal(err)
		}
		want := retry.BudgetSnapshot{Calls: 100, Retries: 20, Left: 30, Capacity: 50, Refused: 1}
		if got := b.Snapshot(time.Now()); got != want {
			t.Errorf("after a new ratio: %+v, want %+v", got, want)
		}
		if err := b.Update(retry.BudgetConfig{MinPerSecond: -1, Ratio: 0.1}); err != nil {
			t.Fatal(err)
		}
		want.Left, want.Capacity = 0, 10
		if got := b.Snapshot(time.Now()); got != want {
			t.Errorf("spent beyond the new ratio: %+v, want %+v", got, want)
		}
		wantFindings(t, b.Update(retry.BudgetConfig{Ratio: 99, Interval: time.Minute}), []string{"retry budget: Ratio: 99"})
		if got := b.Snapshot(time.Now()); got != want {
			t.Errorf("after a config that was refused: %+v, want %+v", got, want)
		}
		if err := b.Update(retry.BudgetConfig{Interval: time.Minute}); err != nil {
			t.Fatal(err)
		}
		if got, want := b.Snapshot(time.Now()), (retry.BudgetSnapshot{Refused: 1}); got != want {
			t.Errorf("after a new interval: %+v, want %+v", got, want)
		}
	})
}

// TestBudgetUpdateUnderLoad is for the race detector, and checks that no call is lost to a change of ratio.
func TestBudgetUpdateUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(t, retry.BudgetConfig{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i := range 1000 {
					b.Deposit(time.Now())
					if i%10 == 0 {
						b.Withdraw(time.Now())
						b.Snapshot(time.Now())
					}
				}
			})
		}
		wg.Go(func() {
			for i := range 200 {
				if err := b.Update(retry.BudgetConfig{Ratio: 0.1 + float64(i%5)/10}); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Wait()
		if s := b.Snapshot(time.Now()); s.Calls != 4000 || uint64(s.Retries)+s.Refused != 400 {
			t.Errorf("%+v", s)
		}
	})
}
