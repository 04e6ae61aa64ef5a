package prom_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/prom"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

func TestMain(m *testing.M) { steadytest.Main(m) }

// TestExposition plays a small outage and compares the text that Prometheus would read.
func TestExposition(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		metrics := prom.New(prom.WithBuckets(0.1, 1))
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(metrics)
		out, err := steady.NewOutbound([]steady.Rule{{
			Name: "echo", Methods: []string{"/steady.echo.v1.Echo/"},
			Retry:    &retry.Config{InitialBackoff: 200 * time.Millisecond, Jitter: retry.NoJitter, MaxAttempts: 2},
			Breaker:  &breaker.Config{OpenJitter: -1, FailureRatio: -1},
			Deadline: &deadline.Config{Default: 2 * time.Second},
		}}, steady.WithObserver(metrics), steady.WithRetryBudget(retry.BudgetConfig{Ratio: 1, MaxRatio: 1}),
			steady.Fallback(echov1.Echo_Put_FullMethodName, func(context.Context, *echov1.EchoRequest, error) (*echov1.EchoResponse, error) {
				return &echov1.EchoResponse{}, nil
			}))
		if err != nil {
			t.Fatal(err)
		}
		conn := fleet.Dial(out.DialOptions(steady.ChannelName("orders"))...)
		client := echov1.NewEchoClient(conn)
		get := func(want codes.Code) {
			t.Helper()
			if _, err := client.Get(t.Context(), &echov1.EchoRequest{}); status.Code(err) != want {
				t.Fatalf("%v, want %v", err, want)
			}
		}
		get(codes.OK)
		fleet.Behave(steadytest.Failing(codes.Unavailable, 1))
		get(codes.Unavailable) // two attempts
		get(codes.Unavailable) // two
		get(codes.Unavailable) // one opens, its retry is refused
		if _, err := client.Get(t.Context(), &echov1.EchoRequest{}); !errors.Is(err, breaker.ErrOpen) {
			t.Fatal(err)
		}
		if _, err := client.Put(t.Context(), &echov1.EchoRequest{}); err != nil {
			t.Fatal(err)
		}
		if err := out.Update([]steady.Rule{{}}); err == nil {
			t.Fatal("accepted")
		}
		const want = `
# HELP steady_attempts_total Attempts that ended, by code.
# TYPE steady_attempts_total counter
steady_attempts_total{channel="orders",code="OK",method="/steady.echo.v1.Echo/Get"} 1
steady_attempts_total{channel="orders",code="Unavailable",method="/steady.echo.v1.Echo/Get"} 5
# HELP steady_breaker_state 1 for the state a circuit breaker is in.
# TYPE steady_breaker_state gauge
steady_breaker_state{channel="orders",method="",rule="echo",state="closed"} 0
steady_breaker_state{channel="orders",method="",rule="echo",state="forced-closed"} 0
steady_breaker_state{channel="orders",method="",rule="echo",state="forced-open"} 0
steady_breaker_state{channel="orders",method="",rule="echo",state="half-open"} 0
steady_breaker_state{channel="orders",method="",rule="echo",state="open"} 1
# HELP steady_breaker_transitions_total Changes of circuit breakers, by the state they changed to.
# TYPE steady_breaker_transitions_total counter
steady_breaker_transitions_total{channel="orders",method="",mode="enforce",rule="echo",to="open"} 1
# HELP steady_calls_total Calls that ended, by the code their callers got.
# TYPE steady_calls_total counter
steady_calls_total{channel="orders",code="OK",method="/steady.echo.v1.Echo/Get"} 1
steady_calls_total{channel="orders",code="OK",method="/steady.echo.v1.Echo/Put"} 1
steady_calls_total{channel="orders",code="Unavailable",method="/steady.echo.v1.Echo/Get"} 4
# HELP steady_fallbacks_total Calls that a fallback was asked to answer.
# TYPE steady_fallbacks_total counter
steady_fallbacks_total{channel="orders",method="/steady.echo.v1.Echo/Put",result="answered"} 1
# HELP steady_refused_total Attempts that a gate did not admit.
# TYPE steady_refused_total counter
steady_refused_total{channel="orders",gate="breaker",method="/steady.echo.v1.Echo/Get",mode="enforce"} 2
steady_refused_total{channel="orders",gate="breaker",method="/steady.echo.v1.Echo/Put",mode="enforce"} 1
# HELP steady_reloads_total Exchanges of rules.
# TYPE steady_reloads_total counter
steady_reloads_total{result="ok"} 1
steady_reloads_total{result="refused"} 1
# HELP steady_retries_total Attempts that were followed by another, by their code.
# TYPE steady_retries_total counter
steady_retries_total{channel="orders",code="Unavailable",method="/steady.echo.v1.Echo/Get",mode="enforce"} 3
# HELP steady_retry_backoff_seconds How long calls waited before another attempt.
# TYPE steady_retry_backoff_seconds histogram
steady_retry_backoff_seconds_bucket{channel="orders",method="/steady.echo.v1.Echo/Get",le="0.1"} 0
steady_retry_backoff_seconds_bucket{channel="orders",method="/steady.echo.v1.Echo/Get",le="1"} 3
steady_retry_backoff_seconds_bucket{channel="orders",method="/steady.echo.v1.Echo/Get",le="+Inf"} 3
steady_retry_backoff_seconds_sum{channel="orders",method="/steady.echo.v1.Echo/Get"} 0.6000000000000001
steady_retry_backoff_seconds_count{channel="orders",method="/steady.echo.v1.Echo/Get"} 3
# HELP steady_retry_budget_left Retries that the budget of a channel still allows.
# TYPE steady_retry_budget_left gauge
steady_retry_budget_left{channel="orders"} 3
# HELP steady_retry_stopped_total Failed calls by the reason for which no further attempt was made.
# TYPE steady_retry_stopped_total counter
steady_retry_stopped_total{channel="orders",method="/steady.echo.v1.Echo/Get",reason="attempts"} 2
steady_retry_stopped_total{channel="orders",method="/steady.echo.v1.Echo/Get",reason="refused"} 1
`
		names := []string{
			"steady_attempts_total", "steady_breaker_state", "steady_breaker_transitions_total", "steady_calls_total",
			"steady_fallbacks_total", "steady_refused_total", "steady_reloads_total", "steady_retries_total",
			"steady_retry_backoff_seconds", "steady_retry_budget_left", "steady_retry_stopped_total",
		}
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), names...); err != nil {
			t.Error(err)
		}
		problems, err := testutil.GatherAndLint(registry)
		if err != nil || len(problems) > 0 {
			t.Errorf("lint: %v, %v", problems, err)
		}
	})
}

