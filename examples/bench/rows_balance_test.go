package main

import (
	"testing"

	"google.golang.org/grpc/balancer"

	"github.com/grpcsteady/steady/examples/bench/capture"
)

// TestPicksGoToAll: every policy of the rows picks among all its endpoints, ours and peers alike: what is measured is
// a choice, not a picker with one connection.
func TestPicksGoToAll(t *testing.T) {
	preparePeers()
	for _, c := range []choice{leastBare, leastWindow, leastLatency, weightedBare, grpcLeast, grpcWRR, grpcRR, goZeroP2C, kratosP2C} {
		picker, release, err := capture.Policy(c.name, c.config, capture.Endpoints(10))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		seen := map[balancer.SubConn]bool{}
		for range 2000 {
			r, err := picker.Pick(balancer.PickInfo{FullMethodName: method, Ctx: t.Context()})
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				break
			}
			seen[r.SubConn] = true
			if r.Done != nil {
				r.Done(balancer.DoneInfo{BytesSent: true, BytesReceived: true})
			}
		}
		release()
		if len(seen) != 10 {
			t.Errorf("%s picked %d of 10 endpoints", c.name, len(seen))
		}
	}
}
