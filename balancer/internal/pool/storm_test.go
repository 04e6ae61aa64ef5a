package pool_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/serviceconfig"

	"github.com/grpcsteady/steady/interceptors/steadytest"
)

const counting = "steady_test_counting"

func init() { balancer.Register(countingBuilder{}) }

// updates counts the pickers that gRPC was handed by policies named counting. One test uses it.
var updates atomic.Int64

// countingBuilder is steady_least_request with an ear between it and gRPC.
type countingBuilder struct{}

func (countingBuilder) Name() string { return counting }

func (countingBuilder) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	return balancer.Get(leastRequest).Build(&countingConn{cc}, o)
}

func (countingBuilder) ParseConfig(data json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	return balancer.Get(leastRequest).(balancer.ConfigParser).ParseConfig(data)
}

type countingConn struct{ balancer.ClientConn }

func (c *countingConn) UpdateState(s balancer.State) {
	updates.Add(1)
	c.ClientConn.UpdateState(s)
}

// A storm of changes to many endpoints costs a few rebuilds, and what it came to is seen 20 ms later at the latest.
func TestRebuildsAreCoalesced(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		names := make([]string, 200)
		for i := range names {
			names[i] = fmt.Sprintf("s%03d", i)
		}
		b := newBed(t, names)
		during := func(what string, most int64, f func()) {
			t.Helper()
			updates.Store(0)
			f()
			synctest.Wait()
			time.Sleep(21 * time.Millisecond)
			synctest.Wait()
			n := updates.Load()
			t.Logf("%s: %d pickers", what, n)
			if n > most {
				t.Errorf("%s: %d pickers, want at most %d", what, n, most)
			}
		}
		ready := func() (n int) {
			for _, e := range b.handle.Endpoints() {
				if e.Effective > 0 {
					n++
				}
			}
			return n
		}
		var conn *grpc.ClientConn
		during("200 endpoints connect", 6, func() { conn = b.connected(serviceConfig(counting, `{`+cold+`}`)) })
		if n := ready(); n != 200 {
			t.Errorf("%d of 200 are ready", n)
		}
		during("150 crash at once", 10, func() {
			for _, x := range b.Replicas()[50:] {
				x.Crash()
			}
		})
		if n := ready(); n != 50 {
			t.Errorf("%d are ready, want 50", n)
		}
		during("the resolver lists them anew 100 times", 4, func() {
			for i := range 100 {
				b.list(names[:101+i]...)
			}
		})
		if n := len(b.handle.Endpoints()); n != 200 {
			t.Errorf("%d endpoints, want 200", n)
		}
		if r := load(t, conn, 500, time.Second); r.Availability() != 1 {
			t.Error(r)
		}
		b.quiet()
	})
}

// While one policy takes over from another, the old one goes on picking by its own connections, and counts.
func TestTheOldPolicyWorksOnUntilTheNewOneIsReady(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b", "c"})
		var hang atomic.Bool
		conn := b.connected(serviceConfig(leastRequest, `{}`), grpc.WithContextDialer(func(ctx context.Context, name string) (net.Conn, error) {
			if hang.Load() {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return b.Network().Dial(ctx, name)
		}))
		load(t, conn, 300, time.Second)
		hang.Store(true)
		b.pusher.push(serviceConfig(weighted, `{}`)) // its connections take their time
		time.Sleep(100 * time.Millisecond)
		b.Replica("c").Crash() // the old policy has to make a new picker
		time.Sleep(100 * time.Millisecond)
		before := b.of("a").Picks + b.of("b").Picks
		for range 20 {
			if err := one(t, conn); err != nil {
				t.Error(err)
			}
		}
		if n := b.of("a").Picks + b.of("b").Picks - before; n != 20 {
			t.Errorf("%d of 20 picks were counted", n)
		}
		hang.Store(false)
		b.Replica("c").Start()
		time.Sleep(5 * time.Second)
		b.Forget()
		load(t, conn, 300, time.Second)
		for name, n := range b.Count() {
			if n < 98 || n > 102 {
				t.Errorf("%s got %d of 300 after the new policy took over", name, n)
			}
		}
		b.quiet()
	})
}
