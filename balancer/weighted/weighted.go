// Package weighted is the balancing policy steady_weighted: endpoints are picked in proportion to their weights,
// evenly spread. Importing it registers the policy with gRPC:
//
//	import "github.com/grpcsteady/steady/balancer/weighted"
//
//	grpc.NewClient(target, grpc.WithDefaultServiceConfig(weighted.ServiceConfig), ...)
//
// A weight is what the resolver says (3:2:1), 1 where it says nothing; 0 takes an endpoint out. With loadReports
// weights follow what servers report of their load. No weight, however small beside the others, is rounded to
// never, and the time of a pick does not depend on how much weights differ. With equal weights it is round robin.
//
// Every knob is described at steady.v1.Weighted (proto/steady/v1/balancing.proto). With a driver of steady's in the
// channel, retries avoid the endpoints already tried.
//
// When not to use it: where what calls cost differs much and nobody knows weights; steady_least_request finds
// out for itself.
package weighted

import (
	"math/rand/v2"

	"google.golang.org/grpc/balancer"
	_ "google.golang.org/grpc/orca" // which parses load reports
	"google.golang.org/protobuf/proto"

	"github.com/grpcsteady/steady/balancer/attempt"
	"github.com/grpcsteady/steady/balancer/internal/pool"
	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

// Name is the policy's name in a service config.
const Name = "steady_weighted"

// ServiceConfig selects the policy with its defaults.
const ServiceConfig = `{"loadBalancingConfig":[{"steady_weighted":{}}]}`

func init() { balancer.Register(pool.Builder(Name, configure)) }

func configure(m proto.Message) *pool.Config {
	c, _ := m.(*steadyv1.Weighted)
	settings := pool.SettingsOf(c, c.PanicThreshold)
	settings.Reports = pool.ReportsOf(c.GetLoadReports())
	return &pool.Config{
		Settings: settings,
		Chooser: func(s pool.Set) pool.Chooser {
			weights := make([]float64, len(s.Candidates))
			for i := range s.Candidates {
				weights[i] = s.Candidates[i].Weight
			}
			return &chooser{pool: s.Pool, candidates: s.Candidates, order: newOrder(weights)}
		},
	}
}

// chooser goes round.
type chooser struct {
	pool       *pool.Pool
	candidates []pool.Candidate
	order      order
}

// Choose implements pool.Chooser.
func (c *chooser) Choose(_ balancer.PickInfo, a *attempt.Attempt, _ int64) int {
	i := c.order.at(c.pool.Next())
	if !a.AvoidsAny() || !a.Avoids(c.candidates[i].Name()) {
		return i
	}
	for range 8 { // another turn, so that who takes over a retry is by weight too
		if j := c.order.at(c.pool.Next()); !a.Avoids(c.candidates[j].Name()) {
			return j
		}
	}
	// Those tried have nearly all the weight: anybody else, and not always the same.
	n := len(c.candidates)
	for range 8 {
		if j := rand.IntN(n); !a.Avoids(c.candidates[j].Name()) {
			return j
		}
	}
	for j := range c.candidates {
		if !a.Avoids(c.candidates[j].Name()) {
			return j
		}
	}
	return i // everything was tried
}
