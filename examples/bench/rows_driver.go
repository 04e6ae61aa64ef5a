package main

import (
	"context"
	"time"

	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/failsafegrpc"
	"github.com/failsafe-go/failsafe-go/timeout"
	ggmretry "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	ggmtimeout "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/timeout"
	"github.com/sony/gobreaker/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/examples/bench/pairs"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/steady"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// group is a job that the driver and peers do around a stub, with what both must show that they do.
type group struct {
	name             string
	serial, parallel pairs.Target
	rule             steady.Rule
	peers            []peerChain
	tight            bool // the caller's own deadline is tighter than all configured ones

	stub    *stub
	cuts    bool // gives attempts a deadline
	retries bool
	breaks  bool
}

// peerChain makes the peer's interceptors, outermost first.
type peerChain struct {
	name string
	make func() []grpc.UnaryClientInterceptor
}

// Where the caller's own deadline is the tighter one, it is far enough away to stay in the future however
// long the row takes.
const (
	callers = 10 * time.Minute
	farther = time.Hour
)

// driverRows are the jobs of interceptors/steady.
func driverRows(s *stub) []group {
	allocs := 1.0
	return []group{
		{
			name: "retry with budget, driver", stub: s, retries: true,
			serial: target(120, 1), parallel: target(100, 1),
			rule:  rule(nil, false),
			peers: []peerChain{{"go-grpc-middleware, no budget", func() []grpc.UnaryClientInterceptor { return middleware(0, 0, false) }}},
		},
		{
			name: "deadline + attempt timeout + retry", stub: s, retries: true, cuts: true,
			serial: target(620, 5), parallel: target(500, 5),
			rule:  rule(&deadline.Config{Default: callTime, AttemptTimeout: oneAttempt}, false),
			peers: []peerChain{{"go-grpc-middleware", func() []grpc.UnaryClientInterceptor { return middleware(callTime, oneAttempt, false) }}},
		},
		{
			name: "retry + breaker + deadline", stub: s, retries: true, cuts: true, breaks: true,
			serial: target(750, 5), parallel: target(600, 5),
			rule: rule(&deadline.Config{Default: callTime}, true),
			peers: []peerChain{
				{"failsafegrpc", func() []grpc.UnaryClientInterceptor { return failsafeChain(callTime) }},
				{"go-grpc-middleware + gobreaker", func() []grpc.UnaryClientInterceptor { return middleware(callTime, 0, true) }},
			},
		},
		{
			name: "driver, caller's deadline tighter", stub: s, retries: true, cuts: true, breaks: true, tight: true,
			serial: pairs.Target{Allocs: &allocs}, parallel: pairs.Target{Allocs: &allocs},
			rule: rule(&deadline.Config{Default: farther, AttemptTimeout: callers + time.Minute}, true),
			peers: []peerChain{
				{"failsafegrpc", func() []grpc.UnaryClientInterceptor { return failsafeChain(farther) }},
				{"go-grpc-middleware + gobreaker", func() []grpc.UnaryClientInterceptor { return middleware(farther, callers+time.Minute, true) }},
			},
		},
	}
}

func (g group) rows() []pairs.Row {
	var rows []pairs.Row
	for _, peer := range g.peers {
		open := func() (pairs.Arm, pairs.Arm, func(), error) {
			ours, err := driver([]steady.Rule{g.rule})
			if err != nil {
				return pairs.Arm{}, pairs.Arm{}, nil, err
			}
			ctx, cancel := context.Background(), context.CancelFunc(func() {})
			if g.tight {
				ctx, cancel = context.WithTimeout(ctx, callers)
			}
			return pairs.Arm{Run: calls(ctx, chain(g.stub.invoke, ours))},
				pairs.Arm{Run: calls(ctx, chain(g.stub.invoke, peer.make()...))}, cancel, nil
		}
		rows = append(rows,
			pairs.Row{Name: g.name + " serial", Peer: peer.name, Target: g.serial, Open: open},
			pairs.Row{Name: g.name + " parallel", Peer: peer.name, Threads: 2, Target: g.parallel, Open: open},
		)
	}
	return rows
}

// rule retries, and has a deadline and a breaker if asked for.
func rule(d *deadline.Config, breaks bool) steady.Rule {
	cfg := retryConfig()
	r := steady.Rule{Methods: []string{"/steady.echo.v1.Echo/"}, Retry: &cfg, Deadline: d}
	if breaks {
		b := breakerConfig()
		r.Breaker = &b
	}
	return r
}

// driver returns the interceptor of a fresh channel.
func driver(rules []steady.Rule, opts ...steady.Option) (grpc.UnaryClientInterceptor, error) {
	out, err := steady.NewOutbound(rules, opts...)
	if err != nil {
		return nil, err
	}
	unary, _ := out.Interceptors()
	return unary, nil
}

// middleware is what go-grpc-middleware offers: a timeout around the call, retries with a timeout for each
// attempt, and, as it has no breaker, gobreaker around each attempt. Zero times are off.
func middleware(call, each time.Duration, breaks bool) []grpc.UnaryClientInterceptor {
	var out []grpc.UnaryClientInterceptor
	if call > 0 {
		out = append(out, ggmtimeout.UnaryClientInterceptor(call))
	}
	out = append(out, ggmretry.UnaryClientInterceptor(
		ggmretry.WithMax(attempts),
		ggmretry.WithCodes(codes.Unavailable),
		ggmretry.WithBackoff(ggmretry.BackoffExponentialWithJitterBounded(firstBackoff, 0.5, mostBackoff)),
		ggmretry.WithPerRetryTimeout(each),
	))
	if breaks {
		out = append(out, gobreakerInterceptor(newGobreaker[struct{}]()))
	}
	return out
}

func gobreakerInterceptor(b *gobreaker.CircuitBreaker[struct{}]) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		_, err := b.Execute(func() (struct{}, error) {
			return struct{}{}, invoke(ctx, method, req, reply, cc, opts...)
		})
		return err
	}
}

// failsafeChain has the timeout around the call, then retries, then the breaker around each attempt: our
// order.
func failsafeChain(call time.Duration) []grpc.UnaryClientInterceptor {
	retries := failsafegrpc.NewRetryPolicyBuilder[*echov1.EchoResponse]().
		WithMaxAttempts(attempts).
		WithBackoff(firstBackoff, mostBackoff).
		WithJitterFactor(0.5).
		WithMaxDuration(maxElapsed).
		WithBudget(budget.New()).
		Build()
	return []grpc.UnaryClientInterceptor{failsafegrpc.NewUnaryClientInterceptor[*echov1.EchoResponse](
		timeout.New[*echov1.EchoResponse](call), retries,
		newFailsafeBreaker[*echov1.EchoResponse](),
	)}
}
