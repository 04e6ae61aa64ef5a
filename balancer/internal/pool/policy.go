package pool

import (
	"encoding/json"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/serviceconfig"

	"github.com/grpcsteady/steady/resolver/endpoint"
)

// Config is what a policy was told, read and checked.
type Config struct {
	serviceconfig.LoadBalancingConfig
	Settings Settings
	// Chooser makes the choice for a set of candidates. It is called whenever they or their weights change.
	Chooser func(Set) Chooser

	source json.RawMessage
}

// Set is what a policy may choose from.
type Set struct {
	Pool       *Pool
	Candidates []Candidate // at least one
	Listed     []Listed    // all endpoints that the resolver lists, in its order, candidates among them
	Before     Chooser     // the last one that this policy made; nil: none
}

// Listed is an endpoint that the resolver lists, whatever its state.
type Listed struct {
	*Endpoint
	Weight float64 // the resolver's
}

// Build builds a policy's balancer for gRPC.
func Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	p := &policy{ClientConn: cc, checks: make(map[*Endpoint]*check)}
	p.child = endpointsharding.NewBalancer(p, o, balancer.Get(pickfirst.Name).Build, endpointsharding.Options{})
	return p
}

// policy stands between gRPC and endpointsharding.
type policy struct {
	balancer.ClientConn
	child  balancer.Balancer
	waking atomic.Bool
	ending sync.WaitGroup // checks that were told to stop

	mu       sync.Mutex // guards what follows; gRPC's locks may be held, and the child is never called with it
	pool     *Pool
	config   *Config
	state    balancer.State // endpointsharding's last
	children []endpointsharding.ChildState
	chooser  Chooser // the last one
	told     bool    // some state was handed on
	rebuilt  time.Time
	timer    *time.Timer
	due      time.Time // of the timer
	closed   bool
	checks   map[*Endpoint]*check
}

// A storm of changes to many endpoints is dealt with in one go: a rebuild takes time in proportion to all of
// them.
const (
	manyEndpoints = 100
	rebuildEvery  = 20 * time.Millisecond
)

// UpdateClientConnState takes what the resolver and the service config say.
func (p *policy) UpdateClientConnState(s balancer.ClientConnState) error {
	config, ok := s.BalancerConfig.(*Config)
	if !ok {
		return balancer.ErrBadResolverState
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	if p.pool == nil {
		h, _ := s.ResolverState.Attributes.Value(endpoint.HandleKey{}).(*endpoint.Handle)
		p.pool = poolOf(h)
	}
	p.config = config
	pool := p.pool
	p.mu.Unlock()

	pool.adopt(p)
	pool.configure(config.Settings)
	s.ResolverState.Endpoints = pool.update(s.ResolverState.Endpoints)
	s.ResolverState.Addresses = nil
	err := p.child.UpdateClientConnState(balancer.ClientConnState{
		// Without it neither gRPC's client-side health checks nor its outlier detection would reach us.
		ResolverState: pickfirst.EnableHealthListener(s.ResolverState),
	})
	p.wake() // settings may have changed and states not
	return err
}

// adopt makes a policy the one whose connections count. While gRPC changes from one policy to another both live
// for a while.
func (p *Pool) adopt(by *policy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == by {
		return
	}
	p.current = by
	for _, e := range p.list {
		if e.ready {
			e.ready, e.left = false, p.now()
		}
		e.state = "idle"
	}
}

// UpdateState is told by endpointsharding whenever a connection changes, with its lock held.
func (p *policy) UpdateState(s balancer.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	changed := !p.told || s.ConnectivityState != p.state.ConnectivityState
	p.state, p.children = s, endpointsharding.ChildStatesFromPicker(s.Picker)
	if changed || !p.later() {
		p.rebuild()
	}
}

// wake has the policy look at its endpoints again, at once and on a goroutine of its own: pool.mu, which comes
// after mu, or the lock of a call may be held.
func (p *policy) wake() {
	if !p.waking.CompareAndSwap(false, true) {
		return
	}
	time.AfterFunc(0, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.waking.Store(false)
		if !p.closed && p.told && !p.later() {
			p.rebuild()
		}
	})
}

// later puts a rebuild off if there are many endpoints and the last one was just now. mu is held.
func (p *policy) later() bool {
	wait := rebuildEvery - time.Since(p.rebuilt)
	if len(p.children) <= manyEndpoints || wait <= 0 {
		return false
	}
	p.schedule(wait)
	return true
}

