package main

import (
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/resolver/static"
)

// target is what both clients dial. In a cluster it would be a DNS name.
func target(addrs []string) string { return static.Scheme + ":///" + strings.Join(addrs, ",") }

// reach returns the options with which a channel finds the fleet. A server that comes back is found within a
// tenth of a second by both clients, where gRPC's own patience would outlast the whole demonstration.
func reach() []grpc.DialOption {
	return []grpc.DialOption{
		steady.Resolvers(static.Builder()),
		grpc.WithNoProxy(), // a proxy knows nothing of our loopback
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 100 * time.Millisecond,
			},
			MinConnectTimeout: time.Second,
		}),
	}
}
