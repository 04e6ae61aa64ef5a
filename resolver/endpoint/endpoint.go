// Package endpoint is what resolvers say of an endpoint and balancers read: its weight, zone and priority, as
// attributes of gRPC's resolver.Endpoint.
//
//	e := resolver.Endpoint{Addresses: []resolver.Address{{Addr: "10.0.0.1:50051"}}}
//	e = endpoint.WithZone(endpoint.WithWeight(e, 3), "a")
//
// A weight is also told in gRPC's own attribute, so that its weighted policies see it, and is read from there
// where an xDS control plane has set it.
package endpoint

import (
	"slices"
	"strings"

	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"
)

type (
	weightKey   struct{}
	zoneKey     struct{}
	priorityKey struct{}
)

// WithWeight says how much of the load an endpoint gets, beside the others. 0 takes it out. Default: 1.
func WithWeight(e resolver.Endpoint, w uint32) resolver.Endpoint {
	e.Attributes = e.Attributes.WithValue(weightKey{}, w)
	return weight.Set(e, weight.EndpointInfo{Weight: w})
}

// Weight returns the weight of an endpoint, and whether somebody has said it. In gRPC's own attribute a weight
// of 0 means that nobody has.
func Weight(e resolver.Endpoint) (w uint32, said bool) {
	if w, ok := e.Attributes.Value(weightKey{}).(uint32); ok {
		return w, true
	}
	w = weight.FromEndpoint(e).Weight
	return w, w != 0
}

// WithZone says where an endpoint is.
func WithZone(e resolver.Endpoint, zone string) resolver.Endpoint {
	e.Attributes = e.Attributes.WithValue(zoneKey{}, zone)
	return e
}

// Zone returns where an endpoint is; "" if nobody has said it.
func Zone(e resolver.Endpoint) string {
	z, _ := e.Attributes.Value(zoneKey{}).(string)
	return z
}

// WithPriority says in which order groups of endpoints are used: 0 first. Default: 0.
func WithPriority(e resolver.Endpoint, p int) resolver.Endpoint {
	e.Attributes = e.Attributes.WithValue(priorityKey{}, p)
	return e
}

// Priority returns the priority of an endpoint.
func Priority(e resolver.Endpoint) int {
	p, _ := e.Attributes.Value(priorityKey{}).(int)
	return p
}

// Key returns what makes an endpoint the same over updates and for all clients: its addresses in any order. It is
// no text for people. gRPC's own EndpointMap goes by the same, but counts an address that stands twice as two.
func Key(e resolver.Endpoint) string {
	if len(e.Addresses) == 1 {
		return e.Addresses[0].Addr
	}
	addrs := make([]string, len(e.Addresses))
	for i, a := range e.Addresses {
		addrs[i] = a.Addr
	}
	slices.Sort(addrs)
	return strings.Join(slices.Compact(addrs), "\x00") // which stands in no address
}
