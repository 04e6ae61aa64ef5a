package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/grpcsteady/steady/examples/bench/pairs"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/steady"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// retryPolicy is grpc-go's own retry, with our numbers and its throttling, and with what else the methods have.
func retryPolicy(more string) string {
	return fmt.Sprintf(`{
	"methodConfig": [{
		"name": [{"service": "steady.echo.v1.Echo"}],
		%s
		"retryPolicy": {
			"maxAttempts": 3, "initialBackoff": "0.025s", "maxBackoff": "1s", "backoffMultiplier": 2,
			"retryableStatusCodes": ["UNAVAILABLE"]
		}
	}],
	"retryThrottling": {"maxTokens": 10, "tokenRatio": 0.2}
}`, more)
}

// tcpRows are end to end over loopback TCP: what all rules together add to a real call. There is no budget
// for them, as the noise of a call is larger than what is measured here with a stub.
func tcpRows() []pairs.Row {
	var rows []pairs.Row
	for _, callers := range []int{1, 16} {
		name := fmt.Sprintf("end to end over TCP, %d callers", callers)
		if callers == 1 {
			name = "end to end over TCP, 1 caller"
		}
		rows = append(rows,
			pairs.Row{Name: name, Peer: "plain call, same deadline", Threads: callers, Open: openTCP(plainBatch)},
			pairs.Row{Name: name, Peer: "grpc-go retryPolicy + timeout", Threads: callers,
				Open: openTCP(clientBatch, grpc.WithDefaultServiceConfig(retryPolicy(`"timeout": "2s",`)))},
		)
	}
	return rows
}

// openTCP opens both sides of a row for unary calls.
func openTCP(batch func(echov1.EchoClient) pairs.Batch, opts ...grpc.DialOption) func() (ours, peer pairs.Arm, _ func(), err error) {
	return func() (ours, peer pairs.Arm, _ func(), err error) {
		a, b, done, err := dialBoth(echo{}, rule(&deadline.Config{Default: callTime}, true), opts...)
		return pairs.Arm{Run: clientBatch(a)}, pairs.Arm{Run: batch(b)}, done, err
	}
}

// dialBoth starts a server and connects to it under a rule and with a peer's options.
func dialBoth(server echov1.EchoServer, rule steady.Rule, opts ...grpc.DialOption) (ours, peer echov1.EchoClient, _ func(), err error) {
	var closers []func()
	done := func() {
		for _, f := range slices.Backward(closers) {
			f()
		}
	}
	defer func() {
		if err != nil {
			done()
		}
	}()
	address, stop, err := serve(server)
	if err != nil {
		return nil, nil, nil, err
	}
	closers = append(closers, stop)
	out, err := steady.NewOutbound([]steady.Rule{rule})
	if err != nil {
		return nil, nil, nil, err
	}
	plaintext := grpc.WithTransportCredentials(insecure.NewCredentials())
	var clients []echov1.EchoClient
	for _, o := range [][]grpc.DialOption{out.DialOptions(plaintext), append(opts, plaintext)} {
		conn, err := grpc.NewClient(address, o...)
		if err != nil {
			return nil, nil, nil, err
		}
		closers = append(closers, func() { _ = conn.Close() })
		clients = append(clients, echov1.NewEchoClient(conn))
	}
	return clients[0], clients[1], done, nil
}

// clientBatch calls as anybody does; the deadline comes from the rule or the service config.
func clientBatch(client echov1.EchoClient) pairs.Batch {
	return func(n int) error {
		req := new(echov1.EchoRequest)
		for range n {
			if _, err := client.Get(context.Background(), req); err != nil {
				return err
			}
		}
		return nil
	}
}

// plainBatch gives each call the deadline that our rule gives it.
func plainBatch(client echov1.EchoClient) pairs.Batch {
	return func(n int) error {
		req := new(echov1.EchoRequest)
		for range n {
			ctx, cancel := context.WithTimeout(context.Background(), callTime)
			_, err := client.Get(ctx, req)
			cancel()
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// echo answers at once.
type echo struct {
	echov1.UnimplementedEchoServer
}

func (echo) Get(_ context.Context, req *echov1.EchoRequest) (*echov1.EchoResponse, error) {
	return &echov1.EchoResponse{Text: req.GetText()}, nil
}

// serve runs a server until stop is called, which waits for its end.
func serve(server echov1.EchoServer) (address string, stop func(), err error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := grpc.NewServer()
	echov1.RegisterEchoServer(srv, server)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := srv.Serve(lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			panic("bench: the server ended by itself: " + err.Error())
		}
	}()
	return lis.Addr().String(), func() { srv.Stop(); <-ended }, nil
}
