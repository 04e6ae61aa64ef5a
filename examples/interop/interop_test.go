package interop_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/prom"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestGrpcInterop runs the cases of gRPC's interoperability suite through steady on both sides, over TCP.
// The cases end the process on failure, as grpc-go's own client does; what reaches the end has passed.
func TestGrpcInterop(t *testing.T) {
	metrics := prom.New()
	var calls atomic.Int64
	count := steady.ObserverFunc(func(e steady.Event) {
		if _, ok := e.(*steady.CallEnded); ok {
			calls.Add(1)
		}
	})
	in, err := steady.NewInbound([]steady.Rule{{Methods: []string{""}, Deadline: &deadline.Config{Default: time.Minute}}})
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(in.ServerOptions()...)
	testgrpc.RegisterTestServiceServer(srv, interop.NewTestServer())
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()

	out, err := steady.NewOutbound([]steady.Rule{{
		Methods: []string{""}, Retry: &retry.Config{}, Breaker: &breaker.Config{}, Deadline: &deadline.Config{Default: 20 * time.Second},
	}}, steady.WithObserver(metrics), steady.WithObserver(count))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(lis.Addr().String(), out.DialOptions(
		grpc.WithTransportCredentials(insecure.NewCredentials()), steady.ChannelName("interop"))...)
	if err != nil {
		t.Fatal(err)
	}
	client := testgrpc.NewTestServiceClient(conn)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, c := range []struct {
		name string
		run  func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)
	}{
		{"empty_unary", interop.DoEmptyUnaryCall},
		{"large_unary", interop.DoLargeUnaryCall},
		{"client_streaming", interop.DoClientStreaming},
		{"server_streaming", interop.DoServerStreaming},
		{"ping_pong", interop.DoPingPong},
		{"empty_stream", interop.DoEmptyStream},
		{"timeout_on_sleeping_server", interop.DoTimeoutOnSleepingServer},
		{"cancel_after_begin", interop.DoCancelAfterBegin},
		{"cancel_after_first_response", interop.DoCancelAfterFirstResponse},
		{"custom_metadata", interop.DoCustomMetadata},
		{"status_code_and_message", interop.DoStatusCodeAndMessage},
		{"special_status_message", interop.DoSpecialStatusMessage},
		{"unimplemented_method", func(ctx context.Context, _ testgrpc.TestServiceClient, _ ...grpc.CallOption) {
			interop.DoUnimplementedMethod(ctx, conn)
		}},
		{"unimplemented_service", func(ctx context.Context, _ testgrpc.TestServiceClient, _ ...grpc.CallOption) {
			interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(conn))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := calls.Load()
			c.run(ctx, client)
			if calls.Load() == before {
				t.Error("steady saw no call end: the case did not run through it")
			}
		})
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	srv.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