// TestLabelsAreBounded: names that come from whoever makes the calls become no label, and nothing panics on
// what is not UTF-8.
func TestLabelsAreBounded(t *testing.T) {
	metrics := prom.New()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics)
	out, err := steady.NewOutbound([]steady.Rule{{Methods: []string{""}, Breaker: &breaker.Config{}, PerMethod: true}}, steady.WithObserver(metrics))
	if err != nil {
		t.Fatal(err)
	}
	unary, _ := out.Interceptors()
	succeed := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	for i := range 5000 {
		if err := unary(t.Context(), fmt.Sprintf("/stranger\xff%d/M", i), nil, nil, nil, succeed); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := testutil.GatherAndCount(registry, "steady_calls_total"); n != 1 || err != nil {
		t.Errorf("%d series for 5000 unknown methods, %v", n, err)
	}
}

// TestTwoChannelsOfOneName must not send a metric twice: the state furthest from closed is shown.
func TestTwoChannelsOfOneName(t *testing.T) {
	metrics := prom.New()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics)
	rules := []steady.Rule{{Methods: []string{""}, Name: "r", Breaker: &breaker.Config{ConsecutiveFailures: 1}}}
	fail := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		return status.Error(codes.Internal, "x")
	}
	var keep []grpc.UnaryClientInterceptor
	for i := range 3 {
		out, err := steady.NewOutbound(rules, steady.WithObserver(metrics))
		if err != nil {
			t.Fatal(err)
		}
		unary, _ := out.Interceptors()
		keep = append(keep, unary)
		if i == 1 {
			_ = unary(t.Context(), "/a.B/C", nil, nil, nil, fail)
		} else {
			_ = unary(t.Context(), "/a.B/C", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil })
		}
	}
	const want = `
# HELP steady_breaker_state 1 for the state a circuit breaker is in.
# TYPE steady_breaker_state gauge
steady_breaker_state{channel="",method="",rule="r",state="closed"} 0
steady_breaker_state{channel="",method="",rule="r",state="forced-closed"} 0
steady_breaker_state{channel="",method="",rule="r",state="forced-open"} 0
steady_breaker_state{channel="",method="",rule="r",state="half-open"} 0
steady_breaker_state{channel="",method="",rule="r",state="open"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "steady_breaker_state"); err != nil {
		t.Error(err)
	}
	if len(keep) != 3 {
		t.Fatal()
	}
}

func TestObservingAllocatesNothing(t *testing.T) {
	metrics := prom.New()
	memo := new(steady.Memo)
	about := steady.About{Channel: "c", Method: "/a.B/C", Known: true, Memo: memo}
	attempt := &steady.AttemptEnded{About: about, Duration: time.Millisecond}
	call := &steady.CallEnded{About: about, Duration: time.Millisecond, Attempts: 1}
	if n := testing.AllocsPerRun(1000, func() {
		metrics.Observe(attempt)
		metrics.Observe(call)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	metrics := prom.New()
	about := steady.About{Channel: "c", Method: "/a.B/C", Known: true, Memo: new(steady.Memo)}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		attempt := &steady.AttemptEnded{About: about, Duration: time.Millisecond}
		call := &steady.CallEnded{About: about, Duration: time.Millisecond, Attempts: 1}
		for pb.Next() {
			metrics.Observe(attempt)
			metrics.Observe(call)
		}
	})
}
