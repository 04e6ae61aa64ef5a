package main

import (
	"context"
	"errors"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/sony/gobreaker/v2"

	"github.com/grpcsteady/steady/examples/bench/pairs"
	"github.com/grpcsteady/steady/interceptors/breaker"
)

// breakerRows compare breakers by themselves: one admission and one success with a rolling window.
func breakerRows() []pairs.Row {
	var rows []pairs.Row
	for _, peer := range []struct {
		name string
		open func() pairs.Batch
	}{
		{"gobreaker rolling", gobreakerBatch},
		{"failsafe-go circuitbreaker", failsafeBreakerBatch},
	} {
		open := func() (pairs.Arm, pairs.Arm, func(), error) {
			ours, err := breakerBatch()
			return pairs.Arm{Run: ours}, pairs.Arm{Run: peer.open()}, nil, err
		}
		rows = append(rows,
			pairs.Row{Name: "breaker serial", Peer: peer.name, Target: target(70, 0), Open: open},
			pairs.Row{Name: "breaker parallel", Peer: peer.name, Threads: 2, Target: target(50, 0), Open: open},
		)
	}
	return rows
}

func breakerConfig() breaker.Config {
	return breaker.Config{
		ConsecutiveFailures: inARow, FailureRatio: failureRate, MinimumCalls: minimum,
		Window: window, Buckets: int(window / bucket), OpenTime: openTime,
	}
}

func breakerBatch() (pairs.Batch, error) {
	b, err := breaker.New(breakerConfig())
	return func(n int) error {
		for range n {
			token, err := b.Allow()
			if err != nil {
				return err
			}
			token.Done(nil)
		}
		return nil
	}, err
}

// newGobreaker uses the rolling window, with the rules that ours has and the caller's cancel left out.
func newGobreaker[T any]() *gobreaker.CircuitBreaker[T] {
	return gobreaker.NewCircuitBreaker[T](gobreaker.Settings{
		MaxRequests: 2, Interval: window, BucketPeriod: bucket, Timeout: openTime,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= inARow ||
				c.Requests >= minimum && float64(c.TotalFailures) >= failureRate*float64(c.Requests)
		},
		IsExcluded: func(err error) bool { return errors.Is(err, context.Canceled) },
	})
}

// gobreakerBatch uses Execute: its two-step form allocates a function for each call.
func gobreakerBatch() pairs.Batch {
	b := newGobreaker[struct{}]()
	succeed := func() (struct{}, error) { return struct{}{}, nil }
	return func(n int) error {
		for range n {
			if _, err := b.Execute(succeed); err != nil {
				return err
			}
		}
		return nil
	}
}

// newFailsafeBreaker has the ratio only: failsafe-go takes one rule for opening.
func newFailsafeBreaker[R any]() circuitbreaker.CircuitBreaker[R] {
	return circuitbreaker.NewBuilder[R]().
		WithFailureRateThreshold(failureRate, minimum, window).
		WithDelay(openTime).
		WithSuccessThreshold(2).
		Build()
}

// failsafeBreakerBatch uses the breaker by itself, without an executor.
func failsafeBreakerBatch() pairs.Batch {
	b := newFailsafeBreaker[any]()
	return func(n int) error {
		for range n {
			if !b.TryAcquirePermit() {
				return circuitbreaker.ErrOpen
			}
			b.RecordSuccess()
		}
		return nil
	}
}
