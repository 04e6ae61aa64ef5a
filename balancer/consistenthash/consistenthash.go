// Package consistenthash is the balancing policy steady_consistent_hash: calls with the same key go to the same
// endpoint, and when endpoints come and go only the keys move that must. Importing it registers the policy with
// gRPC:
//
//	import "github.com/grpcsteady/steady/balancer/consistenthash"
//
//	grpc.NewClient(target, grpc.WithDefaultServiceConfig(
//		`{"loadBalancingConfig":[{"steady_consistent_hash":{"header":"x-user"}}]}`), ...)
//
// The key of a call is, in this order: the request header named in the configuration, what [WithKey] put into its
// context, and, with peer, the address of the caller on whose behalf it is made ("IP hash"). A call without a key
// goes to the endpoint with less to do of two, as steady_least_request does it.
//
// An endpoint that is down, ejected or found ill hands its keys to those next on the ring, and gets them back.
// With maxLoad a single hot key can not drown one endpoint: what is too much for it goes to the next. A retry goes
// to the next as well. All clients that agree on endpoints and weights agree on who has a key.
//
// Every knob is described at steady.v1.ConsistentHash (proto/steady/v1/balancing.proto).
//
// When not to use it: if stickiness is not worth an uneven load. By its nature each endpoint's share of the keys
// differs by a tenth or so, and calls are as uneven as keys are popular.
package consistenthash

import (
	"context"

	"google.golang.org/grpc/balancer"
	"google.golang.org/protobuf/proto"

	"github.com/grpcsteady/steady/balancer/attempt"
	"github.com/grpcsteady/steady/balancer/internal/pool"
	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

// Name is the policy's name in a service config.
const Name = "steady_consistent_hash"

// ServiceConfig selects the policy with its defaults: keys come from [WithKey].
const ServiceConfig = `{"loadBalancingConfig":[{"steady_consistent_hash":{}}]}`

func init() { balancer.Register(pool.Builder(Name, configure)) }

func configure(m proto.Message) *pool.Config {
	c, _ := m.(*steadyv1.ConsistentHash)
	settings := pool.SettingsOf(c, c.PanicThreshold)
	settings.Bounded = c.MaxLoad != nil
	source := keySource{header: c.GetHeader(), peer: c.GetPeer()}
	return &pool.Config{
		Settings: settings,
		Chooser: func(s pool.Set) pool.Chooser {
			var old *ring
			if before, ok := s.Before.(*chooser); ok {
				old = before.ring
			}
			return newChooser(s, old, source, c.GetMaxLoad())
		},
	}
}

type contextKey struct{}

// WithKey gives the calls made with the context a key.
func WithKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, contextKey{}, key)
}

// chooser finds the candidate that has a key.
type chooser struct {
	pool       *pool.Pool
	candidates []pool.Candidate
	ring       *ring
	slots      []int32 // candidate of each member of the ring; -1: it can not be picked
	source     keySource
	least      *pool.Least

	maxLoad float64   // 0: no bound
	shares  []float64 // of the weight, by candidate; only with a bound
}

func newChooser(s pool.Set, old *ring, source keySource, maxLoad float64) *chooser {
	c := &chooser{
		pool: s.Pool, candidates: s.Candidates, ring: newRing(s.Listed, old), source: source, maxLoad: maxLoad,
		least: pool.NewLeast(s.Pool, s.Candidates, 2, pool.Latency{}),
	}
	at := make(map[*pool.Endpoint]int32, len(s.Candidates))
	for i := range s.Candidates {
		at[s.Candidates[i].Endpoint] = int32(i) //nolint:gosec // an index
	}
	c.slots = make([]int32, len(c.ring.members))
	for i, m := range c.ring.members {
		c.slots[i] = -1
		if slot, ok := at[m.Endpoint]; ok {
			c.slots[i] = slot
		}
	}
	if maxLoad > 0 {
		c.shares = make([]float64, len(s.Candidates))
		sum := 0.0
		for i := range s.Candidates {
			sum += s.Candidates[i].Weight
		}
		for i := range s.Candidates {
			c.shares[i] = s.Candidates[i].Weight / sum
		}
	}
	return c
}

// Choose implements pool.Chooser.
func (c *chooser) Choose(info balancer.PickInfo, a *attempt.Attempt) int {
	key, ok := c.source.key(info.Ctx)
	if !ok {
		return c.least.Choose(info, a)
	}
	first, second := int32(-1), int32(-1)
	points := c.ring.points
	avoids := a.AvoidsAny()
	for i, n := c.ring.find(key), len(points); n > 0; n-- {
		slot := c.slots[points[i].member]
		if i++; i == len(points) {
			i = 0
		}
		if slot < 0 || slot == first || slot == second {
			continue
		}
		if (!avoids || !a.Avoids(c.candidates[slot].Name())) && c.bears(int(slot)) {
			return int(slot)
		}
		if first < 0 {
			first = slot
		} else {
			second = slot // the walk meets the same few again and again
		}
	}
	if avoids { // everything was tried, or is at its bound
		return c.least.Choose(info, a)
	}
	return int(max(first, 0))
}

// bears reports whether a candidate may have one call more.
func (c *chooser) bears(slot int) bool {
	if c.maxLoad == 0 {
		return true
	}
	most := c.maxLoad * float64(c.pool.Flying()+1) * c.shares[slot]
	return float64(c.candidates[slot].InFlight()) < most // so the last one above a whole number is allowed
}
