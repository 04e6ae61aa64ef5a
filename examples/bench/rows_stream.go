package main

import (
	"context"

	ggmretry "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/metadata"

	"github.com/grpcsteady/steady/examples/bench/pairs"
	"github.com/grpcsteady/steady/interceptors/steady"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// What a stream is, for ours and for the peer: go-grpc-middleware retries streams of this kind only.
var (
	streamDesc   = &grpc.StreamDesc{ServerStreams: true}
	streamMethod = echov1.Echo_List_FullMethodName
)

// streamLength is how many messages are sent on a committed stream.
const streamLength = 1000

// streamRows compare streams above a stub that opens at once and takes and gives messages at once.
func streamRows(s *stub) []pairs.Row {
	const peer = "go-grpc-middleware"
	open := func(breaks bool, batch func(grpc.Streamer) pairs.Batch) func() (pairs.Arm, pairs.Arm, func(), error) {
		return func() (ours, peer pairs.Arm, _ func(), err error) {
			intercept, err := streamDriver(breaks)
			return pairs.Arm{Run: batch(around(s.stream, intercept))},
				pairs.Arm{Run: batch(around(s.stream, streamMiddleware()))}, nil, err
		}
	}
	return []pairs.Row{
		{Name: "stream open, retry + breaker serial", Peer: peer + ", no breaker", Open: open(true, opens)},
		{Name: "stream open, retry + breaker parallel", Peer: peer + ", no breaker", Threads: 2, Open: open(true, opens)},
		{Name: "stream message received serial", Peer: peer, Target: target(15, 0), Open: open(true, receives)},
		{Name: "stream message received parallel", Peer: peer, Threads: 2, Target: target(10, 0), Open: open(true, receives)},
		{Name: "stream message sent, committed serial", Peer: peer, Target: target(15, 0), Open: open(true, sends)},
		{Name: "stream message sent, committed parallel", Peer: peer, Threads: 2, Target: target(10, 0), Open: open(true, sends)},
		{Name: "stream message sent, encoded and kept serial", Peer: peer + ", unbounded", Open: open(false, uploads)},
	}
}

// streamDriver returns the interceptor of a fresh channel.
func streamDriver(breaks bool) (grpc.StreamClientInterceptor, error) {
	out, err := steady.NewOutbound([]steady.Rule{streamRule(breaks)})
	if err != nil {
		return nil, err
	}
	_, stream := out.Interceptors()
	return stream, nil
}

// streamRule permits what the protos of Echo's streams do not promise.
func streamRule(breaks bool) steady.Rule {
	r := rule(nil, breaks)
	r.Idempotent = true
	return r
}

func streamMiddleware() grpc.StreamClientInterceptor {
	return ggmretry.StreamClientInterceptor(
		ggmretry.WithMax(attempts),
		ggmretry.WithCodes(codes.Unavailable),
		ggmretry.WithBackoff(ggmretry.BackoffExponentialWithJitterBounded(firstBackoff, 0.5, mostBackoff)),
	)
}

// around is chain for one interceptor of streams.
func around(open grpc.Streamer, outer grpc.StreamClientInterceptor) grpc.Streamer {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		return outer(ctx, desc, cc, method, open, opts...)
	}
}

func begin(open grpc.Streamer) (grpc.ClientStream, error) {
	return open(context.Background(), streamDesc, nil, streamMethod)
}

// opens opens streams and leaves each as it is.
func opens(open grpc.Streamer) pairs.Batch {
	return func(n int) error {
		for range n {
			if _, err := begin(open); err != nil {
				return err
			}
		}
		return nil
	}
}

// answered opens a stream whose first message has been received.
func answered(open grpc.Streamer) (grpc.ClientStream, error) {
	stream, err := begin(open)
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(new(echov1.EchoRequest)); err != nil {
		return nil, err
	}
	return stream, stream.RecvMsg(new(echov1.EchoResponse))
}

// receives receives on one stream for each thread and batch.
func receives(open grpc.Streamer) pairs.Batch {
	return func(n int) error {
		stream, err := answered(open)
		if err != nil {
			return err
		}
		for m := new(echov1.EchoResponse); n > 0; n-- {
			if err := stream.RecvMsg(m); err != nil {
				return err
			}
		}
		return nil
	}
}

// sends sends likewise, but opens a stream after every streamLength messages: the peer goes on keeping what is
// sent for as long as a stream lives, and would be measured by the growth of that.
func sends(open grpc.Streamer) pairs.Batch {
	return func(n int) error {
		for m := new(echov1.EchoRequest); n > 0; n -= streamLength {
			stream, err := answered(open)
			if err != nil {
				return err
			}
			for range min(n, streamLength) {
				if err := stream.SendMsg(m); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// uploads sends messages of some size on streams that nobody has answered yet. An operation is one message
// with its share of the stream's opening and of the answer, after which nothing is kept. The stub encodes here,
// as gRPC does, since the driver spares it that.
func uploads(open grpc.Streamer) pairs.Batch {
	ctx := context.WithValue(context.Background(), encodes{}, true)
	m := &echov1.EchoRequest{Payload: make([]byte, messageSize)}
	return func(n int) error {
		for n > 0 {
			stream, err := open(ctx, streamDesc, nil, streamMethod)
			if err != nil {
				return err
			}
			for range min(n, messages) {
				if err := stream.SendMsg(m); err != nil {
					return err
				}
			}
			if err := stream.RecvMsg(new(echov1.EchoResponse)); err != nil {
				return err
			}
			n -= messages
		}
		return nil
	}
}

// encodes is the key of a context whose streams encode what is sent.
type encodes struct{}

// stream is the stub's half of gRPC for streams.
func (s *stub) stream(ctx context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if s.hook != nil {
		if err := s.hook(ctx); err != nil {
			return nil, err
		}
	}
	out := &stubStream{ctx: ctx, stub: s}
	if ctx.Value(encodes{}) != nil {
		out.codec = encoding.GetCodecV2(proto.Name)
		for _, o := range opts {
			if o, ok := o.(grpc.ForceCodecV2CallOption); ok {
				out.codec = o.CodecV2
			}
		}
	}
	return out, nil
}

// stubStream takes everything and always has a message.
type stubStream struct {
	ctx   context.Context
	stub  *stub
	codec encoding.CodecV2 // nil: messages are not encoded
}

func (s *stubStream) Header() (metadata.MD, error) { return metadata.MD{}, nil }
func (s *stubStream) Trailer() metadata.MD         { return nil }
func (s *stubStream) CloseSend() error             { return nil }
func (s *stubStream) Context() context.Context     { return s.ctx }

func (s *stubStream) SendMsg(m any) error {
	if s.stub.send != nil {
		s.stub.send(s)
	}
	if s.codec == nil {
		return nil
	}
	data, err := s.codec.Marshal(m)
	if err != nil {
		return err
	}
	data.Free()
	return nil
}

func (s *stubStream) RecvMsg(any) error {
	if s.stub.receive != nil {
		return s.stub.receive(s)
	}
	return nil
}
