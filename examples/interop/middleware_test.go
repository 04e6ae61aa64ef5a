package interop_test

import (
	"strings"
	"testing"
	"time"

	mwprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// TestGoGrpcMiddlewarePrometheus: its client metrics count calls where they stand outside of steady, and
// attempts where they stand inside; its server metrics count what arrives.
func TestGoGrpcMiddlewarePrometheus(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		outside, inside, server := mwprom.NewClientMetrics(), mwprom.NewClientMetrics(), mwprom.NewServerMetrics()
		in, err := steady.NewInbound(nil)
		if err != nil {
			t.Fatal(err)
		}
		serverOpts := append([]grpc.ServerOption{grpc.ChainUnaryInterceptor(server.UnaryServerInterceptor())}, in.ServerOptions()...)
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(serverOpts...))
		fleet.Behave(steadytest.InTurn(steadytest.Failing(codes.Unavailable, 1), steadytest.Failing(codes.Unavailable, 1), steadytest.Healthy()))
		out, err := steady.NewOutbound([]steady.Rule{{Methods: []string{""}, Retry: &retry.Config{InitialBackoff: time.Millisecond}}},
			steady.WithRetryBudget(retry.BudgetConfig{Ratio: 2, MaxRatio: 2}))
		if err != nil {
			t.Fatal(err)
		}
		opts := out.DialOptions(grpc.WithChainUnaryInterceptor(outside.UnaryClientInterceptor()))
		opts = append(opts, grpc.WithChainUnaryInterceptor(inside.UnaryClientInterceptor()))
		ctx := t.Context()
		if _, err := echov1.NewEchoClient(fleet.Dial(opts...)).Get(ctx, &echov1.EchoRequest{}, steady.Timeout(time.Minute)); err != nil {
			t.Fatal(steady.Explain(err))
		}
		for _, tt := range []struct {
			name   string
			give   prometheus.Collector
			metric string
			want   string
		}{
			{"outside", outside, "grpc_client_handled_total", `
# HELP grpc_client_handled_total Total number of RPCs completed by the client, regardless of success or failure.
# TYPE grpc_client_handled_total counter
grpc_client_handled_total{grpc_code="OK",grpc_method="Get",grpc_service="steady.echo.v1.Echo",grpc_type="unary"} 1
`},
			{"inside", inside, "grpc_client_handled_total", `
# HELP grpc_client_handled_total Total number of RPCs completed by the client, regardless of success or failure.
# TYPE grpc_client_handled_total counter
grpc_client_handled_total{grpc_code="OK",grpc_method="Get",grpc_service="steady.echo.v1.Echo",grpc_type="unary"} 1
grpc_client_handled_total{grpc_code="Unavailable",grpc_method="Get",grpc_service="steady.echo.v1.Echo",grpc_type="unary"} 2
`},
			{"server", server, "grpc_server_started_total", `
# HELP grpc_server_started_total Total number of RPCs started on the server.
# TYPE grpc_server_started_total counter
grpc_server_started_total{grpc_method="Get",grpc_service="steady.echo.v1.Echo",grpc_type="unary"} 3
`},
		} {
			if err := testutil.CollectAndCompare(tt.give, strings.NewReader(tt.want), tt.metric); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
	})
}
