package steady

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/grpcsteady/steady/resolver/follow"
)

// This file holds every use of what package grpc itself calls experimental, so that a change of gRPC's is
// mended in one place.

type (
	finishOption      = grpc.OnFinishCallOption
	customCodecOption = grpc.CustomCodecCallOption
	preparedMsg       = grpc.PreparedMsg
)

func onFinish(f func(error)) grpc.CallOption { return grpc.OnFinish(f) }

// withoutRetry keeps gRPC's own retries from multiplying ours. Its transparent retries stay.
func withoutRetry() grpc.DialOption { return grpc.WithDisableRetry() }

// withResolvers gives a connection builders of its own, which come before the registered ones.
func withResolvers(builders ...follow.Builder) grpc.DialOption {
	return grpc.WithResolvers(builders...)
}

// closed reports whether a connection was closed for good.
func closed(cc *grpc.ClientConn) bool { return cc != nil && cc.GetState() == connectivity.Shutdown }
