package endpoint_test

import (
	"fmt"
	"math"
	"testing"

	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/resolver/endpoint"
)

func of(addrs ...string) (e resolver.Endpoint) {
	for _, a := range addrs {
		e.Addresses = append(e.Addresses, resolver.Address{Addr: a})
	}
	return e
}

func TestWeight(t *testing.T) {
	for _, tt := range []struct {
		name string
		give resolver.Endpoint
		want uint32
		said bool
		grpc uint32 // what gRPC's own policies see
	}{
		{"nobody said", of("a"), 0, false, 0},
		{"three", endpoint.WithWeight(of("a"), 3), 3, true, 3},
		{"none at all", endpoint.WithWeight(of("a"), 0), 0, true, 0},
		{"the most", endpoint.WithWeight(of("a"), math.MaxUint32), math.MaxUint32, true, math.MaxUint32},
		{"the last word counts", endpoint.WithWeight(endpoint.WithWeight(of("a"), 3), 5), 5, true, 5},
		{"gRPC's own", weight.Set(of("a"), weight.EndpointInfo{Weight: 7}), 7, true, 7},
		{"gRPC's own, not said", weight.Set(of("a"), weight.EndpointInfo{}), 0, false, 0},
		{"ours before gRPC's", weight.Set(endpoint.WithWeight(of("a"), 2), weight.EndpointInfo{Weight: 7}), 2, true, 7},
	} {
		if w, said := endpoint.Weight(tt.give); w != tt.want || said != tt.said {
			t.Errorf("%s: %d, %v, want %d, %v", tt.name, w, said, tt.want, tt.said)
		}
		if w := weight.FromEndpoint(tt.give).Weight; w != tt.grpc {
			t.Errorf("%s: gRPC sees %d, want %d", tt.name, w, tt.grpc)
		}
	}
}

// TestAttributesAreOneEndpoints: what is said of an endpoint is not said of the one it was copied from.
func TestAttributesAreOneEndpoints(t *testing.T) {
	plain := of("a")
	full := endpoint.WithPriority(endpoint.WithZone(endpoint.WithWeight(plain, 3), "east"), 2)
	other := endpoint.WithZone(full, "west")
	if w, _ := endpoint.Weight(full); w != 3 || endpoint.Zone(full) != "east" || endpoint.Priority(full) != 2 {
		t.Errorf("weight %d, zone %q, priority %d, want 3, east and 2", w, endpoint.Zone(full), endpoint.Priority(full))
	}
	if endpoint.Zone(other) != "west" || endpoint.Priority(other) != 2 {
		t.Errorf("zone %q, priority %d, want west and 2", endpoint.Zone(other), endpoint.Priority(other))
	}
	if _, said := endpoint.Weight(plain); said || endpoint.Zone(plain) != "" || endpoint.Priority(plain) != 0 {
		t.Error("the endpoint that was copied from has changed")
	}
}

func TestKey(t *testing.T) {
	for _, tt := range []struct {
		a, b resolver.Endpoint
		same bool
	}{
		{of("a"), of("a"), true},
		{of("a"), of("b"), false},
		{of("a", "b"), of("b", "a"), true},
		{of("a", "b"), of("a"), false},
		{of("a", "b"), of("a,b"), false},
		{of("a,b", "c"), of("a", "b,c"), false},
		{of("a"), endpoint.WithWeight(of("a"), 3), true},
		{of(), of(), true},
	} {
		if same := endpoint.Key(tt.a) == endpoint.Key(tt.b); same != tt.same {
			t.Errorf("%v and %v: %q and %q", tt.a.Addresses, tt.b.Addresses, endpoint.Key(tt.a), endpoint.Key(tt.b))
		}
		// gRPC's own map says the same.
		m := resolver.NewEndpointMap[int]()
		m.Set(tt.a, 1)
		if _, same := m.Get(tt.b); same != tt.same {
			t.Errorf("%v and %v: to gRPC the same: %v, want %v", tt.a.Addresses, tt.b.Addresses, same, tt.same)
		}
	}
	if endpoint.Key(of("a", "b", "a")) != endpoint.Key(of("b", "a")) || endpoint.Key(of("a", "a")) != "a" {
		t.Error("an address that stands twice makes another endpoint")
	}
	e := of("c", "a", "b")
	endpoint.Key(e)
	if e.Addresses[0].Addr != "c" {
		t.Error("the addresses were sorted in place: their order is the order of dialing")
	}
}

func Example() {
	list := []resolver.Endpoint{
		{Addresses: []resolver.Address{{Addr: "10.0.0.1:50051"}, {Addr: "[2001:db8::1]:50051"}}},
		{Addresses: []resolver.Address{{Addr: "10.0.0.2:50051"}}},
	}
	list[0] = endpoint.WithZone(endpoint.WithWeight(list[0], 3), "east")

	for _, e := range list {
		w, said := endpoint.Weight(e)
		fmt.Printf("%s: weight %d (said: %v), zone %q\n", e.Addresses[0].Addr, w, said, endpoint.Zone(e))
	}
	// Output:
	// 10.0.0.1:50051: weight 3 (said: true), zone "east"
	// 10.0.0.2:50051: weight 0 (said: false), zone ""
}
