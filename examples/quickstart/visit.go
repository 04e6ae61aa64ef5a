package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	ordersv1 "github.com/grpcsteady/steady/examples/quickstart/orders/v1"
)

// Of this many calls one is a server stream and one a bidi stream. It has no divisor in common with the number of
// servers that are up, five or four: round robin would send all streams to the same ones.
const visits = 7

// visit makes the call number i, and returns an error unless all of its answer came. To the load a stream is a
// call like any other, from its opening to its end.
func visit(ctx context.Context, client ordersv1.OrdersClient, i int) error {
	id := fmt.Sprintf("order-%d", i)
	switch i % visits {
	case 2:
		return watch(ctx, client, id)
	case 5:
		return chat(ctx, client, id)
	default:
		_, err := client.Get(ctx, &ordersv1.GetRequest{Id: id})
		return err
	}
}

// watch follows an order until it is delivered.
func watch(ctx context.Context, client ordersv1.OrdersClient, id string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	stream, err := client.Watch(ctx, &ordersv1.WatchRequest{Id: id})
	if err != nil {
		return err
	}
	want := ordersv1.State_STATE_PLACED
	for ; ; want++ {
		change, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && want > ordersv1.State_STATE_DELIVERED:
			return nil
		case err != nil:
			return err
		case change.GetOrder().GetState() != want:
			return fmt.Errorf("%s is %v, want %v", id, change.GetOrder().GetState(), want)
		}
	}
}

// chat asks three questions, each after the answer to the one before.
func chat(ctx context.Context, client ordersv1.OrdersClient, id string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	stream, err := client.Chat(ctx)
	if err != nil {
		return err
	}
	for _, question := range []string{"Hello?", "Where is it?", "And now?"} {
		// The error of a stream that takes no more is read with Recv.
		if err := stream.Send(&ordersv1.ChatRequest{OrderId: id, Text: question}); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		reply, err := stream.Recv()
		if err != nil {
			return err
		}
		if want := question + " " + id + " is on its way."; reply.GetText() != want {
			return fmt.Errorf("%s: answer %q, want %q", id, reply.GetText(), want)
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	switch reply, err := stream.Recv(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	default:
		return fmt.Errorf("%s: answer %q, want no more", id, reply.GetText())
	}
}
