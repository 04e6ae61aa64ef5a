package main

import (
	"context"

	ggmprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/grpcsteady/steady/examples/bench/pairs"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/prom"
	"github.com/grpcsteady/steady/interceptors/steady"
)

// promRows compare what metrics add to a call: ours is the driver with them less the driver without, the
// peer's its interceptor less the bare stub. Both keep counters and a histogram of durations. The caller's deadline
// is the tighter one, so that what is subtracted is small and the difference not lost in its noise.
func promRows(s *stub) []pairs.Row {
	open := func() (ours, peer pairs.Arm, _ func(), err error) {
		rules := []steady.Rule{rule(&deadline.Config{Default: farther}, true)}
		metrics, registry := prom.New(), prometheus.NewRegistry()
		if err := registry.Register(metrics); err != nil {
			return ours, peer, nil, err
		}
		with, err := driver(rules, steady.WithObserver(metrics))
		if err != nil {
			return ours, peer, nil, err
		}
		without, err := driver(rules)
		if err != nil {
			return ours, peer, nil, err
		}
		theirs := ggmprom.NewClientMetrics(ggmprom.WithClientHandlingTimeHistogram())
		if err := registry.Register(theirs); err != nil {
			return ours, peer, nil, err
		}
		ctx, cancel := context.WithTimeout(context.Background(), callers)
		ours = pairs.Arm{Run: calls(ctx, chain(s.invoke, with)), Less: calls(ctx, chain(s.invoke, without))}
		peer = pairs.Arm{Run: calls(ctx, chain(s.invoke, theirs.UnaryClientInterceptor())), Less: calls(ctx, s.invoke)}
		return ours, peer, cancel, nil
	}
	const peer = "go-grpc-middleware prometheus"
	return []pairs.Row{
		{Name: "metrics of calls, attempts, breaker serial", Peer: peer, Target: target(90, 0), Open: open},
		{Name: "metrics of calls, attempts, breaker parallel", Peer: peer, Threads: 2, Target: target(60, 0), Open: open},
	}
}
