package consistenthash

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc/balancer"

	"github.com/grpcsteady/steady/balancer/internal/pool"
)

// few is a chooser of n endpoints of which only some are there.
func few(n, there int) *chooser {
	c := &chooser{pool: new(pool.Pool), ring: newRing(spots(n, one), nil), slots: make([]int32, n)}
	for i := range c.slots {
		c.slots[i] = -1
		if i < there {
			c.slots[i] = int32(i)
			c.candidates = append(c.candidates, pool.Candidate{Endpoint: new(pool.Endpoint), Weight: 1})
		}
	}
	return c
}

// TestWalkIsBounded: a walk ends after one round, and with n endpoints of which few are there takes as many steps as
// that proportion says.
func TestWalkIsBounded(t *testing.T) {
	for _, there := range []int{1, 10, 100, 1000} {
		c := few(1000, there)
		steps := 0
		keys := keysOf(2000)
		for _, key := range keys {
			i := c.ring.find(key)
			for c.slots[c.ring.points[i].member] < 0 {
				i = (i + 1) % len(c.ring.points)
				steps++
			}
			if got, _ := c.walk(key, nil); got != int(c.slots[c.ring.points[i].member]) {
				t.Fatalf("%d of 1000: %d, want %d", there, got, c.slots[c.ring.points[i].member])
			}
		}
		if mean := float64(steps) / float64(len(keys)); mean > 2*1000/float64(there) {
			t.Errorf("%d of 1000: %.0f steps on average", there, mean)
		}
	}
	if found, _ := few(1000, 0).walk(1, nil); found != -1 {
		t.Errorf("nobody is there, and %d is found", found)
	}
}

func BenchmarkChoose(b *testing.B) {
	for _, bb := range []struct{ n, there int }{{10, 10}, {100, 100}, {1000, 1000}, {10_000, 10_000}, {1000, 500}, {1000, 1}} {
		c := few(bb.n, bb.there)
		infos := make([]balancer.PickInfo, 1<<10)
		for i := range infos {
			infos[i] = balancer.PickInfo{Ctx: WithKey(context.Background(), fmt.Sprint("user-", i))}
		}
		b.Run(fmt.Sprintf("%d of %d", bb.there, bb.n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				c.Choose(infos[i&(1<<10-1)], nil, 0)
				i++
			}
		})
	}
}
