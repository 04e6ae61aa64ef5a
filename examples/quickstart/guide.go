package main

import (
	"time"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
)

// The usual advice for a service's first day, number by number, as rules: trip after five failures, wait a
// minute, close after two successes; three attempts within ten seconds; half a minute for reading, ten seconds
// for writing and three quarters of a minute in all; and no parent that gives up before its child. guide_test.go,
// guide_stream_test.go and hierarchy_test.go show each at its second.
//
// Take it as it is where a house has agreed on these numbers. The defaults of this project differ where
// experience does: a breaker that waits a minute, always, is away for fifty seconds too many after a restart
// of ten, so the default begins with five seconds and grows.

const (
	guideFailures  = 5                // in a row open the breaker
	guideReset     = 60 * time.Second // until the first probe
	guideSuccesses = 2                // in a row close it

	guideAttempts = 3                // of a call, the first included
	guideElapsed  = 10 * time.Second // since the call began: no retry starts later

	guideRead  = 30 * time.Second // for an answer, and for each message of a stream
	guideWrite = 10 * time.Second // for a message of a stream that the server does not take
	guideTotal = 45 * time.Second // of a call in all, retries and waits included
)

// guideRules are for every method: a breaker on every external call, a timeout on every network call, and
// retries of whatever the protos mark as safe to repeat.
func guideRules() []steady.Rule {
	return []steady.Rule{{
		Name:    "guide",
		Methods: []string{""},
		Deadline: &deadline.Config{
			Default: guideTotal, Max: guideTotal,
			AttemptTimeout: guideRead, // gRPC shows nothing of a reply before all of it is there
			FirstMessage:   guideRead, Idle: guideRead, Send: guideWrite,
		},
		Retry: &retry.Config{MaxAttempts: guideAttempts, MaxElapsed: guideElapsed},
		Breaker: &breaker.Config{
			// Five in a row from one endpoint of several do not count: that is one crashed host, not a
			// service that is down.
			ConsecutiveFailures: guideFailures,
			FailureRatio:        -1, // the guide knows no other rule
			OpenTime:            guideReset,
			OpenMultiplier:      1, // nor does its minute grow
			OpenJitter:          -1,
			Successes:           guideSuccesses,
		},
	}}
}

// guideOutbound follows the guide's rules to the letter. By default a channel never makes more retries than
// calls, so that a thousand clients with one call each cannot triple the load of a service that is down; the
// guide's third attempt of the very first call needs two retries for one call. The interval is as long as a
// call may last, or its own retry ten seconds later would find the call forgotten.
func guideOutbound(opts ...steady.Option) (*steady.Outbound, error) {
	budget := steady.WithRetryBudget(retry.BudgetConfig{
		Ratio: guideAttempts - 1, MaxRatio: guideAttempts - 1, Interval: guideTotal,
	})
	return steady.NewOutbound(guideRules(), append([]steady.Option{budget}, opts...)...)
}

// The hierarchy of timeouts, from the user down: each outlasts whatever it waits for, so that a failure
// below reaches the one above as an error and not as silence.
const (
	guideClient   = 60 * time.Second // waits for the gateway
	guideGateway  = 50 * time.Second // works on a request, waiting for service A
	guideServiceA = 40 * time.Second // works on a request, asking the database and service B
	guideDatabase = 10 * time.Second
	guideServiceB = 20 * time.Second
)

// guideLimit is the rule for one step of the hierarchy. An Outbound takes it for the calls to that service,
// so that a host that has fallen silent is not waited for any longer; an Inbound takes it for the service's
// own work. What a handler calls on the way gets what is left of its time at most, less a reserve to answer
// in.
func guideLimit(service string, limit time.Duration) steady.Rule {
	return steady.Rule{
		Methods:  []string{"/" + service + "/"},
		Deadline: &deadline.Config{Default: limit, Max: limit},
	}
}
