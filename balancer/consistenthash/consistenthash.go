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
// to the next as well, and to one at its bound if all that were not tried are. All clients that agree on endpoints,
// by the addresses of each, and on weights agree on who has a key.
//
// An endpoint has keys in proportion to its weight. When weights or endpoints change only the keys of those that
// changed move, with one exception: each time the sum of all weights passes 655 times a power of two (5,242 times one
// with more than 512 endpoints) the ring is thinned out, and up to half of the keys move once.
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
	bound      *bound // nil: none
}

func newChooser(s pool.Set, old *ring, source keySource, maxLoad float64) *chooser {
	c := &chooser{
		pool: s.Pool, candidates: s.Candidates, source: source,
		least: pool.NewLeast(s.Pool, s.Candidates, 2, pool.Latency{}),
	}
	spots := make([]spot, len(s.Listed))
	for i, l := range s.Listed {
		spots[i] = spot{l.Key(), l.Weight}
	}
	c.ring = newRing(spots, old)
	at := make(map[*pool.Endpoint]int32, len(s.Candidates))
	for i := range s.Candidates {
		at[s.Candidates[i].Endpoint] = int32(i)
	}
	c.slots = make([]int32, len(s.Listed)) // the ring's members are in the order of the list
	for i, l := range s.Listed {
		c.slots[i] = -1
		if slot, ok := at[l.Endpoint]; ok {
			c.slots[i] = slot
		}
	}
	if maxLoad > 0 {
		c.bound = newBound(s, c.slots, maxLoad)
	}
	return c
}

// Choose implements pool.Chooser.
func (c *chooser) Choose(info balancer.PickInfo, a *attempt.Attempt, _ int64) int {
	key, ok := c.source.key(info.Ctx)
	if !ok {
		return c.least.Choose(info, a, 0)
	}
	if c.bound != nil {
		c.bound.sometimes(c.candidates)
	}
	i, first := c.walk(key, a)
	if i < 0 && c.bound != nil {
		c.bound.look(c.candidates) // all at their bound: the bound is not what it should be
		i, first = c.walk(key, a)
	}
	if i >= 0 {
		return i
	}
	if a.AvoidsAny() { // everything was tried, or is at its bound
		return c.least.Choose(info, a, 0)
	}
	return first
}

// walk goes along the ring from a key to the first candidate that may have the call; -1: there is none. first is the
// first candidate, whether it may or not.
func (c *chooser) walk(key uint64, a *attempt.Attempt) (found, first int) {
	one, two := int32(-1), int32(-1) // the first two that may not, which a walk meets again and again
	points, avoids := c.ring.points, a.AvoidsAny()
	for i, n := c.ring.find(key), len(points); n > 0; n-- {
		slot := c.slots[points[i].member]
		if i++; i == len(points) {
			i = 0
		}
		if slot < 0 || slot == one || slot == two {
			continue
		}
		if e := c.candidates[slot].Endpoint; (!avoids || !a.Avoids(e.Name())) && (c.bound == nil || c.bound.bears(int(slot), e)) {
			return int(slot), int(slot)
		}
		if one < 0 {
			one = slot
		} else {
			two = slot
		}
	}
	return -1, int(max(one, 0))
}
