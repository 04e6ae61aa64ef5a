package prom_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/prom"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
)

// TestRetriedCalls: how many calls were worth retrying can be told from neither retries, of which a call may make
// several, nor reasons to stop, which calls have that were never retried.
func TestRetriedCalls(t *testing.T) {
	const method = "/a.B/Get"
	metrics := prom.New()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics)
	out, err := steady.NewOutbound([]steady.Rule{{
		Methods: []string{method}, Idempotent: true, Retry: &retry.Config{InitialBackoff: time.Millisecond},
	}}, steady.WithObserver(metrics), steady.WithRetryBudget(retry.BudgetConfig{Ratio: 5, MaxRatio: 5}),
		steady.Fallback(method, func(_ context.Context, ask *string, cause error) (*string, error) {
			if *ask == "cached" {
				return new(string), nil
			}
			return nil, cause
		}))
	if err != nil {
		t.Fatal(err)
	}
	unary, _ := out.Interceptors()
	call := func(ask string, ends ...codes.Code) { // the codes that attempts end with, the last one for ever
		n := 0
		_ = unary(t.Context(), method, &ask, new(string), nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
			n++
			return status.Error(ends[min(n, len(ends))-1], "x")
		})
	}
	call("", codes.OK)
	call("", codes.NotFound)
	call("", codes.Unavailable, codes.OK)
	call("", codes.Unavailable, codes.Unavailable, codes.OK)
	call("", codes.Unavailable)
	call("", codes.Unavailable, codes.NotFound)
	call("cached", codes.Unavailable) // an answer, but not by a retry
	const want = `
# HELP steady_retried_calls_total Calls of more than one attempt, by whether the last attempt succeeded.
# TYPE steady_retried_calls_total counter
steady_retried_calls_total{channel="",method="/a.B/Get",result="failed"} 3
steady_retried_calls_total{channel="",method="/a.B/Get",result="recovered"} 2
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "steady_retried_calls_total"); err != nil {
		t.Error(err)
	}
}

// TestFailureRatio is the share within the breaker's window, and a wait that would have been is none.
func TestFailureRatio(t *testing.T) {
	metrics := prom.New()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics)
	out, err := steady.NewOutbound([]steady.Rule{{
		Name: "r", Methods: []string{"/a.B/Get"}, Mode: steady.ModeObserve, Idempotent: true, Retry: &retry.Config{}, Breaker: &breaker.Config{},
	}}, steady.WithObserver(metrics))
	if err != nil {
		t.Fatal(err)
	}
	unary, _ := out.Interceptors()
	for i := range 8 {
		_ = unary(t.Context(), "/a.B/Get", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
			return status.Error([]codes.Code{codes.Unavailable, codes.OK, codes.OK, codes.OK}[i%4], "x")
		})
	}
	const want = `
# HELP steady_breaker_failure_ratio Share of failures within the breaker's window.
# TYPE steady_breaker_failure_ratio gauge
steady_breaker_failure_ratio{channel="",method="",rule="r"} 0.25
# HELP steady_retries_total Attempts that were followed by another, by their code.
# TYPE steady_retries_total counter
steady_retries_total{channel="",code="Unavailable",method="/a.B/Get",mode="observe"} 2
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want),
		"steady_breaker_failure_ratio", "steady_retries_total", "steady_retry_backoff_seconds", "steady_retried_calls_total"); err != nil {
		t.Error(err)
	}
}
