package main

import (
	"context"
	"time"

	avast "github.com/avast/retry-go/v5"
	"github.com/cenkalti/backoff/v5"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/retrypolicy"

	"github.com/grpcsteady/steady/examples/bench/pairs"
	"github.com/grpcsteady/steady/interceptors/retry"
)

// retryRows compare retries around a function that succeeds: our mechanism as the driver uses it, which has
// read the clock already, and our retry.Do as anybody may use it, which reads it.
func retryRows(s *stub) []pairs.Row {
	var rows []pairs.Row
	for _, peer := range []struct {
		name string
		open func(*stub) pairs.Batch
	}{
		{"avast retry-go, throttled", avastBatch},
		{"cenkalti backoff, no budget", backoffBatch},
		{"failsafe-go retry, budget", failsafeRetryBatch},
	} {
		mechanism := func() (pairs.Arm, pairs.Arm, func(), error) {
			ours, err := mechanismBatch(s)
			return pairs.Arm{Run: ours}, pairs.Arm{Run: peer.open(s)}, nil, err
		}
		do := func() (pairs.Arm, pairs.Arm, func(), error) {
			ours, err := doBatch(s)
			return pairs.Arm{Run: ours}, pairs.Arm{Run: peer.open(s)}, nil, err
		}
		rows = append(rows,
			pairs.Row{Name: "retry with budget, mechanism serial", Peer: peer.name, Target: target(30, 0), Open: mechanism},
			pairs.Row{Name: "retry with budget, mechanism parallel", Peer: peer.name, Threads: 2, Target: target(20, 0), Open: mechanism},
			pairs.Row{Name: "retry with budget, retry.Do serial", Peer: peer.name, Open: do},
		)
	}
	return rows
}

func retryConfig() retry.Config {
	return retry.Config{
		MaxAttempts: attempts, InitialBackoff: firstBackoff, MaxBackoff: mostBackoff, MaxElapsed: maxElapsed,
	}
}

func mechanismBatch(s *stub) (pairs.Batch, error) {
	budget, err := retry.NewBudget(retry.BudgetConfig{})
	cfg := retryConfig().WithDefaults()
	return func(n int) error {
		ctx, now := context.Background(), time.Now()
		for range n {
			budget.Deposit(now)
			seq := cfg.Start(now)
			for {
				err := s.do(ctx)
				if err == nil {
					break
				}
				wait, stop := seq.Next(retry.Failed{Now: time.Now(), Retryable: true, Budget: budget})
				if stop != retry.Go {
					return err
				}
				time.Sleep(wait)
			}
		}
		return nil
	}, err
}

func doBatch(s *stub) (pairs.Batch, error) {
	budget, err := retry.NewBudget(retry.BudgetConfig{})
	cfg, with := retryConfig(), retry.WithBudget(budget)
	return func(n int) error {
		ctx := context.Background()
		for range n {
			if err := retry.Do(ctx, cfg, s.do, with); err != nil {
				return err
			}
		}
		return nil
	}, err
}

// avastBatch makes the retrier once, which its documentation recommends for repeated use. Its token bucket
// stands for our budget.
func avastBatch(s *stub) pairs.Batch {
	ctx := context.Background()
	r := avast.New(
		avast.Context(ctx), avast.Attempts(attempts), avast.LastErrorOnly(true),
		avast.Delay(firstBackoff), avast.MaxDelay(mostBackoff), avast.DelayType(avast.FullJitterBackoffDelay),
		avast.WithThrottle(avast.NewFixedTokenBucketThrottle(avast.FixedTokenBucketThrottleConfig{})),
	)
	op := func() error { return s.do(ctx) }
	return func(n int) error {
		for range n {
			if err := r.Do(op); err != nil {
				return err
			}
		}
		return nil
	}
}

// backoffBatch makes a backoff for every call, as it holds the call's state.
func backoffBatch(s *stub) pairs.Batch {
	return func(n int) error {
		ctx := context.Background()
		op := func() (struct{}, error) { return struct{}{}, s.do(ctx) }
		for range n {
			b := backoff.NewExponentialBackOff()
			b.InitialInterval, b.MaxInterval, b.Multiplier = firstBackoff, mostBackoff, 2
			_, err := backoff.Retry(ctx, op, backoff.WithBackOff(b),
				backoff.WithMaxTries(attempts), backoff.WithMaxElapsedTime(maxElapsed))
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// failsafeRetryBatch shares one executor. Its budget bounds the share of retries among calls in flight.
func failsafeRetryBatch(s *stub) pairs.Batch {
	ctx := context.Background()
	executor := failsafe.With[any](retrypolicy.NewBuilder[any]().
		WithMaxAttempts(attempts).
		WithBackoff(firstBackoff, mostBackoff).
		WithJitterFactor(0.5).
		WithMaxDuration(maxElapsed).
		WithBudget(budget.New()).
		Build()).WithContext(ctx)
	op := func() error { return s.do(ctx) }
	return func(n int) error {
		for range n {
			if err := executor.Run(op); err != nil {
				return err
			}
		}
		return nil
	}
}
