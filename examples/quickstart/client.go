package main

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
)

const (
	callTimeout    = time.Second            // of a call in all; plain gRPC gets the same
	attemptTimeout = 200 * time.Millisecond // a healthy server needs a few ms: this long means it hangs
	maxAttempts    = 5                      // three servers of five are sick, and round robin knows nothing of retries
	budgetRatio    = 0.5                    // retries per call
)

const balancing = `{"loadBalancingConfig":[{"round_robin":{}}]}` // gRPC's own business

// The client side, to copy: rules, an Outbound that holds them, a channel that follows them. orders.yaml says the
// same as a document.
func rules() []steady.Rule {
	return []steady.Rule{{
		Methods:  []string{"/orders.v1.Orders/"},
		Deadline: &deadline.Config{Default: callTimeout, AttemptTimeout: attemptTimeout},
		// Short waits: round robin most likely picks another server next, and what keeps retries from
		// becoming a storm is their budget.
		Retry: &retry.Config{MaxAttempts: maxAttempts, InitialBackoff: time.Millisecond},
		// With three sick servers five failures in a row happen by chance, and two others are fine: taking out
		// an endpoint is the balancer's business. The breaker is for the day when half of all calls fail.
		Breaker: &breaker.Config{ConsecutiveFailures: -1},
	}}
}

// connect opens a channel to the shop's servers whose calls follow the rules.
func connect(target string, observer steady.Observer, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	out, err := newOutbound(observer)
	if err != nil {
		return nil, err
	}
	return grpc.NewClient(target, out.DialOptions(append(opts,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(balancing),
	)...)...)
}

// newOutbound is the one place that knows where the rules come from.
func newOutbound(observer steady.Observer) (*steady.Outbound, error) {
	return steady.NewOutbound(rules(),
		steady.WithObserver(observer),
		// The default, 0.2, is for fleets with a sick server now and then. Here three of five are sick
		// all the time: that takes nearly 0.2 retries a call, and leaves no room for a bad moment.
		steady.WithRetryBudget(retry.BudgetConfig{Ratio: budgetRatio}),
	)
}
