package steady_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
)

func ExampleNewOutbound() {
	out, err := steady.NewOutbound([]steady.Rule{{
		Methods:  []string{"/orders.v1.Orders/"},
		Deadline: &deadline.Config{Default: 2 * time.Second},
		Retry:    &retry.Config{},   // a zero field is its documented default
		Breaker:  &breaker.Config{}, // nil would be off
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	// Then give out.DialOptions to grpc.NewClient.
	for _, r := range out.Rules() {
		fmt.Println(r.Name, r.Deadline.Default, r.Retry.MaxAttempts, r.Breaker.ConsecutiveFailures)
	}
	// Output: /orders.v1.Orders/ 2s 3 5
}

func ExampleExplain() {
	out, err := steady.NewOutbound([]steady.Rule{{
		Name: "orders", Methods: []string{"/orders.v1.Orders/"}, RetryOn: []codes.Code{codes.Unavailable},
		Retry: &retry.Config{MaxAttempts: 2, InitialBackoff: time.Millisecond},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	unary, _ := out.Interceptors()
	down := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		return status.Error(codes.Unavailable, "the database is down")
	}
	err = unary(context.Background(), "/orders.v1.Orders/Get", nil, nil, nil, down)
	var call *steady.CallError
	fmt.Println(status.Code(err), errors.As(err, &call), call.Report.Made(), "attempts, stopped by", call.Report.Stop)
	// Output: Unavailable true 2 attempts, stopped by attempts
}

func ExampleFallback() {
	type request struct{ ID string }
	type order struct{ ID, State string }
	const method = "/orders.v1.Orders/Get"
	cache := map[string]*order{"7": {ID: "7", State: "as of yesterday"}}
	out, err := steady.NewOutbound(nil, steady.Fallback(method, func(_ context.Context, r *request, cause error) (*order, error) {
		if o, ok := cache[r.ID]; ok {
			return o, nil
		}
		return nil, cause
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	unary, _ := out.Interceptors()
	down := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		return status.Error(codes.Unavailable, "down")
	}
	var got order
	err = unary(context.Background(), method, &request{ID: "7"}, &got, nil, down)
	fmt.Println(got.State, err)
	// Output: as of yesterday <nil>
}
