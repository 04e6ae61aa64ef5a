package steady_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// TestWhoStopsTheLayerAbove: a handler whose outgoing call found its breaker open has nothing to win from another
// attempt; one that made its only attempt by its own choice leaves the retrying to the layer above.
func TestWhoStopsTheLayerAbove(t *testing.T) {
	once := breakerRule(breaker.Config{ConsecutiveFailures: 1, FailureRatio: -1, OpenJitter: -1})
	for _, tt := range []struct {
		name  string
		rules []steady.Rule // of the middle
		opts  []grpc.CallOption
		warm  int // calls of the middle's own before
		want  int // calls of the middle
	}{
		{"the breaker is open", once, nil, 2, 1},
		{"it opens on the way", once, nil, 1, 2}, // the first call fails by itself, the second is refused
		{"no retry was asked for", retryRule(""), []grpc.CallOption{steady.NoRetry()}, 0, 3},
		{"no rule", nil, nil, 0, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				net := steadytest.NewNetwork()
				t.Cleanup(net.Close)
				bottom := steadytest.NewFleet(t, steadytest.OnNetwork(net), steadytest.Replicas("bottom"))
				bottom.Behave(steadytest.Failing(codes.Unavailable, 1))
				inner := echov1.NewEchoClient(dial(bottom, outbound(t, tt.rules, wide)))
				for range tt.warm {
					_, _ = inner.Get(within(t, time.Second), &req{})
				}
				middle := behind(t, net, "middle", nil)
				middle.Behave(func(ctx context.Context, _ steadytest.Call) error {
					_, err := inner.Get(ctx, &req{}, tt.opts...)
					return err
				})
				client := dial(middle, outbound(t, retryRule(""), wide))
				_, err := echov1.NewEchoClient(client).Get(within(t, 4*time.Second), &req{})
				wantCode(t, err, codes.Unavailable)
				if n := middle.Count()["middle"]; n != tt.want {
					t.Errorf("the middle was called %d times, want %d: %s", n, tt.want, steady.Explain(err))
				}
			})
		})
	}
}
