package steadytest

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
)

// Scheme is the scheme of [Fleet.Target].
const Scheme = "steadytest"

// Target returns what a channel to the fleet dials: "steadytest:///fleet". It resolves only with the fleet's
// [Fleet.DialOptions].
func (f *Fleet) Target() string { return Scheme + ":///fleet" }

// DialOptions returns what [Fleet.Dial] dials with, for tests that call grpc.NewClient themselves: with a
// target of their own, say "passthrough:///a" for one replica, or with a decorated [Fleet.Resolver].
//
// No transport security; the fleet's network; its resolver; round_robin, unless the resolver or a later
// option says otherwise; reconnection after 10 ms, growing by 1.6 to 1 s without jitter, with 1 s for each
// try, so that outside a bubble too nobody waits for gRPC's own seconds.
func (f *Fleet) DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(f.network.Dial),
		grpc.WithResolvers(f.Resolver()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.6, MaxDelay: time.Second},
			MinConnectTimeout: time.Second,
		}),
	}
}

// Dial returns a channel to the fleet, made with [Fleet.DialOptions] and then the given ones, which win. It
// is closed at the end of the test, before the replicas. A test that closes it earlier does no harm.
func (f *Fleet) Dial(opts ...grpc.DialOption) *grpc.ClientConn {
	f.tb.Helper()
	conn, err := grpc.NewClient(f.Target(), append(f.DialOptions(), opts...)...)
	if err != nil {
		f.tb.Fatalf("steadytest: dial: %v", err)
	}
	f.tb.Cleanup(func() { _ = conn.Close() }) // an error says it is closed already
	return conn
}

// Resolver returns the builder behind [Fleet.Target], to wrap it in another one. It may build for any number
// of channels.
func (f *Fleet) Resolver() resolver.Builder { return f.endpoints }

// endpoints is the builder of the fleet's resolvers. It hands every new state to all of them, and the last
// one to those built later, as a channel does that comes back from idle.
type endpoints struct {
	mu    sync.Mutex // guards all, and is held over UpdateState so that states arrive in order
	state resolver.State
	live  map[*endpointResolver]resolver.ClientConn
}

func newEndpoints(s resolver.State) *endpoints {
	return &endpoints{state: s, live: map[*endpointResolver]resolver.ClientConn{}}
}

// stateOf sets Endpoints and Addresses both, as gRPC's own resolvers do: policies on balancer/base read only
// the latter.
func stateOf(names []string) (s resolver.State) {
	for _, name := range names {
		addr := resolver.Address{Addr: name}
		s.Addresses = append(s.Addresses, addr)
		s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{addr}})
	}
	return s
}

func (e *endpoints) set(s resolver.State) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state = s
	for _, cc := range e.live {
		_ = cc.UpdateState(e.copy()) // a policy that refuses a state says so through the channel
	}
}

// copy needs mu. Each channel gets slices of its own, since policies may reorder what they are given.
func (e *endpoints) copy() resolver.State {
	s := e.state
	s.Addresses, s.Endpoints = slices.Clone(s.Addresses), slices.Clone(s.Endpoints)
	return s
}

func (e *endpoints) Scheme() string { return Scheme }

func (e *endpoints) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := &endpointResolver{endpoints: e}
	e.live[r] = cc
	_ = cc.UpdateState(e.copy())
	return r, nil
}

type endpointResolver struct{ endpoints *endpoints }

// ResolveNow does nothing: the newest state is there already.
func (*endpointResolver) ResolveNow(resolver.ResolveNowOptions) {}

func (r *endpointResolver) Close() {
	r.endpoints.mu.Lock()
	defer r.endpoints.mu.Unlock()
	delete(r.endpoints.live, r)
}
