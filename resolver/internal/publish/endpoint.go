package publish

import (
	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/proto/document"
	"github.com/grpcsteady/steady/resolver/endpoint"
)

// Endpoints returns endpoints that people wrote down in gRPC's form.
func Endpoints(list []document.Endpoint) []resolver.Endpoint {
	out := make([]resolver.Endpoint, len(list))
	for i, e := range list {
		out[i] = endpoint.New(e.Addresses...)
		if e.Weight != nil {
			out[i] = endpoint.WithWeight(out[i], *e.Weight)
		}
		if e.Zone != "" {
			out[i] = endpoint.WithZone(out[i], e.Zone)
		}
		if e.Priority != 0 {
			out[i] = endpoint.WithPriority(out[i], e.Priority)
		}
	}
	return out
}
