package main

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/grpcsteady/steady/examples/bench/pairs"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// What every row is configured with, ours and peers alike.
const (
	method       = echov1.Echo_Get_FullMethodName
	attempts     = 3                     // in all
	firstBackoff = 25 * time.Millisecond // of the first wait, with full jitter
	mostBackoff  = time.Second
	maxElapsed   = 10 * time.Second
	callTime     = 2 * time.Second
	oneAttempt   = time.Second // of one attempt, where the row has a timeout for it

	window      = 10 * time.Second // of a breaker, in ten buckets
	bucket      = time.Second
	minimum     = 20 // calls in the window before the ratio counts
	failureRate = 0.5
	inARow      = 5 // failures that open without a ratio
	openTime    = 5 * time.Second
)

// allRows returns every row, in the order of the table of targets.
func allRows() []pairs.Row {
	s := &stub{}
	rows := breakerRows()
	rows = append(rows, retryRows(s)...)
	for _, group := range driverRows(s) {
		rows = append(rows, group.rows()...)
	}
	rows = append(rows, promRows(s)...)
	rows = append(rows, balanceRows()...)
	rows = append(rows, streamRows(s)...)
	rows = append(rows, tcpRows()...)
	return append(rows, replayRows()...)
}

// target is a budget of so many nanoseconds and heap objects.
func target(ns, allocs float64) pairs.Target { return pairs.Target{NS: &ns, Allocs: &allocs} }

// stub stands in for gRPC below an interceptor.
type stub struct {
	hook    func(ctx context.Context) error // nil: every call succeeds, every stream opens
	send    func(*stubStream)               // told each message that is sent on a stream, unless nil
	receive func(*stubStream) error         // nil: a stream always has a message
}

func (s *stub) invoke(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
	if s.hook != nil {
		return s.hook(ctx)
	}
	return nil
}

// do is the stub for what is not gRPC.
func (s *stub) do(ctx context.Context) error {
	if s.hook != nil {
		return s.hook(ctx)
	}
	return nil
}

// chain nests interceptors around a stub, first one outermost, as grpc.WithChainUnaryInterceptor does, but
// once and not for every call, which favours those with several.
func chain(invoke grpc.UnaryInvoker, interceptors ...grpc.UnaryClientInterceptor) grpc.UnaryInvoker {
	for _, outer := range slices.Backward(interceptors) {
		inner := invoke
		invoke = func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
			return outer(ctx, method, req, reply, cc, inner, opts...)
		}
	}
	return invoke
}

// calls makes calls of one caller through an invoker. Messages are reused: their cost is nobody's.
func calls(ctx context.Context, invoke grpc.UnaryInvoker) pairs.Batch {
	return func(n int) error {
		req, reply := new(echov1.EchoRequest), new(echov1.EchoResponse)
		for range n {
			if err := invoke(ctx, method, req, reply, nil); err != nil {
				return err
			}
		}
		return nil
	}
}
