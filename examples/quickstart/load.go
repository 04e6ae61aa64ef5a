package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	ordersv1 "github.com/grpcsteady/steady/examples/quickstart/orders/v1"
	"github.com/grpcsteady/steady/interceptors/steady"
)

// counts is what is counted beside the calls.
type counts struct {
	attempts  atomic.Int64
	refused   atomic.Int64
	elsewhere atomic.Int64
}

// Observe reads the numbers from steady's own events.
func (c *counts) Observe(e steady.Event) {
	switch e := e.(type) {
	case *steady.CallEnded:
		c.attempts.Add(int64(e.Attempts))
		c.elsewhere.Add(int64(e.Elsewhere))
	case *steady.Refused:
		c.refused.Add(1)
	}
}

// load is an open loop: calls begin at fixed times, whatever became of those before, as the users of a
// service do. The time of a call counts from when it should have begun, so that a slow client cannot hide
// behind the calls it did not make ("coordinated omission").
type load struct {
	rate     int           // calls per second
	duration time.Duration // how long calls begin
	client   ordersv1.OrdersClient

	calls    sync.WaitGroup
	answered atomic.Int64
	ended    atomic.Int64
	mu       sync.Mutex // guards took
	took     []time.Duration
}

// run makes the calls and returns when the last one has ended. The end of ctx ends it early, calls under way
// included.
func (l *load) run(ctx context.Context) {
	start := time.Now()
	n := int(l.duration.Seconds() * float64(l.rate))
	l.took = make([]time.Duration, 0, n)
	for i := range n {
		at := start.Add(time.Duration(i) * time.Second / time.Duration(l.rate))
		if !sleepUntil(ctx, at) {
			break
		}
		l.calls.Go(func() { l.call(ctx, i, at) })
	}
	l.calls.Wait()
}

func (l *load) call(ctx context.Context, i int, at time.Time) {
	err := visit(ctx, l.client, i)
	took := time.Since(at)
	if ctx.Err() != nil {
		return // it was broken off, which says nothing
	}
	if err == nil {
		l.answered.Add(1)
	}
	l.ended.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, took)
}

// progress writes a line a second until done is closed.
func (l *load) progress(w io.Writer, name string, done <-chan struct{}) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for start := time.Now(); ; {
		select {
		case <-done:
			return
		case <-ticker.C:
		}
		ended, answered := l.ended.Load(), l.answered.Load()
		_, _ = fmt.Fprintf(w, "%-10s  %2.0f s of %v: %5d calls, %6.2f %% answered\n",
			name, time.Since(start).Seconds(), l.duration, ended, 100*share(answered, ended))
	}
}

// result is what one run came to, in the form of the JSON output.
type result struct {
	Calls            int64   `json:"calls"`
	Availability     float64 `json:"availability"` // share of calls that got all of their answer, 0 to 1
	P50              float64 `json:"p50_ms"`       // of all calls, failed ones included
	P99              float64 `json:"p99_ms"`
	P999             float64 `json:"p999_ms"`
	AttemptsPerCall  float64 `json:"attempts_per_call"`
	Refused          int64   `json:"refused"`           // attempts that a gate did not admit
	RetriedElsewhere int64   `json:"retried_elsewhere"` // retries that went to a server the call had not tried

	answered, attempts int64
}

// result sums up a run that has ended.
func (l *load) result(c *counts) result {
	slices.Sort(l.took)
	r := result{
		Calls: int64(len(l.took)), answered: l.answered.Load(), attempts: c.attempts.Load(),
		P50: quantile(l.took, 0.5), P99: quantile(l.took, 0.99), P999: quantile(l.took, 0.999),
		Refused: c.refused.Load(), RetriedElsewhere: c.elsewhere.Load(),
	}
	r.Availability = share(r.answered, r.Calls)
	r.AttemptsPerCall = share(r.attempts, r.Calls)
	return r
}

func share(n, of int64) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) / float64(of)
}

// quantile returns the time that a share q of the calls did not exceed (nearest rank), in milliseconds to
// the microsecond.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := max(int(math.Ceil(q*float64(len(sorted))-1e-9)), 1)
	return float64(sorted[rank-1].Microseconds()) / 1000
}
