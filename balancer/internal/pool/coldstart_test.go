package pool_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// TestColdStart: of five endpoints the sick one is connected first, and for half a second it is all there is; a second
// one that is sick comes next. Calls fail as long as that is so, but the breaker does not take it for a service that is
// down: once the others are there, no call fails.
func TestColdStart(t *testing.T) {
	for _, policy := range policies {
		steadytest.Run(t, func(t *testing.T) {
			b := newBed(t, []string{"a", "b", "c", "d", "e"})
			b.Replica("a").Behave(steadytest.Failing(codes.Unavailable, 0.6))
			b.Replica("b").Behave(steadytest.Failing(codes.Unavailable, 0.6))
			for _, name := range []string{"b", "c", "d", "e"} {
				b.Network().BlackHole(name)
			}
			rule := steady.Rule{Retry: &retry.Config{}, Breaker: &breaker.Config{}}
			conn := b.connected(serviceConfig(policy, `{}`), driver(t, rule, steady.WithRetryBudget(wideOpen))...)
			load(t, conn, 500, 500*time.Millisecond)
			b.Network().Heal("b")
			time.Sleep(20 * time.Millisecond)
			for _, name := range []string{"c", "d", "e"} {
				b.Network().Heal(name)
			}
			time.Sleep(2 * time.Second) // for those whose first try has timed out
			if r := load(t, conn, 500, 5*time.Second); r.Availability() < 0.999 {
				t.Errorf("%s: after a cold start %v", policy, r)
			}
		})
	}
}

// TestTheLastOneLeftIsTheService: with the others gone, failures of the only one that can be called are the service's.
func TestTheLastOneLeftIsTheService(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b", "c"})
		out, err := steady.NewOutbound([]steady.Rule{{Methods: []string{""}, Breaker: &breaker.Config{FailureRatio: -1}}})
		if err != nil {
			t.Fatal(err)
		}
		conn := b.connected(serviceConfig(leastRequest, `{}`), out.DialOptions()...)
		b.Replica("b").Down()
		b.Replica("c").Down()
		time.Sleep(time.Second)
		b.Replica("a").Behave(steadytest.Failing(codes.Unavailable, 1))
		for range 5 {
			_ = one(t, conn)
		}
		if s := out.Snapshot().Channels[0].Breakers[0].State; s != breaker.Open {
			t.Errorf("after five failures in a row of the last one left the breaker is %v, want open", s)
		}
	})
}
