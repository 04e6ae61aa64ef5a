// Package leastrequest is the balancing policy steady_least_request: each call goes to the endpoint with the
// least to do among a few that are drawn by weight. Importing it registers the policy with gRPC:
//
//	import "github.com/grpcsteady/steady/balancer/leastrequest"
//
//	grpc.NewClient(target, grpc.WithDefaultServiceConfig(leastrequest.ServiceConfig), ...)
//
// What an endpoint has to do is its calls in flight with the new one, (in-flight + 1) / weight, times its
// peak-EWMA latency if latency is configured, and more after failures: an endpoint that fails fast never has
// much in flight, and attracts traffic everywhere else. Two draws without replacement are nearly as good as
// looking at all and cost the same for 10 endpoints as for 10,000; sets of up to 4 are looked at whole.
//
// Every knob is described at steady.v1.LeastRequest (proto/steady/v1/balancing.proto). With a driver of steady's in
// the channel, retries avoid the endpoints already tried.
//
// When not to use it: for long-lived streams that differ in what they cost, since each counts as one; and where the
// same caller must meet the same endpoint (see consistenthash).
package leastrequest

import (
	"google.golang.org/grpc/balancer"
	"google.golang.org/protobuf/proto"

	"github.com/grpcsteady/steady/balancer/internal/pool"
	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

// Name is the policy's name in a service config.
const Name = "steady_least_request"

// ServiceConfig selects the policy with its defaults.
const ServiceConfig = `{"loadBalancingConfig":[{"steady_least_request":{}}]}`

func init() { balancer.Register(pool.Builder(Name, configure)) }

func configure(m proto.Message) *pool.Config {
	c, _ := m.(*steadyv1.LeastRequest)
	settings := pool.SettingsOf(c, c.PanicThreshold)
	settings.Latency = pool.LatencyOf(c.GetLatency())
	choices := 2
	if c.ChoiceCount != nil {
		choices = int(c.GetChoiceCount())
	}
	return &pool.Config{
		Settings: settings,
		Chooser: func(s pool.Set) pool.Chooser {
			return pool.NewLeast(s.Pool, s.Candidates, choices, settings.Latency)
		},
	}
}
