package main

import (
	"google.golang.org/grpc"

	ordersv1 "github.com/grpcsteady/steady/examples/quickstart/orders/v1"
	"github.com/grpcsteady/steady/interceptors/fault"
	"github.com/grpcsteady/steady/interceptors/steady"
)

// The server side, to copy: an Inbound beside the service. It makes the caller's deadline the budget of the
// calls that handlers make, and keeps two layers from retrying the same failure. The injector is what makes
// this server sick; leave it out.
func newServer(name string, faults *fault.Injector) (*grpc.Server, error) {
	in, err := steady.NewInbound(nil, steady.WithFaults(faults))
	if err != nil {
		return nil, err
	}
	srv := grpc.NewServer(in.ServerOptions()...)
	ordersv1.RegisterOrdersServer(srv, &shop{name: name})
	return srv, nil
}
