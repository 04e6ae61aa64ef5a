package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/examples/bench/pairs"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

const (
	messages    = 100 // sent on a stream before it is answered
	messageSize = 100 // bytes of payload of each
	openStreams = 32  // at once, in rows about what a stream holds
	patience    = 10 * time.Second
)

// replayRows compare what is kept for another attempt with what gRPC's own retries keep: end to end over
// loopback TCP, since gRPC has them inside. Client and server are one process, so that the bytes of a stream are
// those of both its ends.
func replayRows() []pairs.Row {
	const peer = "grpc-go retryPolicy"
	rows := []pairs.Row{{
		Name: fmt.Sprintf("upload of %d messages over TCP", messages), Peer: peer,
		Open: func() (ours, theirs pairs.Arm, _ func(), err error) {
			_, a, b, done, err := openReplay()
			return pairs.Arm{Run: collects(a)}, pairs.Arm{Run: collects(b)}, done, err
		},
	}}
	for _, kept := range []struct {
		name     string
		messages int
		answered bool
	}{
		{"memory of an open stream, 1 message kept", 1, false},
		{"memory of an open stream, 100 messages kept", messages, false},
		{"memory of an open stream, 100 sent and committed", messages, true},
	} {
		rows = append(rows, pairs.Row{
			Name: kept.name, Peer: peer, Keeps: openStreams,
			Open: func() (ours, theirs pairs.Arm, _ func(), err error) {
				server, a, b, done, err := openReplay()
				return pairs.Arm{Keep: keeps(server, a, kept.messages, kept.answered)},
					pairs.Arm{Keep: keeps(server, b, kept.messages, kept.answered)}, done, err
			},
		})
	}
	return rows
}

// openReplay connects without deadlines, which streams do not have by themselves.
func openReplay() (server *reader, ours, peer echov1.EchoClient, done func(), err error) {
	server = &reader{read: make(chan struct{}, openStreams), ended: make(chan struct{}, openStreams)}
	ours, peer, done, err = dialBoth(server, streamRule(false), grpc.WithDefaultServiceConfig(retryPolicy("")))
	return server, ours, peer, done, err
}

// reader is a server that tells when it has read a stream up to where it is to be looked at.
type reader struct {
	echo
	failing atomic.Int32 // uploads that fail when they have been read; it goes on counting down
	read    chan struct{}
	ended   chan struct{}
}

// The text of the message after which a stream is looked at.
const (
	look   = "look"
	answer = "answer" // and which is answered
)

// Collect reads all and answers at the end.
func (r *reader) Collect(stream grpc.ClientStreamingServer[echov1.EchoRequest, echov1.EchoResponse]) error {
	for n := int32(0); ; n++ {
		switch _, err := stream.Recv(); {
		case errors.Is(err, io.EOF) && r.failing.Add(-1) >= 0:
			return status.Error(codes.Unavailable, "told to fail")
		case errors.Is(err, io.EOF):
			return stream.SendAndClose(&echov1.EchoResponse{Number: n})
		case err != nil:
			return err
		}
	}
}

// Chat reads until the client has had enough.
func (r *reader) Chat(stream grpc.BidiStreamingServer[echov1.EchoRequest, echov1.EchoResponse]) error {
	defer func() { r.ended <- struct{}{} }()
	for {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		if req.GetText() == answer {
			if err := stream.Send(&echov1.EchoResponse{}); err != nil {
				return err
			}
		}
		if req.GetText() != "" {
			r.read <- struct{}{}
		}
	}
}

// request is made anew for each message, as applications do.
func request(text string) *echov1.EchoRequest {
	return &echov1.EchoRequest{Text: text, Payload: make([]byte, messageSize)}
}

// collects makes whole uploads.
func collects(client echov1.EchoClient) pairs.Batch {
	return func(n int) error {
		for range n {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			err := collect(ctx, client)
			cancel()
			if err != nil {
				return err
			}
		}
		return nil
	}
}

func collect(ctx context.Context, client echov1.EchoClient) error {
	stream, err := client.Collect(ctx)
	if err != nil {
		return err
	}
	for range messages {
		if err := stream.Send(request("")); err != nil {
			return err
		}
	}
	reply, err := stream.CloseAndRecv()
	if err == nil && reply.GetNumber() != messages {
		err = fmt.Errorf("the server got %d messages, want %d", reply.GetNumber(), messages)
	}
	return err
}

// keeps opens streams, sends so many messages on each, has the last one answered or not, and holds them.
func keeps(server *reader, client echov1.EchoClient, sent int, answered bool) pairs.Keep {
	return func(n int) (release func(), err error) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		var streams []grpc.BidiStreamingClient[echov1.EchoRequest, echov1.EchoResponse]
		reached := 0 // of them, the server
		release = func() {
			cancel()
			for _, s := range streams {
				for err := error(nil); err == nil; _, err = s.Recv() { // to its end
				}
			}
			for range reached {
				<-server.ended
			}
		}
		defer func() {
			if err != nil {
				release()
				release = nil
			}
		}()
		for range n {
			stream, err := client.Chat(ctx)
			if err != nil {
				return nil, err
			}
			streams = append(streams, stream)
			if err := fill(stream, sent, answered); err != nil {
				return nil, err
			}
		}
		for range streams {
			select {
			case <-server.read:
				reached++
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return release, nil
	}
}

func fill(stream grpc.BidiStreamingClient[echov1.EchoRequest, echov1.EchoResponse], sent int, answered bool) error {
	for i := range sent {
		text := ""
		switch {
		case i < sent-1:
		case answered:
			text = answer
		default:
			text = look
		}
		if err := stream.Send(request(text)); err != nil {
			return err
		}
	}
	if !answered {
		return nil
	}
	_, err := stream.Recv()
	return err
}
