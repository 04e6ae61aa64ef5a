package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc/balancer"
	_ "google.golang.org/grpc/balancer/leastrequest" // peer
	_ "google.golang.org/grpc/balancer/roundrobin"   // peer
	_ "google.golang.org/grpc/balancer/weightedroundrobin"

	"github.com/zeromicro/go-zero/core/logx"
	_ "github.com/zeromicro/go-zero/zrpc" // peer: p2c_ewma

	"github.com/go-kratos/kratos/v2/selector"
	"github.com/go-kratos/kratos/v2/selector/p2c"
	_ "github.com/go-kratos/kratos/v2/transport/grpc" // peer: selector

	"github.com/grpcsteady/steady/balancer/leastrequest"
	"github.com/grpcsteady/steady/balancer/weighted"
	"github.com/grpcsteady/steady/examples/bench/capture"
	"github.com/grpcsteady/steady/examples/bench/pairs"
)

// choice is a policy with its configuration.
type choice struct{ name, config string }

var (
	// The features that the peer has, and no more.
	leastBare    = choice{leastrequest.Name, `{"ejection":{"mode":"off"}}`}
	leastWindow  = choice{leastrequest.Name, `{}`} // with ejection, which no peer here has
	leastLatency = choice{leastrequest.Name, `{"ejection":{"mode":"off"},"latency":{}}`}
	weightedBare = choice{weighted.Name, `{"ejection":{"mode":"off"}}`}

	grpcLeast = choice{"least_request_experimental", `{"choiceCount":2}`}
	grpcWRR   = choice{"weighted_round_robin", `{}`}
	grpcRR    = choice{"round_robin", `{}`}
	goZeroP2C = choice{"p2c_ewma", ""}
	kratosP2C = choice{"selector", ""}
)

// preparePeers says what two of them are told globally: to choose by p2c, and not to write statistics to the output.
func preparePeers() {
	selector.SetGlobalSelector(p2c.NewBuilder())
	logx.Disable()
}

// balanceRows compare a pick and its end. The pickers are captured with all connections ready.
func balanceRows() []pairs.Row {
	var rows []pairs.Row
	for _, r := range []struct {
		name         string
		ours, peer   choice
		peerName     string
		endpoints    int
		ns, parallel float64 // 0: no target, and no row for two threads
	}{
		{"least request, 10 endpoints", leastBare, grpcLeast, "grpc-go least_request", 10, 45, 40},
		{"least request, 100 endpoints", leastBare, grpcLeast, "grpc-go least_request", 100, 0, 0},
		{"least request, 10000 endpoints", leastBare, grpcLeast, "grpc-go least_request", 10_000, 0, 0},
		{"least request with ejection, 10 endpoints", leastWindow, grpcLeast, "grpc-go least_request", 10, 65, 55},
		{"peak-EWMA, 10 endpoints", leastLatency, goZeroP2C, "go-zero p2c", 10, 120, 110},
		{"peak-EWMA, 100 endpoints", leastLatency, goZeroP2C, "go-zero p2c", 100, 0, 0},
		{"peak-EWMA, 10 endpoints", leastLatency, kratosP2C, "kratos p2c", 10, 120, 0},
		{"weighted, 10 endpoints", weightedBare, grpcWRR, "grpc-go weighted_round_robin", 10, 30, 30},
		{"weighted, 10000 endpoints", weightedBare, grpcWRR, "grpc-go weighted_round_robin", 10_000, 0, 0},
		{"weighted, equal, 10 endpoints", weightedBare, grpcRR, "grpc-go round_robin", 10, 0, 0},
	} {
		open := func() (ours, peer pairs.Arm, release func(), err error) {
			preparePeers()
			a, closeA, err := pickBatch(r.ours, r.endpoints)
			if err != nil {
				return ours, peer, nil, err
			}
			b, closeB, err := pickBatch(r.peer, r.endpoints)
			if err != nil {
				closeA()
				return ours, peer, nil, err
			}
			return pairs.Arm{Run: a}, pairs.Arm{Run: b}, func() { closeA(); closeB() }, nil
		}
		serial := target(r.ns, 0)
		if r.ns == 0 {
			serial.NS = nil
		}
		rows = append(rows, pairs.Row{Name: "pick: " + r.name + " serial", Peer: r.peerName, Target: serial, Open: open})
		if r.parallel != 0 {
			rows = append(rows, pairs.Row{Name: "pick: " + r.name + " parallel", Peer: r.peerName, Threads: 2, Target: target(r.parallel, 0), Open: open})
		}
	}
	return rows
}

// pickBatch makes picks that succeed.
func pickBatch(c choice, endpoints int) (pairs.Batch, func(), error) {
	picker, release, err := capture.Policy(c.name, c.config, capture.Endpoints(endpoints))
	if err != nil {
		return nil, nil, err
	}
	info := balancer.PickInfo{FullMethodName: method, Ctx: context.Background()}
	done := balancer.DoneInfo{BytesSent: true, BytesReceived: true}
	return func(n int) error {
		for range n {
			r, err := picker.Pick(info)
			if err != nil {
				return fmt.Errorf("pick: %w", err)
			}
			if r.Done != nil {
				r.Done(done)
			}
		}
		return nil
	}, release, nil
}
