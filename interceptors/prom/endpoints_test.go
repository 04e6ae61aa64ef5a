package prom_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/balancer/weighted"
	"github.com/grpcsteady/steady/interceptors/prom"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/resolver/endpoint"
)

// TestEndpointsOfAChannel compares what a scrape shows of three servers, one of which fails until it is ejected and
// one of which is down.
func TestEndpointsOfAChannel(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a", "b", "c", "d"))
		fleet.Replica("b").Behave(steadytest.Failing(codes.Unavailable, 1))
		<-fleet.Replica("d").Drain()
		metrics := prom.New()
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(metrics)
		out, err := steady.NewOutbound(nil, steady.WithObserver(metrics))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := grpc.NewClient(fleet.Target(), out.DialOptions(slices.Concat(
			[]grpc.DialOption{steady.Resolvers(fleet.Resolver()), steady.ChannelName("orders")}, fleet.DialOptions(),
			[]grpc.DialOption{grpc.WithDefaultServiceConfig(weighted.ServiceConfig)},
		)...)...)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		call := steadytest.Get(conn)
		_ = call(t.Context(), 0) // connects
		time.Sleep(time.Second)
		for range 27 { // nine turns, of which b has five
			_ = call(t.Context(), 0)
			time.Sleep(time.Millisecond)
		}
		var picks [3]int
		for i, name := range []string{"a", "b", "c"} {
			picks[i] = fleet.Replica(name).Count()
		}
		if picks[1] != 5 {
			t.Fatalf("b was called %d times, want 5 until it is ejected", picks[1])
		}
		want := fmt.Sprintf(`
# HELP steady_endpoint_failures_total Attempts that failed at an endpoint.
# TYPE steady_endpoint_failures_total counter
steady_endpoint_failures_total{channel="orders",endpoint="a"} 0
steady_endpoint_failures_total{channel="orders",endpoint="b"} 5
steady_endpoint_failures_total{channel="orders",endpoint="c"} 0
steady_endpoint_failures_total{channel="orders",endpoint="d"} 0
# HELP steady_endpoint_requests_total Attempts sent to an endpoint.
# TYPE steady_endpoint_requests_total counter
steady_endpoint_requests_total{channel="orders",endpoint="a"} %d
steady_endpoint_requests_total{channel="orders",endpoint="b"} 5
steady_endpoint_requests_total{channel="orders",endpoint="c"} %d
steady_endpoint_requests_total{channel="orders",endpoint="d"} 0
# HELP steady_endpoint_in_flight Attempts under way at an endpoint.
# TYPE steady_endpoint_in_flight gauge
steady_endpoint_in_flight{channel="orders",endpoint="a"} 0
steady_endpoint_in_flight{channel="orders",endpoint="b"} 0
steady_endpoint_in_flight{channel="orders",endpoint="c"} 0
steady_endpoint_in_flight{channel="orders",endpoint="d"} 0
# HELP steady_endpoint_changes_total Endpoints that a balancing policy took out or let back in.
# TYPE steady_endpoint_changes_total counter
steady_endpoint_changes_total{channel="orders",mode="enforce",to="out"} 1
# HELP steady_endpoint_state How many endpoints of the name are in a state.
# TYPE steady_endpoint_state gauge
`, picks[0], picks[2])
		for i, state := range []string{"healthy", "ejected", "healthy", "disconnected"} {
			for _, s := range []string{"disconnected", "ejected", "healthy", "unhealthy"} {
				value := 0
				if s == state {
					value = 1
				}
				want += fmt.Sprintf("steady_endpoint_state{channel=%q,endpoint=%q,state=%q} %d\n", "orders", string(rune('a'+i)), s, value)
			}
		}
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "steady_endpoint_failures_total", "steady_endpoint_requests_total",
			"steady_endpoint_in_flight", "steady_endpoint_changes_total", "steady_endpoint_state"); err != nil {
			t.Error(err)
		}
	})
}

// TestEndpointLabelsAreBounded: a channel of a thousand endpoints has 256 of its own and the rest together.
func TestEndpointLabelsAreBounded(t *testing.T) {
	metrics := prom.New()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics)
	var list []endpoint.Snapshot
	for i := range 1000 {
		list = append(list, endpoint.Snapshot{Endpoint: fmt.Sprintf("%04d", i), State: "ready", Picks: 2, Effective: 1, Calls: 1 + i%2*2})
	}
	metrics.Attach(func() steady.Snapshot {
		return steady.Snapshot{Channels: []steady.ChannelSnapshot{{Name: "orders", Endpoints: list}, {Name: "orders", Endpoints: list[:1]}}}
	})
	n, err := testutil.GatherAndCount(registry, "steady_endpoint_requests_total")
	if err != nil || n != 257 {
		t.Errorf("%d series, %v; want 256 and one for the rest", n, err)
	}
	const want = `
# HELP steady_load_variation Standard deviation of the endpoints' attempts by weight within the window of ejection, as a share of their mean.
# TYPE steady_load_variation gauge
steady_load_variation{channel="orders"} 0.5
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "steady_load_variation"); err != nil {
		t.Error(err)
	}
}
