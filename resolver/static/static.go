// Package static resolves a target that lists its own endpoints.
//
//	conn, err := grpc.NewClient("static:///10.0.0.1:50051,10.0.0.2:50051",
//		grpc.WithResolvers(static.Builder()), ...)
//
// Nothing is registered: the builder is given to the channels that want it. The list never changes; for
// endpoints that come and go use a resolver that watches something.
package static

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"google.golang.org/grpc/resolver"
)

// Scheme is the scheme of the targets.
const Scheme = "static"

// maxEndpoints bounds what one target may list.
const maxEndpoints = 10_000

// Builder returns the builder for grpc.WithResolvers. It serves any number of channels.
func Builder() resolver.Builder { return builder{} }

type builder struct{}

func (builder) Scheme() string { return Scheme }

// Build gives the channel its endpoints once. A target that cannot be read is an error that names the part;
// gRPC hands it to every call.
func (builder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	addrs, err := Parse(target.Endpoint())
	if err != nil {
		return nil, err
	}
	var state resolver.State
	for _, a := range addrs {
		addr := resolver.Address{Addr: a}
		// Both forms: policies built on gRPC's base balancer read only the first.
		state.Addresses = append(state.Addresses, addr)
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{addr}})
	}
	if err := cc.UpdateState(state); err != nil {
		return nil, fmt.Errorf("static: %w", err)
	}
	return nothing{}, nil
}

// nothing is a resolver that has said all it knows.
type nothing struct{}

func (nothing) ResolveNow(resolver.ResolveNowOptions) {}
func (nothing) Close()                                {}

// Parse reads a list "host:port,host:port" and returns the addresses in its order. Every entry needs a host
// and a port from 1 to 65535, IPv6 hosts stand in brackets, and none may be listed twice.
func Parse(list string) ([]string, error) {
	if list == "" {
		return nil, errors.New(`static: the target lists no endpoint, want "host:port,host:port"`)
	}
	parts := strings.Split(list, ",")
	if len(parts) > maxEndpoints {
		return nil, fmt.Errorf("static: %d endpoints, want at most %d", len(parts), maxEndpoints)
	}
	seen := make(map[string]bool, len(parts))
	addrs := make([]string, 0, len(parts))
	for i, p := range parts {
		host, port, err := net.SplitHostPort(p)
		if err != nil || host == "" || strings.ContainsAny(host, " \t\r\n/?#@") {
			return nil, fmt.Errorf("static: endpoint %d: %q, want host:port", i+1, p)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("static: endpoint %d: port %q, want 1 to 65535", i+1, port)
		}
		if seen[p] {
			return nil, fmt.Errorf("static: endpoint %d: %q is listed twice", i+1, p)
		}
		seen[p] = true
		addrs = append(addrs, p)
	}
	return addrs, nil
}