// schedule sees to it that a rebuild comes after some time at the latest. mu is held.
func (p *policy) schedule(after time.Duration) {
	due := time.Now().Add(after)
	switch {
	case p.timer == nil:
		p.timer = time.AfterFunc(after, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if !p.closed {
				p.due = time.Time{}
				p.rebuild()
			}
		})
	case p.due.IsZero() || due.Before(p.due):
		p.timer.Reset(after)
	default:
		return
	}
	p.due = due
}

// rebuild makes a picker of what there is now and hands it to gRPC. mu is held.
func (p *policy) rebuild() {
	if p.pool == nil || p.config == nil {
		p.ClientConn.UpdateState(p.state) // before the first list: an error of the resolver's
		p.told = true
		return
	}
	pool, now := p.pool, p.pool.now()
	pool.mu.Lock()
	settings := pool.settings.Load()
	list := pool.list
	set := Set{Pool: pool, Listed: make([]Listed, len(list)), Before: p.chooser}
	for i, e := range list {
		set.Listed[i] = Listed{e, e.weight}
	}
	found, states := make([]balancer.Picker, len(list)), make([]string, len(list))
	for i := range p.children {
		c := &p.children[i]
		e := pool.byKey[keyOf(c.Endpoint)]
		if e == nil {
			continue // just taken off the list
		}
		states[e.index] = stateName(c.State.ConnectivityState)
		if c.State.ConnectivityState == connectivity.Ready {
			found[e.index] = c.State.Picker
		}
	}
	pool.connected(p, now, states)
	pool.readmit(now, *settings)
	divided := pool.divide(now, *settings)
	weights, again := pool.pickable(now, *settings)
	again = min(again, divided)
	if pool.current != p {
		weights = pool.leaving(func(e *Endpoint) bool { return found[e.index] != nil })
	}
	pool.mu.Unlock()

	set.Candidates = make([]Candidate, 0, len(list))
	for i, e := range list {
		if weights[i] > 0 && found[i] != nil {
			set.Candidates = append(set.Candidates, Candidate{Endpoint: e, Weight: weights[i], picker: found[i]})
		}
	}
	state := p.state
	if len(set.Candidates) > 0 {
		p.chooser = p.config.Chooser(set)
		state = balancer.State{ConnectivityState: connectivity.Ready, Picker: &picker{
			pool: pool, candidates: set.Candidates, chooser: p.chooser, settings: settings, endpoints: hopeful(states),
		}}
	}
	p.told, p.rebuilt = true, time.Now()
	p.ClientConn.UpdateState(state)
	p.check(list, found, settings.Check)
	if again != math.MaxInt64 {
		p.schedule(max(time.Duration(again-now), time.Millisecond))
	}
}

// hopeful counts the endpoints that may be well: all but those that can not be connected to. While the first
// connections are being made, the first one that stands is one of many; when all others are gone, it is the only one.
func hopeful(states []string) (n int) {
	for _, s := range states {
		if s != stateFailing {
			n++
		}
	}
	return n
}

func stateName(s connectivity.State) string {
	switch s {
	case connectivity.Ready:
		return stateReady
	case connectivity.Connecting:
		return "connecting"
	case connectivity.TransientFailure:
		return stateFailing
	case connectivity.Shutdown:
		return "shutdown"
	default:
		return "idle"
	}
}

// ResolverError is told when the resolver fails; what it said before stays in force. Without any endpoint its reason
// is what callers get: endpointsharding has nobody to tell it to them.
func (p *policy) ResolverError(err error) {
	p.child.ResolverError(err)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.children) > 0 {
		return
	}
	p.state = balancer.State{ConnectivityState: connectivity.TransientFailure, Picker: failing{err}}
	p.told = true
	p.ClientConn.UpdateState(p.state)
}

// failing is the picker of a channel without endpoints.
type failing struct{ reason error }

func (f failing) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, fmt.Errorf("no endpoints: %w", f.reason)
}

// ExitIdle connects.
func (p *policy) ExitIdle() { p.child.ExitIdle() }

// UpdateSubConnState is of no use: pick_first listens for itself.
func (p *policy) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// Close ends the policy. What was learned stays with the channel.
func (p *policy) Close() {
	p.mu.Lock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	checks := p.checks
	p.checks = nil
	pool := p.pool
	p.mu.Unlock()
	for _, c := range checks {
		c.cancel()
	}
	for _, c := range checks {
		c.stop()
	}
	p.ending.Wait()
	p.child.Close()
	if pool == nil {
		return
	}
	pool.mu.Lock()
	defer pool.mu.Unlock()
	if pool.current == p {
		pool.connected(p, pool.now(), nil)
		pool.current = nil
	}
}
