// Package capture runs a balancing policy without a network, for tests: connections are ready when they are asked
// to connect, and what would be gRPC's to pick with is the test's. A pick costs nanoseconds instead of a call, so
// that distributions are counted over as many as they need, in a fixed order.
//
// A Channel lives in a bubble of testing/synctest.
package capture

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/grpcsteady/steady/resolver/endpoint"
)

// Channel is what a policy takes for gRPC's channel.
type Channel struct {
	balancer.ClientConn // nil: what is not here is not called

	tb      testing.TB
	builder balancer.Builder
	policy  balancer.Balancer
	handle  *endpoint.Handle

	mu    sync.Mutex // guards what follows
	queue []func()   // what connections have to tell, in turn; a policy's locks may be held where it arises
	conns map[string]*conn
	down  map[string]bool
	state balancer.State
}

// New builds a registered policy.
func New(tb testing.TB, name string) *Channel {
	tb.Helper()
	c := &Channel{
		tb: tb, builder: balancer.Get(name), handle: endpoint.NewHandle("captured", nil),
		conns: make(map[string]*conn), down: make(map[string]bool),
	}
	if c.builder == nil {
		tb.Fatalf("no policy %q is registered", name)
	}
	c.policy = c.builder.Build(c, balancer.BuildOptions{})
	tb.Cleanup(c.policy.Close)
	return c
}

// Addresses makes endpoints of an address each.
func Addresses(addrs ...string) []resolver.Endpoint {
	out := make([]resolver.Endpoint, len(addrs))
	for i, a := range addrs {
		out[i] = resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}}
	}
	return out
}

// Update tells the policy its configuration, JSON, and the resolver's list.
func (c *Channel) Update(config string, list []resolver.Endpoint) {
	c.tb.Helper()
	var parsed serviceconfig.LoadBalancingConfig
	if parser, ok := c.builder.(balancer.ConfigParser); ok {
		var err error
		if parsed, err = parser.ParseConfig([]byte(config)); err != nil {
			c.tb.Fatal(err)
		}
	}
	state := resolver.State{Endpoints: list, Attributes: attributes.New(endpoint.HandleKey{}, c.handle)}
	if err := c.policy.UpdateClientConnState(balancer.ClientConnState{ResolverState: state, BalancerConfig: parsed}); err != nil {
		c.tb.Fatal(err)
	}
	c.settle()
}

// Down ends the connections to an address and refuses new ones.
func (c *Channel) Down(addr string) {
	c.mu.Lock()
	c.down[addr] = true
	if s := c.conns[addr]; s != nil {
		c.queue = append(c.queue, func() { s.tell(connectivity.Idle, nil) })
	}
	c.mu.Unlock()
	c.settle()
}

// Up lets an address be connected to again.
func (c *Channel) Up(addr string) {
	c.mu.Lock()
	delete(c.down, addr)
	if s := c.conns[addr]; s != nil {
		c.queue = append(c.queue, func() { s.tell(connectivity.Idle, nil) })
	}
	c.mu.Unlock()
	c.settle()
}

// Picker returns what the policy gave last.
func (c *Channel) Picker() balancer.Picker {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Picker
}

// Pick picks for a call, and returns the address and what is to be called at its end.
func (c *Channel) Pick(ctx context.Context) (addr string, done func(balancer.DoneInfo)) {
	c.tb.Helper()
	r, err := c.Picker().Pick(balancer.PickInfo{FullMethodName: "/steady.echo.v1.Echo/Get", Ctx: ctx})
	if err != nil {
		c.tb.Fatal(err)
	}
	return r.SubConn.(*conn).addr, r.Done //nolint:forcetypeassert // all are ours
}

// Sent is the end of a call that went well.
var Sent = balancer.DoneInfo{BytesSent: true, BytesReceived: true}

// Call picks for a call that ends well at once.
func (c *Channel) Call(ctx context.Context) (addr string) {
	c.tb.Helper()
	addr, done := c.Pick(ctx)
	done(Sent)
	return addr
}

// Endpoints returns the state of the endpoints, by name.
func (c *Channel) Endpoints() []endpoint.Snapshot { return c.handle.Endpoints() }

// settle lets connections tell what they have to, until nothing happens any more.
func (c *Channel) settle() {
	for {
		synctest.Wait()
		c.mu.Lock()
		queue := c.queue
		c.queue = nil
		c.mu.Unlock()
		if len(queue) == 0 {
			return
		}
		for _, f := range queue {
			f()
		}
	}
}

// NewSubConn implements balancer.ClientConn.
func (c *Channel) NewSubConn(addrs []resolver.Address, o balancer.NewSubConnOptions) (balancer.SubConn, error) {
	s := &conn{channel: c, addr: addrs[0].Addr, listen: o.StateListener}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns[s.addr] = s
	return s, nil
}

// UpdateState implements balancer.ClientConn.
func (c *Channel) UpdateState(s balancer.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
}

// MetricsRecorder implements balancer.ClientConn.
func (*Channel) MetricsRecorder() stats.MetricsRecorder { return stats.UnimplementedMetricsRecorder{} }

// ResolveNow implements balancer.ClientConn.
func (*Channel) ResolveNow(resolver.ResolveNowOptions) {}

// Target implements balancer.ClientConn.
func (*Channel) Target() string { return "captured" }

// conn is a connection that there is not.
type conn struct {
	balancer.SubConn // nil, as above

	channel *Channel
	addr    string
	listen  func(balancer.SubConnState)
	health  func(balancer.SubConnState)
}

var errRefused = errors.New("refused")

func (s *conn) tell(state connectivity.State, err error) {
	s.listen(balancer.SubConnState{ConnectivityState: state, ConnectionError: err})
}

// Connect implements balancer.SubConn.
func (s *conn) Connect() {
	c := s.channel
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, func() {
		s.tell(connectivity.Connecting, nil)
		c.mu.Lock()
		down := c.down[s.addr]
		c.mu.Unlock()
		if down {
			s.tell(connectivity.TransientFailure, errRefused)
			return
		}
		s.tell(connectivity.Ready, nil)
	})
}

// RegisterHealthListener implements balancer.SubConn: whoever is connected is well.
func (s *conn) RegisterHealthListener(f func(balancer.SubConnState)) {
	c := s.channel
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.health = f; f != nil {
		c.queue = append(c.queue, func() { f(balancer.SubConnState{ConnectivityState: connectivity.Ready}) })
	}
}

// Shutdown implements balancer.SubConn.
func (s *conn) Shutdown() {
	c := s.channel
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conns[s.addr] == s {
		delete(c.conns, s.addr)
	}
	c.queue = append(c.queue, func() { s.tell(connectivity.Shutdown, nil) })
}
