package retry_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/grpcsteady/steady/interceptors/retry"
)

func Example() {
	budget, err := retry.NewBudget(retry.BudgetConfig{}) // one for all that is sent to the same service
	if err != nil {
		fmt.Println(err)
		return
	}
	attempts := 0
	send := func(context.Context) error {
		attempts++
		if attempts == 1 {
			return errors.New("connection refused")
		}
		return nil
	}
	err = retry.Do(context.Background(), retry.Config{InitialBackoff: time.Millisecond}, send, retry.WithBudget(budget))
	fmt.Println(attempts, "attempts, error:", err)
	// Output: 2 attempts, error: <nil>
}

func ExamplePermanent() {
	attempts := 0
	err := retry.Do(context.Background(), retry.Config{}, func(context.Context) error {
		attempts++
		return retry.Permanent(errors.New("no such order"))
	})
	fmt.Println(attempts, "attempt, error:", err)
	// Output: 1 attempt, error: no such order
}

func ExampleConfig_Backoff() {
	cfg := retry.Config{InitialBackoff: 100 * time.Millisecond, MaxBackoff: time.Second}.WithDefaults()
	for n := range 5 {
		fmt.Printf("retry %d waits up to %v, on average %v\n", n+1, cfg.Backoff(n, 0, 1), cfg.Backoff(n, 0, 0.5))
	}
	// Output:
	// retry 1 waits up to 100ms, on average 50ms
	// retry 2 waits up to 200ms, on average 100ms
	// retry 3 waits up to 400ms, on average 200ms
	// retry 4 waits up to 800ms, on average 400ms
	// retry 5 waits up to 1s, on average 500ms
}

// A sequence is for those who make the attempts themselves: it only decides.
func ExampleSequence() {
	cfg := retry.Config{InitialBackoff: 100 * time.Millisecond, Jitter: retry.NoJitter}.WithDefaults()
	now := time.Now()
	seq := cfg.Start(now)
	for _, said := range [][]string{nil, {"40"}, nil} {
		wait, stop := seq.Next(retry.Failed{
			Now: now, Deadline: now.Add(time.Second), Retryable: true, Pushback: retry.ParsePushback(said),
		})
		if stop != retry.Go {
			fmt.Println("stopped:", stop)
			break
		}
		fmt.Println("attempt", seq.Attempts(), "after", wait)
		now = now.Add(wait)
	}
	// Output:
	// attempt 2 after 100ms
	// attempt 3 after 40ms
	// stopped: attempts
}

func ExampleBudget() {
	budget, err := retry.NewBudget(retry.BudgetConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Now()
	for range 100 {
		budget.Deposit(now)
	}
	retries := 0
	for range 100 { // all of them fail
		if budget.Withdraw(now) {
			retries++
		}
	}
	s := budget.Snapshot(now)
	fmt.Printf("%d retries of %d calls, %d refused\n", retries, s.Calls, s.Refused)
	// Output: 30 retries of 100 calls, 70 refused
}
