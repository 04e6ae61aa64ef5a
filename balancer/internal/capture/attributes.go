package capture

import (
	"google.golang.org/grpc/attributes"

	"github.com/grpcsteady/steady/balancer/attempt"
)

// state is the attributes of a resolver's state on a channel with a handle.
func state(h *attempt.Handle) *attributes.Attributes { return attributes.New(attempt.HandleKey{}, h) }
