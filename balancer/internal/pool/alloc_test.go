//go:build !race

package pool

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc/balancer"

	"github.com/grpcsteady/steady/balancer/attempt"
)

// The race detector drops pooled objects on purpose; the counts hold without it.

func TestPickAllocatesNothing(t *testing.T) {
	driven := attempt.NewContext(context.Background(), &attempt.Attempt{Call: new(attempt.Call), Number: 1, Judged: true})
	for name, s := range map[string]Settings{"bare": bare, "window": windows, "latency": timed} {
		for _, n := range []int{3, 10, 1000} {
			for kind, weight := range map[string]func(int) float64{"same": one, "weights": func(i int) float64 { return float64(1 + i%3) }} {
				for _, ctx := range []context.Context{context.Background(), driven} {
					p := leastPicker(n, s, weight)
					info := balancer.PickInfo{FullMethodName: "/grpc.health.v1.Health/Check", Ctx: ctx}
					if got := testing.AllocsPerRun(500, func() {
						r, err := p.Pick(info)
						if err != nil {
							t.Error(err)
						}
						r.Done(ended)
					}); got != 0 {
						t.Errorf("%s of %s: %v allocations", fmt.Sprint(n, " ", name), kind, got)
					}
				}
			}
		}
	}
}
