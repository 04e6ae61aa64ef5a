// Package capture builds a balancing policy of gRPC's registry without a network and hands out its picker, so that
// picks can be measured by themselves. Connections are made up: each is ready as soon as the policy asks for it.
package capture

import (
	"encoding/json"
	"fmt"
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/resolver"
)

// Policy builds the policy of that name with n endpoints and returns its picker when all of them are ready.
// release ends the policy.
func Policy(name, config string, endpoints []resolver.Endpoint) (p balancer.Picker, release func(), err error) {
	b := balancer.Get(name)
	if b == nil {
		return nil, nil, fmt.Errorf("capture: no policy %q is registered", name)
	}
	state := balancer.ClientConnState{ResolverState: resolver.State{Endpoints: endpoints}}
	for _, e := range endpoints {
		state.ResolverState.Addresses = append(state.ResolverState.Addresses, e.Addresses[0])
	}
	if parser, ok := b.(balancer.ConfigParser); ok {
		if state.BalancerConfig, err = parser.ParseConfig(json.RawMessage(config)); err != nil {
			return nil, nil, fmt.Errorf("capture: %w", err)
		}
	}
	cc := &conn{}
	lb := b.Build(cc, balancer.BuildOptions{})
	if err := lb.UpdateClientConnState(state); err != nil {
		lb.Close()
		return nil, nil, fmt.Errorf("capture: %w", err)
	}
	cc.deliver()
	lb.ExitIdle()
	cc.deliver()
	cc.mu.Lock()
	defer cc.mu.Unlock()
	if cc.state.ConnectivityState != connectivity.Ready {
		lb.Close()
		return nil, nil, fmt.Errorf("capture: %s is %v, want READY", name, cc.state.ConnectivityState)
	}
	return cc.state.Picker, lb.Close, nil
}

// Endpoints makes up a list.
func Endpoints(n int) []resolver.Endpoint {
	list := make([]resolver.Endpoint, n)
	for i := range list {
		addr := resolver.Address{Addr: fmt.Sprintf("10.%d.%d.%d:50051", i>>16, i>>8&255, i&255)}
		list[i] = resolver.Endpoint{Addresses: []resolver.Address{addr}}
	}
	return list
}

// conn stands in for the channel.
type conn struct {
	balancer.ClientConn

	mu      sync.Mutex
	state   balancer.State
	pending []func() // what connections have to tell
}

func (c *conn) NewSubConn(_ []resolver.Address, o balancer.NewSubConnOptions) (balancer.SubConn, error) {
	return &sub{conn: c, listener: o.StateListener}, nil
}

func (c *conn) UpdateState(s balancer.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
}

func (c *conn) later(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = append(c.pending, f)
}

func (c *conn) deliver() {
	for {
		c.mu.Lock()
		list := c.pending
		c.pending = nil
		c.mu.Unlock()
		if len(list) == 0 {
			return
		}
		for _, f := range list {
			f()
		}
	}
}

func (c *conn) RemoveSubConn(balancer.SubConn)                       {}
func (c *conn) UpdateAddresses(balancer.SubConn, []resolver.Address) {}
func (c *conn) ResolveNow(resolver.ResolveNowOptions)                {}
func (c *conn) Target() string                                       { return "capture:///" }
func (c *conn) MetricsRecorder() stats.MetricsRecorder               { return recorder{} }

// sub stands in for a connection.
type sub struct {
	balancer.SubConn
	conn     *conn
	listener func(balancer.SubConnState)
}

// Connect connects. What the connections before have to tell is told first, while the policy is still taking its
// list: told afterwards, each would have gRPC's endpointsharding walk through all the others.
func (s *sub) Connect() {
	s.conn.deliver()
	for _, state := range []connectivity.State{connectivity.Connecting, connectivity.Ready} {
		s.conn.later(func() { s.listener(balancer.SubConnState{ConnectivityState: state}) })
	}
}

func (s *sub) RegisterHealthListener(f func(balancer.SubConnState)) {
	s.conn.later(func() { f(balancer.SubConnState{ConnectivityState: connectivity.Ready}) })
}

func (s *sub) UpdateAddresses([]resolver.Address) {}
func (s *sub) Shutdown()                          {}

func (s *sub) GetOrBuildProducer(b balancer.ProducerBuilder) (balancer.Producer, func()) {
	return b.Build(nil)
}

// recorder records nothing.
type recorder struct{ stats.MetricsRecorder }

func (recorder) RecordInt64Count(*stats.Int64CountHandle, int64, ...string)             {}
func (recorder) RecordFloat64Count(*stats.Float64CountHandle, float64, ...string)       {}
func (recorder) RecordInt64Histo(*stats.Int64HistoHandle, int64, ...string)             {}
func (recorder) RecordFloat64Histo(*stats.Float64HistoHandle, float64, ...string)       {}
func (recorder) RecordInt64Gauge(*stats.Int64GaugeHandle, int64, ...string)             {}
func (recorder) RecordInt64UpDownCount(*stats.Int64UpDownCountHandle, int64, ...string) {}
func (recorder) RegisterAsyncReporter(stats.AsyncMetricReporter, ...stats.AsyncMetric) func() {
	return func() {}
}
