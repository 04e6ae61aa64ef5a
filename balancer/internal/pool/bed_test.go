package pool_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"

	_ "github.com/grpcsteady/steady/balancer/consistenthash"
	_ "github.com/grpcsteady/steady/balancer/leastrequest"
	_ "github.com/grpcsteady/steady/balancer/weighted"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/resolver/endpoint"
)

// These tests run the policies in real gRPC channels under virtual time, and read what the pool knows through the
// handle that a channel lends it.

const (
	leastRequest   = "steady_least_request"
	weighted       = "steady_weighted"
	consistentHash = "steady_consistent_hash"
)

var policies = []string{leastRequest, weighted, consistentHash}

// serviceConfig selects a policy with a configuration, beside other fields.
func serviceConfig(policy, config string, others ...string) string {
	return fmt.Sprintf(`{"loadBalancingConfig":[{%q:%s}]%s}`, policy, config, strings.Join(append([]string{""}, others...), ","))
}

// bed is a fleet and one channel to it, with a handle and a resolver that says what the test wants.
type bed struct {
	*steadytest.Fleet
	t      *testing.T
	handle *endpoint.Handle
	pusher *pusher

	mu      sync.Mutex
	changes []endpoint.Change
}

func newBed(t *testing.T, names []string, opts ...steadytest.Option) *bed {
	t.Helper()
	b := &bed{t: t, Fleet: steadytest.NewFleet(t, append([]steadytest.Option{steadytest.Replicas(names...)}, opts...)...)}
	b.handle = endpoint.NewHandle("test", func(c endpoint.Change) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.changes = append(b.changes, c)
	})
	b.pusher = &pusher{Builder: b.Resolver()}
	b.list(names...)
	return b
}

// list has the resolver list endpoints: "a", "a=3" for one with a weight, or "b@1" for one of a backup group.
func (b *bed) list(names ...string) { b.SetState(b.state(names...)) }

func (b *bed) state(names ...string) resolver.State {
	s := resolver.State{Attributes: attributes.New(endpoint.HandleKey{}, b.handle)}
	for _, name := range names {
		var weight uint32
		name, group, backup := strings.Cut(name, "@")
		name, n, said := strings.Cut(name, "=")
		e := resolver.Endpoint{Addresses: []resolver.Address{{Addr: name}}}
		if backup {
			e = endpoint.WithPriority(e, int(group[0]-'0'))
		}
		if said {
			if _, err := fmt.Sscan(n, &weight); err != nil {
				b.t.Fatal(err)
			}
			e = endpoint.WithWeight(e, weight)
		}
		s.Endpoints, s.Addresses = append(s.Endpoints, e), append(s.Addresses, e.Addresses[0])
	}
	return s
}

// dial makes the channel with a policy; connected waits until it is.
func (b *bed) dial(config string, opts ...grpc.DialOption) *grpc.ClientConn {
	b.pusher.json = config
	conn, err := grpc.NewClient("pushed:///fleet", append(append(b.DialOptions(), grpc.WithResolvers(b.pusher)), opts...)...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (b *bed) connected(config string, opts ...grpc.DialOption) *grpc.ClientConn {
	conn := b.dial(config, opts...)
	conn.Connect()
	synctest.Wait()
	return conn
}

// told returns the decisions that were told so far, as "a out 30s (5 failures in a row)" or "a back".
func (b *bed) told() []string {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]string, 0, len(b.changes))
	for _, c := range b.changes {
		s := c.Endpoint + " back"
		if c.Out {
			s = fmt.Sprintf("%s out %v (%s)", c.Endpoint, c.For, c.Reason)
		}
		if c.Observed {
			s += " observed"
		}
		list = append(list, s)
	}
	return list
}

// events returns what was told of one endpoint.
func (b *bed) events(name string) []endpoint.Change {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.changes), func(c endpoint.Change) bool { return c.Endpoint != name })
}

// of returns what the pool knows of an endpoint.
func (b *bed) of(name string) endpoint.Snapshot {
	b.t.Helper()
	synctest.Wait()
	for _, e := range b.handle.Endpoints() {
		if e.Endpoint == name {
			return e
		}
	}
	b.t.Fatalf("the pool does not know %q: %v", name, b.handle.Endpoints())
	return endpoint.Snapshot{}
}

// out returns the names of those that get no calls.
func (b *bed) out() (names []string) {
	synctest.Wait()
	for _, e := range b.handle.Endpoints() {
		if e.Effective == 0 {
			names = append(names, e.Endpoint)
		}
	}
	return names
}

// ejected returns the names of those that are ejected.
func (b *bed) ejected() (names []string) {
	synctest.Wait()
	for _, e := range b.handle.Endpoints() {
		if e.Ejected {
			names = append(names, e.Endpoint)
		}
	}
	return names
}

// quiet fails the test if a call is still in flight anywhere, or less than none.
func (b *bed) quiet() {
	b.t.Helper()
	synctest.Wait()
	for _, e := range b.handle.Endpoints() {
		if e.InFlight != 0 {
			b.t.Errorf("%s has %d calls in flight at the end", e.Endpoint, e.InFlight)
		}
	}
}

// load is traffic at a rate for a time.
func load(t *testing.T, conn *grpc.ClientConn, rate float64, d time.Duration) *steadytest.Result {
	t.Helper()
	return steadytest.Load{Rate: rate, For: d, Call: steadytest.Get(conn)}.Run(t.Context())
}

// one makes a call and waits until everything it caused has settled.
func one(t *testing.T, conn *grpc.ClientConn) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := steadytest.Get(conn)(ctx, 0)
	synctest.Wait()
	return err
}

// pusher adds a service config to what a resolver says, as a control plane does.
type pusher struct {
	resolver.Builder
	mu   sync.Mutex // held over UpdateState
	json string
	cc   resolver.ClientConn
	last resolver.State
}

func (p *pusher) Scheme() string { return "pushed" }

func (p *pusher) Build(target resolver.Target, cc resolver.ClientConn, o resolver.BuildOptions) (resolver.Resolver, error) {
	p.mu.Lock()
	p.cc = cc
	p.mu.Unlock()
	return p.Builder.Build(target, &pushed{cc, p}, o)
}

func (p *pusher) push(json string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.json = json
	p.send()
}

func (p *pusher) send() {
	s := p.last
	s.Endpoints = slices.Clone(s.Endpoints)
	s.ServiceConfig = p.cc.ParseServiceConfig(p.json)
	_ = p.cc.UpdateState(s)
}

type pushed struct {
	resolver.ClientConn
	p *pusher
}

func (c *pushed) UpdateState(s resolver.State) error {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.p.last = s
	c.p.send()
	return nil
}

// handleOf makes a handle whose observer is told the endpoints of decisions.
func handleOf(f func(endpoint string)) *endpoint.Handle {
	return endpoint.NewHandle("test", func(c endpoint.Change) { f(c.Endpoint) })
}
