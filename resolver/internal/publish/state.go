package publish

import (
	"slices"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/grpcsteady/steady/resolver/endpoint"
)

// State is what a resolver has found. It is not changed once it is published.
type State struct {
	// Endpoints is the list, at least one.
	Endpoints []resolver.Endpoint
	// Config is a service config, in JSON; "": none, the channel's own counts.
	Config string
	// Plain is what a channel is given that can not use Config; "": nothing else.
	Plain string
	// Parsed is a service config that gRPC has parsed already; nil: Config is used.
	Parsed *serviceconfig.ParseResult
	// Attributes travel to the policy.
	Attributes *attributes.Attributes
}

// same reports whether a channel that has b would learn nothing from a. Only the order of endpoints may differ:
// name servers turn it with each answer.
func (a *State) same(b *State) bool {
	if a.Config != b.Config || a.Plain != b.Plain || a.Parsed != b.Parsed || !a.Attributes.Equal(b.Attributes) ||
		len(a.Endpoints) != len(b.Endpoints) {
		return false
	}
	known := make(map[string]resolver.Endpoint, len(b.Endpoints))
	for _, e := range b.Endpoints {
		known[endpoint.Key(e)] = e
	}
	for _, e := range a.Endpoints {
		old, ok := known[endpoint.Key(e)]
		if !ok || !old.Attributes.Equal(e.Attributes) || !slices.EqualFunc(old.Addresses, e.Addresses, resolver.Address.Equal) {
			return false
		}
	}
	return true
}

// forGRPC returns the state in gRPC's form, with slices of its own, which policies may reorder. Both forms of the
// list are set, as gRPC's own resolvers do: policies built on its base balancer read only Addresses, and know
// nothing of weights, so that an endpoint that is out is left out there.
func (a *State) forGRPC() resolver.State {
	s := resolver.State{Attributes: a.Attributes, Endpoints: slices.Clone(a.Endpoints)}
	var out []resolver.Address
	for _, e := range a.Endpoints {
		if w, said := endpoint.Weight(e); said && w == 0 {
			out = append(out, e.Addresses...)
			continue
		}
		s.Addresses = append(s.Addresses, e.Addresses...)
	}
	if s.Addresses == nil {
		s.Addresses = out
	}
	return s
}
