// Package static resolves to endpoints that never change: those that the target lists, or those that the program
// names.
//
//	conn, err := grpc.NewClient("static:///10.0.0.1:50051?weight=3&zone=a,10.0.0.2:50051?weight=2",
//		steady.Resolvers(static.Builder()), ...)
//
//	conn, err := grpc.NewClient("static:///orders", steady.Resolvers(static.Endpoints(
//		endpoint.WithWeight(endpoint.New("10.0.0.1:50051"), 3),
//		endpoint.New("10.0.0.2:50051", "[2001:db8::2]:50051"), // one server with two addresses
//	)), ...)
//
// Each entry is host:port, with weight (0 to 1,000,000; 0 takes it out; default 1), zone and priority (0 to 100,
// 0 first) behind a question mark.
//
// Nothing is registered: the builder is given to the channels that want it, by steady.Resolvers or
// grpc.WithResolvers. For endpoints that come and go use a resolver that watches something.
package static

import (
	"fmt"

	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/proto/document"
	"github.com/grpcsteady/steady/resolver/internal/publish"
)

// Scheme is the scheme of the targets.
const Scheme = "static"

// Builder returns the builder for targets that list their endpoints. It serves any number of channels.
func Builder() resolver.Builder { return builder{} }

// Endpoints returns a builder that resolves every target to these endpoints. What the target says is only the
// name of the service, for TLS and the :authority header. An endpoint without address, and one that stands
// twice, is an error that reaches every call.
func Endpoints(list ...resolver.Endpoint) resolver.Builder {
	b := fixed{}
	b.list, b.err = check(list)
	return b
}

// Parse reads the list of a target, "host:port?weight=3,host:port". Every entry needs a host and a port from 1
// to 65535, IPv6 hosts stand in brackets, and none may be listed twice. The error tells which one is wrong, and
// in what.
func Parse(list string) ([]resolver.Endpoint, error) {
	entries, err := document.ParseEndpoints(list)
	if err != nil {
		return nil, fmt.Errorf("static: %w", err)
	}
	return publish.Endpoints(entries), nil
}
