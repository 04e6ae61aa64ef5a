package main

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ordersv1 "github.com/grpcsteady/steady/examples/quickstart/orders/v1"
)

// shop serves the orders of a small shop. Its proto marks these methods NO_SIDE_EFFECTS, which is what lets a
// client call them again.
type shop struct {
	ordersv1.UnimplementedOrdersServer
	name string
}

var errNoID = status.Error(codes.InvalidArgument, "id: is empty, want the id of an order")

// Get reads one order.
func (s *shop) Get(_ context.Context, req *ordersv1.GetRequest) (*ordersv1.GetResponse, error) {
	if req.GetId() == "" {
		return nil, errNoID
	}
	return &ordersv1.GetResponse{Order: order(req.GetId(), ordersv1.State_STATE_SHIPPED), Server: s.name}, nil
}

// Watch sends an order as often as it changes. Everything happens at once in this shop.
func (s *shop) Watch(req *ordersv1.WatchRequest, stream grpc.ServerStreamingServer[ordersv1.WatchResponse]) error {
	if req.GetId() == "" {
		return errNoID
	}
	for state := ordersv1.State_STATE_PLACED; state <= ordersv1.State_STATE_DELIVERED; state++ {
		if err := stream.Send(&ordersv1.WatchResponse{Order: order(req.GetId(), state)}); err != nil {
			return err
		}
	}
	return nil
}

// Chat answers each question.
func (s *shop) Chat(stream grpc.BidiStreamingServer[ordersv1.ChatRequest, ordersv1.ChatResponse]) error {
	for {
		req, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case req.GetOrderId() == "":
			return errNoID
		}
		if err := stream.Send(&ordersv1.ChatResponse{Text: req.GetText() + " " + req.GetOrderId() + " is on its way."}); err != nil {
			return err
		}
	}
}

func order(id string, state ordersv1.State) *ordersv1.Order {
	return &ordersv1.Order{Id: id, Item: "lamp", Quantity: 1, State: state}
}
