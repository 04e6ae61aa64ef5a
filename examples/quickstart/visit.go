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

// questions are what a chat asks.
var questions = []string{"Hello?", "Where is it?", "And now?"}

// chat asks its questions and reads the answers. All that was asked is asked again on another attempt, as long as
// no answer has come.
func chat(ctx context.Context, client ordersv1.OrdersClient, id string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	stream, err := client.Chat(ctx)
	if err != nil {
		return err
	}
	for _, question := range questions {
		// The error of a stream that takes no more is read with Recv.
		if err := stream.Send(&ordersv1.ChatRequest{OrderId: id, Text: question}); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for n := 0; ; n++ {
		reply, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && n == len(questions):
			return nil
		case err != nil:
			return err
		case n == len(questions) || reply.GetText() != questions[n]+" "+id+" is on its way.":
			return fmt.Errorf("%s: %q is no answer to question %d of %d", id, reply.GetText(), n+1, len(questions))
		}
	}
}
