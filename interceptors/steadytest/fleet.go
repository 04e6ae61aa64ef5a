package steadytest

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// Fleet is a set of replicas on a network of their own, and the channels that call them. Its methods may be
// called from any goroutine.
type Fleet struct {
	tb         testing.TB
	network    *Network
	replicas   []*Replica
	endpoints  *endpoints
	seed       uint64
	allMethods bool
	options    []func(replica string) []grpc.ServerOption
	services   []func(*Replica, grpc.ServiceRegistrar)
}

// Option shapes a [Fleet].
type Option func(*Fleet)

// Replicas adds replicas with these names, healthy and started. A name serves as address too, so "a",
// "a:50051" and "10.0.0.1:50051" all do. Default: "a", "b" and "c".
func Replicas(names ...string) Option {
	return func(f *Fleet) {
		for _, name := range names {
			f.replicas = append(f.replicas, &Replica{name: name, fleet: f})
		}
	}
}

// Seed sets what random shares and delays follow. Default: 1, so that a test repeats itself.
func Seed(seed uint64) Option { return func(f *Fleet) { f.seed = seed } }

// OnNetwork puts the fleet on a network shared with others, where its names must be free. The network is
// then not closed with the fleet. Default: one of its own.
func OnNetwork(n *Network) Option { return func(f *Fleet) { f.network = n } }

// Services registers one's own services on every replica, and again when it restarts, beside the echo
// service that each has. Scripts and records apply to them as well.
func Services(register func(r *Replica, s grpc.ServiceRegistrar)) Option {
	return func(f *Fleet) { f.services = append(f.services, register) }
}

// ServerOptions adds options to every replica's server: interceptors under test, keepalive, credentials. The
// interceptors run inside the recorder and around the script.
func ServerOptions(opts ...grpc.ServerOption) Option {
	return EachServer(func(string) []grpc.ServerOption { return opts })
}

// EachServer is [ServerOptions] for options that differ by replica or must be new for each server; it is
// asked at each start.
func EachServer(opts func(replica string) []grpc.ServerOption) Option {
	return func(f *Fleet) { f.options = append(f.options, opts) }
}

// AllMethods lets scripts and records apply to gRPC's own services as well: methods that begin with "/grpc."
// or "/xds.", so health checks, reflection and load reports. Default: those work undisturbed and are not
// counted, since clients call them on their own.
func AllMethods() Option { return func(f *Fleet) { f.allMethods = true } }

// NewFleet starts a fleet. It ends with the test, after the channels that Dial made. Inside a bubble (see
// [Run]) tb must be the bubble's own.
func NewFleet(tb testing.TB, opts ...Option) *Fleet {
	tb.Helper()
	f := &Fleet{tb: tb, seed: 1}
	for _, o := range opts {
		o(f)
	}
	if f.replicas == nil {
		Replicas("a", "b", "c")(f)
	}
	own := f.network == nil
	if own {
		f.network = NewNetwork()
	}
	names := make([]string, len(f.replicas))
	for i, r := range f.replicas {
		if slices.Contains(names, r.name) {
			tb.Fatalf("steadytest: two replicas are called %q", r.name)
		}
		names[i] = r.name
	}
	f.endpoints = newEndpoints(stateOf(names))
	tb.Cleanup(func() {
		for _, r := range f.replicas {
			r.close()
		}
		if own {
			f.network.Close()
		}
	})
	f.each((*Replica).Start)
	return f
}

// register gives a server its services.
func (f *Fleet) register(r *Replica, s grpc.ServiceRegistrar) {
	echov1.RegisterEchoServer(s, &echo{replica: r.name})
	for _, register := range f.services {
		register(r, s)
	}
}

func (f *Fleet) serverOptions(replica string) (opts []grpc.ServerOption) {
	for _, o := range f.options {
		opts = append(opts, o(replica)...)
	}
	return opts
}

func (f *Fleet) each(do func(*Replica)) {
	for _, r := range f.replicas {
		do(r)
	}
}

// Replica returns the replica of that name. It panics if there is none, which is a slip of the test.
func (f *Fleet) Replica(name string) *Replica {
	for _, r := range f.replicas {
		if r.name == name {
			return r
		}
	}
	panic(fmt.Sprintf("steadytest: the fleet has no replica %q", name))
}

// Replicas returns all replicas in the order they were named.
func (f *Fleet) Replicas() []*Replica { return slices.Clone(f.replicas) }

// Network returns the network the fleet is on, to refuse, silence or cut connections.
func (f *Fleet) Network() *Network { return f.network }

// Behave gives all replicas the same script.
func (f *Fleet) Behave(s Script) { f.each(func(r *Replica) { r.Behave(s) }) }

// Calls returns what all replicas saw, in order of arrival.
func (f *Fleet) Calls() (calls []Record) {
	f.each(func(r *Replica) { calls = append(calls, r.Calls()...) })
	slices.SortStableFunc(calls, func(a, b Record) int { return a.Arrived.Compare(b.Arrived) })
	return calls
}

// Count returns how many calls each replica saw since the last Forget: {"a": 10, "b": 0}.
func (f *Fleet) Count() map[string]int {
	counts := make(map[string]int, len(f.replicas))
	f.each(func(r *Replica) { counts[r.name] = r.Count() })
	return counts
}

// Forget empties Calls and Count of all replicas, to look at one phase of a test.
func (f *Fleet) Forget() { f.each((*Replica).Forget) }

// SetEndpoints tells the fleet's channels, those made later too, that these are the endpoints, as a resolver
// does when replicas come and go. It changes no replica. A name without a replica is one nobody listens on.
// Default: all replicas.
func (f *Fleet) SetEndpoints(names ...string) { f.endpoints.set(stateOf(names)) }

// SetState is SetEndpoints for states with weights, attributes or a service config. The state is the
// fleet's from then on.
func (f *Fleet) SetState(s resolver.State) { f.endpoints.set(s) }
