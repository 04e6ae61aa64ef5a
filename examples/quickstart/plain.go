package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/stats"
)

// What orders.yaml says, for the client without it and for the text around the table. A test holds them to it.
const (
	callTimeout    = time.Second
	attemptTimeout = 200 * time.Millisecond
	maxAttempts    = 4
)

// connectPlain opens a channel as gRPC comes: round_robin, and the same timeout as the rule's. count is told
// each attempt; there is more than one only where gRPC itself is sure that no server has seen the first.
func connectPlain(target string, count *counts, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	config := fmt.Sprintf(`{
		"loadBalancingConfig": [{"round_robin": {}}],
		"methodConfig": [{"name": [{"service": "orders.v1.Orders"}], "timeout": "%gs"}]
	}`, callTimeout.Seconds())
	return grpc.NewClient(target, append(opts,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(config),
		grpc.WithStatsHandler(attempts{count}),
	)...)
}

// attempts counts what gRPC's stats call the beginning of an RPC, which is an attempt.
type attempts struct{ *counts }

func (a attempts) HandleRPC(_ context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.Begin); ok {
		a.attempts.Add(1)
	}
}

func (attempts) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (attempts) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (attempts) HandleConn(context.Context, stats.ConnStats)                       {}
