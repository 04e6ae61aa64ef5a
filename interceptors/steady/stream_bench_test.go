//go:build !race

package steady_test

import (
	"context"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
)

// endless is a stream that takes everything and always has a message.
type endless struct{ ctx context.Context }

func (e endless) Header() (metadata.MD, error) { return metadata.MD{}, nil }
func (e endless) Trailer() metadata.MD         { return nil }
func (e endless) CloseSend() error             { return nil }
func (e endless) Context() context.Context     { return e.ctx }
func (e endless) SendMsg(any) error            { return nil }
func (e endless) RecvMsg(any) error            { return nil }

var streamRules = map[string][]steady.Rule{
	"none":  nil,
	"retry": {{Methods: []string{""}, Idempotent: true, Retry: &retry.Config{}}},
	"full": {{
		Methods: []string{""}, Idempotent: true, Retry: &retry.Config{}, Breaker: &breaker.Config{}, Deadline: &deadline.Config{},
	}},
	"timed": {{Methods: []string{""}, Deadline: &deadline.Config{Idle: time.Minute, Send: time.Minute}}},
}

// openEndless opens a stream under the rules and plays its first message.
func openEndless(tb testing.TB, name string, m any) grpc.ClientStream {
	out, err := steady.NewOutbound(streamRules[name])
	if err != nil {
		tb.Fatal(err)
	}
	_, intercept := out.Interceptors()
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	s, err := intercept(tb.Context(), desc, nil, list,
		func(ctx context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
			return endless{ctx}, nil
		})
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.SendMsg(m); err != nil {
		tb.Fatal(err)
	}
	if err := s.RecvMsg(m); err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestStreamMessageAllocatesNothing(t *testing.T) {
	for name := range streamRules {
		m := new(req)
		s := openEndless(t, name, m)
		if n := testing.AllocsPerRun(1000, func() {
			if s.SendMsg(m) != nil || s.RecvMsg(m) != nil {
				t.Error("ended")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations for a message sent and one received, want none", name, n)
		}
	}
}

// BenchmarkStreamMessage is what a message costs on a stream that is committed, above gRPC's own.
func BenchmarkStreamMessage(b *testing.B) {
	for _, name := range []string{"none", "retry", "full", "timed"} {
		m := new(req)
		b.Run(name+"/send", func(b *testing.B) {
			s := openEndless(b, name, m)
			b.ReportAllocs()
			for b.Loop() {
				_ = s.SendMsg(m)
			}
		})
		b.Run(name+"/receive", func(b *testing.B) {
			s := openEndless(b, name, m)
			b.ReportAllocs()
			for b.Loop() {
				_ = s.RecvMsg(m)
			}
		})
	}
}

// over is a stream that has ended.
type over struct{ endless }

func (over) RecvMsg(any) error { return io.EOF }

// BenchmarkStreamOpen is what opening a stream and reading its end costs, above gRPC's own.
func BenchmarkStreamOpen(b *testing.B) {
	for _, name := range []string{"none", "retry", "full", "timed"} {
		b.Run(name, func(b *testing.B) {
			out, err := steady.NewOutbound(streamRules[name])
			if err != nil {
				b.Fatal(err)
			}
			_, intercept := out.Interceptors()
			desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
			inner := grpc.ClientStream(over{endless{b.Context()}})
			open := func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
				return inner, nil
			}
			b.ReportAllocs()
			for b.Loop() {
				s, err := intercept(b.Context(), desc, nil, list, open)
				if err != nil {
					b.Fatal(err)
				}
				if err := s.RecvMsg(nil); err != io.EOF { //nolint:errorlint // bare, as gRPC promises
					b.Fatal(err)
				}
			}
		})
	}
}
