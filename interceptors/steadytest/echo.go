package steadytest

import (
	"context"
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// echo answers what it is asked and says which replica it is.
type echo struct {
	echov1.UnimplementedEchoServer
	replica string
}

func (e *echo) reply(req *echov1.EchoRequest, number int32) *echov1.EchoResponse {
	return &echov1.EchoResponse{Text: req.GetText(), Payload: req.GetPayload(), Server: e.replica, Number: number}
}

// Get, Put and Post differ only in what the proto says of repeating them.
func (e *echo) Get(_ context.Context, req *echov1.EchoRequest) (*echov1.EchoResponse, error) {
	return e.reply(req, 1), nil
}

func (e *echo) Put(_ context.Context, req *echov1.EchoRequest) (*echov1.EchoResponse, error) {
	return e.reply(req, 1), nil
}

func (e *echo) Post(_ context.Context, req *echov1.EchoRequest) (*echov1.EchoResponse, error) {
	return e.reply(req, 1), nil
}

// List sends count replies, numbered from 1.
func (e *echo) List(req *echov1.EchoRequest, stream grpc.ServerStreamingServer[echov1.EchoResponse]) error {
	for i := range req.GetCount() {
		if err := stream.Send(e.reply(req, i+1)); err != nil {
			return err
		}
	}
	return nil
}

// Collect answers with all texts, joined by a blank, and their number.
func (e *echo) Collect(stream grpc.ClientStreamingServer[echov1.EchoRequest, echov1.EchoResponse]) error {
	var texts []string
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			all := &echov1.EchoRequest{Text: strings.Join(texts, " ")}
			return stream.SendAndClose(e.reply(all, int32(len(texts)))) //nolint:gosec // as many as a test sends
		}
		if err != nil {
			return err
		}
		texts = append(texts, req.GetText())
	}
}

// Chat answers each message, numbered from 1.
func (e *echo) Chat(stream grpc.BidiStreamingServer[echov1.EchoRequest, echov1.EchoResponse]) error {
	for number := int32(1); ; number++ {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(e.reply(req, number)); err != nil {
			return err
		}
	}
}
