package interop_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	xdstypev3 "github.com/cncf/xds/go/xds/type/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/xds"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	_ "github.com/grpcsteady/steady/balancer/leastrequest"
	_ "github.com/grpcsteady/steady/balancer/weighted"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// TestXDS lets a real management server choose our policy by its name in a TypedStruct and send weighted endpoints,
// change the weights, and then the policy, while a channel with steady calls.
func TestXDS(t *testing.T) {
	fleet := map[string]string{} // address to name
	var addrs []string
	for _, name := range []string{"a", "b", "c"} {
		addr := echoServer(t, name)
		fleet[addr] = name
		addrs = append(addrs, addr)
	}
	control := newControl(t)
	control.set(t, policy(t, "steady_weighted", nil), addrs, []uint32{3, 2, 1})

	var picked []string
	out, err := steady.NewOutbound([]steady.Rule{{Methods: []string{""}, Retry: &retry.Config{}, Idempotent: true}},
		steady.WithObserver(steady.ObserverFunc(func(e steady.Event) {
			if e, ok := e.(*steady.AttemptEnded); ok {
				picked = append(picked, e.Picked) // one call after another
			}
		})))
	if err != nil {
		t.Fatal(err)
	}
	builder, err := xds.NewXDSResolverWithConfigForTesting([]byte(control.bootstrap()))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("xds:///echo", out.DialOptions(
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithResolvers(builder))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := echov1.NewEchoClient(conn)
	call := func() string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		r, err := client.Get(ctx, &echov1.EchoRequest{}, grpc.WaitForReady(true))
		if err != nil {
			t.Fatalf("a call failed: %v", err)
		}
		return r.GetServer()
	}
	count := func(n int) map[string]int {
		counts := map[string]int{}
		for range n {
			counts[call()]++
		}
		return counts
	}
	// until calls until the last 60 were spread as wanted: connections and updates arrive when they arrive.
	until := func(want func(map[string]int) bool) map[string]int {
		t.Helper()
		var got map[string]int
		for range 500 {
			if got = count(60); want(got) {
				return got
			}
		}
		t.Fatalf("60 calls are spread %v", got)
		return nil
	}
	near := func(a, b, c int) func(map[string]int) bool {
		return func(got map[string]int) bool {
			for name, want := range map[string]int{"a": a, "b": b, "c": c} {
				if d := got[name] - want; d < -2 || d > 2 {
					return false
				}
			}
			return true
		}
	}
	t.Log("3:2:1", until(near(30, 20, 10)))
	got := count(600)
	if !near(300, 200, 100)(got) {
		t.Errorf("600 calls by 3:2:1: %v", got)
	}
	control.set(t, policy(t, "steady_weighted", nil), addrs, []uint32{1, 1, 4})
	t.Log("1:1:4", until(near(10, 10, 40)))
	control.set(t, policy(t, "steady_least_request", map[string]any{"choiceCount": 3, "latency": map[string]any{"decay": "5s"}}),
		addrs, []uint32{1, 1, 1})
	t.Log("least request", until(func(got map[string]int) bool { return len(got) == 3 && got["c"] < 35 }))
	picked = nil
	call()
	if len(picked) != 1 || fleet[picked[0]] == "" {
		t.Errorf("the attempt went to %v, want the address of an endpoint: the driver and the picker do not talk", picked)
	}
}

// instance answers with its name.
type instance struct {
	echov1.UnimplementedEchoServer
	name string
}

func (i instance) Get(context.Context, *echov1.EchoRequest) (*echov1.EchoResponse, error) {
	return &echov1.EchoResponse{Server: i.name}, nil
}

// echoServer serves one instance on loopback.
func echoServer(t *testing.T, name string) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	echov1.RegisterEchoServer(srv, instance{name: name})
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(lis)
	}()
	t.Cleanup(func() {
		srv.Stop()
		<-served
	})
	return lis.Addr().String()
}

// control is a management server.
type control struct {
	addr    string
	cache   cache.SnapshotCache
	version int
}

const node = "steady-test"

func newControl(t *testing.T) *control {
	t.Helper()
	c := &control{cache: cache.NewSnapshotCache(true, cache.IDHash{}, nil)}
	ctx, cancel := context.WithCancel(context.Background())
	srv := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(srv, server.NewServer(ctx, c.cache, nil))
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.addr = lis.Addr().String()
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(lis)
	}()
	t.Cleanup(func() {
		cancel()
		srv.Stop()
		<-served
	})
	return c
}

func (c *control) bootstrap() string {
	return fmt.Sprintf(`{"xds_servers":[{"server_uri":%q,"channel_creds":[{"type":"insecure"}],"server_features":["xds_v3"]}],"node":{"id":%q}}`, c.addr, node)
}

// set sends a whole configuration.
func (c *control) set(t *testing.T, p *clusterv3.LoadBalancingPolicy, addrs []string, weights []uint32) {
	t.Helper()
	c.version++
	ads := &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
	route := &routev3.RouteConfiguration{Name: "route", VirtualHosts: []*routev3.VirtualHost{{
		Name: "all", Domains: []string{"*"}, Routes: []*routev3.Route{{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: ""}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "cluster"}}},
		}},
	}}}
	manager := &hcmv3.HttpConnectionManager{
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: route},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed(t, &routerv3.Router{})},
		}},
	}
	var endpoints []*endpointv3.LbEndpoint
	for i, addr := range addrs {
		host, port, _ := strings.Cut(addr, ":")
		var n uint32
		_, _ = fmt.Sscan(port, &n)
		endpoints = append(endpoints, &endpointv3.LbEndpoint{
			LoadBalancingWeight: wrapperspb.UInt32(weights[i]),
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
					Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: n},
				}}},
			}},
		})
	}
	snapshot, err := cache.NewSnapshot(fmt.Sprint(c.version), map[resource.Type][]types.Resource{
		resource.ListenerType: {&listenerv3.Listener{Name: "echo", ApiListener: &listenerv3.ApiListener{ApiListener: packed(t, manager)}}},
		resource.ClusterType: {&clusterv3.Cluster{
			Name: "cluster", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
			EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads}, LoadBalancingPolicy: p,
		}},
		resource.EndpointType: {&endpointv3.ClusterLoadAssignment{
			ClusterName: "cluster", Endpoints: []*endpointv3.LocalityLbEndpoints{{
				Locality: &corev3.Locality{Zone: "zone"}, LoadBalancingWeight: wrapperspb.UInt32(1), LbEndpoints: endpoints,
			}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cache.SetSnapshot(t.Context(), node, snapshot); err != nil {
		t.Fatal(err)
	}
}

// policy names a policy of ours as a control plane does.
func policy(t *testing.T, name string, config map[string]any) *clusterv3.LoadBalancingPolicy {
	t.Helper()
	value, err := structpb.NewStruct(config)
	if err != nil {
		t.Fatal(err)
	}
	return &clusterv3.LoadBalancingPolicy{Policies: []*clusterv3.LoadBalancingPolicy_Policy{{
		TypedExtensionConfig: &corev3.TypedExtensionConfig{
			Name: "steady", TypedConfig: packed(t, &xdstypev3.TypedStruct{TypeUrl: "type.googleapis.com/" + name, Value: value}),
		},
	}}}
}

func packed(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
