package interop_test

import (
	"errors"
	"io"
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

// TestGoGrpcMiddlewarePrometheusOnStreams: as for calls; and every message is counted by whoever saw it.
func TestGoGrpcMiddlewarePrometheusOnStreams(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		outside, inside := mwprom.NewClientMetrics(), mwprom.NewClientMetrics()
		before, after := mwprom.NewServerMetrics(), mwprom.NewServerMetrics()
		in, err := steady.NewInbound(nil)
		if err != nil {
			t.Fatal(err)
		}
		serverOpts := append([]grpc.ServerOption{grpc.ChainStreamInterceptor(before.StreamServerInterceptor())}, in.ServerOptions()...)
		serverOpts = append(serverOpts, grpc.ChainStreamInterceptor(after.StreamServerInterceptor()))
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(serverOpts...))
		fleet.Behave(steadytest.InTurn(steadytest.Failing(codes.Unavailable, 1), steadytest.Failing(codes.Unavailable, 1), steadytest.Healthy()))
		out, err := steady.NewOutbound([]steady.Rule{{Methods: []string{""}, Idempotent: true, Retry: &retry.Config{InitialBackoff: time.Millisecond}}},
			steady.WithRetryBudget(retry.BudgetConfig{Ratio: 2, MaxRatio: 2}))
		if err != nil {
			t.Fatal(err)
		}
		opts := out.DialOptions(grpc.WithChainStreamInterceptor(outside.StreamClientInterceptor()))
		opts = append(opts, grpc.WithChainStreamInterceptor(inside.StreamClientInterceptor()))
		s, err := echov1.NewEchoClient(fleet.Dial(opts...)).List(t.Context(), &echov1.EchoRequest{Count: 4}, steady.Timeout(time.Minute))
		if err != nil {
			t.Fatal(steady.Explain(err))
		}
		for n := 0; ; n++ {
			if _, err := s.Recv(); errors.Is(err, io.EOF) && n == 4 {
				break
			} else if err != nil {
				t.Fatal(n, steady.Explain(err))
			}
		}
		const labels = `grpc_method="List",grpc_service="steady.echo.v1.Echo",grpc_type="server_stream"} `
		for _, tt := range []struct {
			name string
			give prometheus.Collector
			side string
			want map[string]string // code to number
		}{
			{"outside", outside, "client", map[string]string{"OK": "1"}},
			{"inside", inside, "client", map[string]string{"OK": "1", "Unavailable": "2"}},
			{"before", before, "server", map[string]string{"OK": "1", "Unavailable": "2"}},
			{"after", after, "server", map[string]string{"OK": "1", "Unavailable": "2"}},
		} {
			metric := "grpc_" + tt.side + "_handled_total"
			var want strings.Builder
			want.WriteString("# HELP " + metric + " Total number of RPCs completed " + map[string]string{
				"client": "by the client, regardless of success or failure.\n", "server": "on the server, regardless of success or failure.\n",
			}[tt.side] + "# TYPE " + metric + " counter\n")
			for code, n := range tt.want {
				want.WriteString(metric + `{grpc_code="` + code + `",` + labels + n + "\n")
			}
			if err := testutil.CollectAndCompare(tt.give, strings.NewReader(want.String()), metric); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		const received = `
# HELP grpc_client_msg_received_total Total number of RPC stream messages received by the client.
# TYPE grpc_client_msg_received_total counter
grpc_client_msg_received_total{` + labels + "4\n"
		if err := testutil.CollectAndCompare(outside, strings.NewReader(received), "grpc_client_msg_received_total"); err != nil {
			t.Error(err)
		}
	})
}
