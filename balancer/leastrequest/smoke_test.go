package leastrequest_test

import (
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/balancer/leastrequest"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

func TestMain(m *testing.M) { steadytest.Main(m) }

func TestSinkhole(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a", "b", "c", "d", "e"))
		fleet.Behave(steadytest.Slow(20 * time.Millisecond))
		fleet.Replica("b").Behave(steadytest.All(steadytest.Slow(time.Millisecond), steadytest.Failing(codes.Unavailable, 1)))
		conn := fleet.Dial(grpc.WithDefaultServiceConfig(leastrequest.ServiceConfig))
		r := steadytest.Load{Rate: 200, For: 20 * time.Second, Call: steadytest.Get(conn)}.Run(t.Context())
		t.Log(r, fleet.Count())
	})
}
