package failover

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/proto/document"
	"github.com/grpcsteady/steady/resolver/endpoint"
	"github.com/grpcsteady/steady/resolver/internal/publish"
)

type builder struct {
	settings
	members []member
	err     error
}

func (*builder) Scheme() string { return Scheme }

// Build builds the resolver of each group. If one can not be built, none is: that is a slip of whoever wrote its
// target, which a backup would only hide.
func (b *builder) Build(target resolver.Target, cc resolver.ClientConn, opts resolver.BuildOptions) (resolver.Resolver, error) {
	if b.err != nil {
		return nil, b.err
	}
	m := &merger{
		settings: b.settings, target: target.String(), began: time.Now(),
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	for _, g := range b.members {
		m.groups = append(m.groups, &group{ClientConn: cc, merger: m, target: g.text, depth: 1})
	}
	for i, g := range b.members {
		r, err := g.Build(g.target, m.groups[i], opts)
		if err != nil {
			m.closeGroups()
			return nil, fmt.Errorf("failover: group %d (%s): %w", i, g.text, err)
		}
		m.groups[i].resolver = r
	}
	m.outlet = publish.Open(cc, m.target, m.random, m.onError)
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	go m.run(ctx)
	return m, nil
}

// merger is one resolver: it makes one list of those of its groups.
type merger struct {
	settings
	target string
	began  time.Time
	outlet *publish.Outlet
	cancel context.CancelFunc
	wake   chan struct{} // one value: something has changed
	ended  chan struct{}

	mu     sync.Mutex // guards what follows, and what groups say; nothing is called with it
	groups []*group   // the slice itself is not changed
	closed bool

	// What follows is run's.
	started bool // something was published
	listed  bool // and not withdrawn since
}

// change takes what a group's resolver says.
func (m *merger) change(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	f()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// ResolveNow asks the resolvers of all groups: which of them it is about, nobody knows.
func (m *merger) ResolveNow(o resolver.ResolveNowOptions) {
	for _, g := range m.groups {
		g.resolver.ResolveNow(o)
	}
}

// Close ends the resolvers of all groups, and then this one.
func (m *merger) Close() {
	m.closeGroups()
	m.cancel()
	<-m.ended
	m.outlet.Close()
}

func (m *merger) closeGroups() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	for _, g := range m.groups {
		if g.resolver != nil {
			g.resolver.Close()
		}
	}
}

func (m *merger) run(ctx context.Context) {
	defer close(m.ended)
	timer := time.NewTimer(m.start)
	defer timer.Stop()
	for {
		timer.Stop()
		if wait := m.merge(); wait > 0 {
			timer.Reset(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		case <-timer.C:
		}
	}
}

// merge publishes what the groups have come to, and returns when time alone changes that; 0: never.
func (m *merger) merge() time.Duration {
	m.mu.Lock()
	var next time.Duration
	sooner := func(d time.Duration) {
		if d > 0 && (next == 0 || d < next) {
			next = d
		}
	}
	for _, g := range m.groups {
		sooner(g.expire(m.grace))
	}
	s, ahead := m.state()
	err := m.errors()
	m.mu.Unlock()

	patience := time.Until(m.began.Add(m.start))
	switch {
	case !m.started && ahead && patience > 0:
		sooner(patience)
	case len(s.Endpoints) > 0:
		m.started, m.listed = true, true
		m.outlet.Publish(s, err)
	case m.listed:
		m.listed = false
		m.outlet.Withdraw(err)
	case err != nil:
		m.outlet.Fail(err)
	}
	return next
}

// state makes one list of those of the groups; ahead: a group before the first with a list has said nothing yet.
// mu is held.
func (m *merger) state() (s publish.State, ahead bool) {
	seen := make(map[string]bool)
	first := 0 // priority of the group
	for _, g := range m.groups {
		if g.list == nil {
			ahead = ahead || !g.said && s.Endpoints == nil
			first += g.depth
			continue
		}
		for _, e := range g.list {
			if k := endpoint.Key(e); !seen[k] {
				seen[k] = true
				if p := first + endpoint.Priority(e); p > 0 && !m.firstOnly {
					e = endpoint.WithPriority(e, min(p, document.MaxPriority))
				}
				s.Endpoints = append(s.Endpoints, e)
			}
		}
		first += g.depth
		if s.Parsed == nil {
			s.Parsed = g.config
		}
		if s.Attributes == nil {
			s.Attributes = g.attrs
		}
		if m.firstOnly {
			break
		}
	}
	return s, ahead
}

// errors returns what is wrong with groups; mu is held.
func (m *merger) errors() error {
	var errs []error
	for i, g := range m.groups {
		if g.err != nil {
			errs = append(errs, fmt.Errorf("failover: %s: group %d (%s): %w", m.target, i, g.target, g.err))
		}
	}
	return errors.Join(errs...)
}
