//go:build !race

package steady_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/prom"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
)

// The race detector allocates on its own account; the counts hold without it.

var fullRule = []steady.Rule{{
	Methods: []string{""}, Deadline: &deadline.Config{Default: time.Second}, Retry: &retry.Config{}, Breaker: &breaker.Config{},
}}

func succeed(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
	return nil
}

func TestAllocations(t *testing.T) {
	tight, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	in, out := new(req), new(reply)
	generated := []grpc.CallOption{grpc.StaticMethod()} // as generated code passes
	for _, tt := range []struct {
		name  string
		rules []steady.Rule
		ctx   context.Context
		opts  []steady.Option
		want  float64
	}{
		{"no rule", nil, t.Context(), nil, 0},
		{"retry", []steady.Rule{{Methods: []string{""}, Retry: &retry.Config{}}}, t.Context(), nil, 1},
		{"retry and breaker", []steady.Rule{{Methods: []string{""}, Retry: &retry.Config{}, Breaker: &breaker.Config{}}}, t.Context(), nil, 1},
		{"everything, a derived context", fullRule, t.Context(), nil, 5},
		{"everything, the caller's deadline is tighter", fullRule, tight, nil, 1},
		{"everything, observed by prom", fullRule, tight, []steady.Option{steady.WithObserver(prom.New())}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, always(answer{}), tt.rules, tt.opts...)
			run := func() {
				if err := c.unary(tt.ctx, get, in, out, nil, succeed, generated...); err != nil {
					t.Fatal(err)
				}
			}
			for range 100 {
				run()
			}
			if got := testing.AllocsPerRun(1000, run); got > tt.want {
				t.Errorf("%v allocations a call, want at most %v", got, tt.want)
			}
		})
	}
}

// likeGRPC uses a context as gRPC does: it reads the deadline for the header, derives a context that it can cancel,
// and waits for its end.
func likeGRPC(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx.Deadline()
	select {
	case <-ctx.Done():
	default:
	}
	return ctx.Err()
}

func BenchmarkUnary(b *testing.B) {
	tight, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	for _, bb := range []struct { // those named grpc end in likeGRPC, the others in nothing
		name  string
		rules []steady.Rule
		ctx   context.Context
		opts  []steady.Option
	}{
		{"none", nil, b.Context(), nil},
		{"retry", []steady.Rule{{Methods: []string{""}, Retry: &retry.Config{}}}, b.Context(), nil},
		{"breaker", []steady.Rule{{Methods: []string{""}, Breaker: &breaker.Config{}}}, b.Context(), nil},
		{"full", fullRule, b.Context(), nil},
		{"full-tight", fullRule, tight, nil},
		{"full-grpc", fullRule, b.Context(), nil},
		{"full-tight-prom", fullRule, tight, []steady.Option{steady.WithObserver(prom.New())}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			out, err := steady.NewOutbound(bb.rules, bb.opts...)
			if err != nil {
				b.Fatal(err)
			}
			unary, _ := out.Interceptors()
			invoke := succeed
			if strings.HasSuffix(bb.name, "-grpc") {
				invoke = likeGRPC
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				in, reply := new(req), new(reply)
				for pb.Next() {
					if err := unary(bb.ctx, get, in, reply, nil, invoke); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
