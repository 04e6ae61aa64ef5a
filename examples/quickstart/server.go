package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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

// shop serves the orders of a small shop.
type shop struct {
	ordersv1.UnimplementedOrdersServer
	name string
}

// Get reads one order. The proto marks it NO_SIDE_EFFECTS, which is what lets a client call it again.
func (s *shop) Get(_ context.Context, req *ordersv1.GetRequest) (*ordersv1.GetResponse, error) {
	if req.GetId() == "" {
		return nil, status.Error(codes.InvalidArgument, "id: is empty, want the id of an order")
	}
	return &ordersv1.GetResponse{
		Order:  &ordersv1.Order{Id: req.GetId(), Item: "lamp", Quantity: 1, State: ordersv1.State_STATE_SHIPPED},
		Server: s.name,
	}, nil
}
