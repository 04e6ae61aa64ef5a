package follow

import (
	"slices"
	"sync"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/grpcsteady/steady/resolver/endpoint"
)

// conn stands between a resolver and the connection it resolves for.
//
// Both the resolver and the hub cause pushes, and gRPC calls balancing policies from within one, which may call
// observers, who may change the document: so no lock is held over a push. One goroutine pushes at a time and
// goes on until nothing newer is left; the others leave their wish and go, or wait for it if they need its error.
type conn struct {
	resolver.ClientConn
	hub     *Hub
	channel *Channel
	target  string
	passive bool // the state's service config is nobody's but the resolver's

	mu     sync.Mutex // guards what follows
	done   *sync.Cond
	last   resolver.State // as the resolver said it
	wanted uint64         // pushes asked for; 0: the resolver has said nothing yet
	pushed uint64         // of those
	busy   bool           // somebody pushes
	closed bool
	err    error // of the last push

	given  *serviceconfig.ParseResult // what gRPC was given last
	own    *serviceconfig.ParseResult // the hub's service config, parsed
	ownRaw string                     // what it was parsed from
}

func newConn(h *Hub, cc resolver.ClientConn, target string, ch *Channel) *conn {
	c := &conn{ClientConn: cc, hub: h, channel: ch, target: target}
	c.done = sync.NewCond(&c.mu)
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.current = c
	return c
}

// ParseServiceConfig has gRPC parse a service config for the resolver. If pushed documents are followed, gRPC
// does not see what the rules will do.
func (c *conn) ParseServiceConfig(raw string) *serviceconfig.ParseResult {
	if c.passive || c.channel.Pushed == nil {
		return c.ClientConn.ParseServiceConfig(raw)
	}
	rest, err := strip(raw, c.channel.Mark)
	if err != nil {
		rest = raw // gRPC has its own words for what is wrong with it
	}
	r := c.ClientConn.ParseServiceConfig(rest)
	c.channel.remember(r, raw)
	return r
}

// UpdateState takes a state from the resolver. The error is that of the push that carried it.
func (c *conn) UpdateState(s resolver.State) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = s
	return c.push(true)
}

// NewAddress is the old form of UpdateState.
func (c *conn) NewAddress(addrs []resolver.Address) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = resolver.State{Addresses: addrs, ServiceConfig: c.last.ServiceConfig}
	_ = c.push(true) // the old form has no error
}

// refresh pushes the last state again if the hub's service config makes a difference to it.
func (c *conn) refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wanted == 0 || c.passive {
		return
	}
	if !c.busy { // else a push under way may have come too early to see it
		if give, _ := c.serviceConfig(false); give == c.given {
			return
		}
	}
	_ = c.push(false) // the resolver is not asked again: its last state was as good before
}

// push hands the last state to gRPC; mu is held, and free meanwhile.
func (c *conn) push(wait bool) error {
	c.wanted++
	mine := c.wanted
	if c.busy {
		for wait && c.pushed < mine && c.busy {
			c.done.Wait()
		}
		return c.err
	}
	c.busy = true
	defer func() { // also if a policy or an observer panics
		c.busy = false
		c.done.Broadcast()
	}()
	for c.pushed < c.wanted && !c.closed {
		upTo := c.wanted
		s, tell := c.state()
		err := c.hand(s, tell)
		c.pushed, c.err = upTo, err
		c.done.Broadcast()
	}
	return c.err
}

// hand gives a state to gRPC with mu free, the rules first: a call that sees new policies sees new rules.
func (c *conn) hand(s resolver.State, tell func()) error {
	c.mu.Unlock()
	defer c.mu.Lock()
	if tell != nil {
		tell()
	}
	return c.ClientConn.UpdateState(s)
}

// state makes of the resolver's last state the one for gRPC; mu is held.
func (c *conn) state() (s resolver.State, tell func()) {
	s = c.last
	// Policies may reorder what they are given, and this state may be given again.
	s.Addresses, s.Endpoints = slices.Clone(s.Addresses), slices.Clone(s.Endpoints)
	if c.channel.Handle != nil {
		s.Attributes = s.Attributes.WithValue(endpoint.HandleKey{}, c.channel.Handle)
	}
	if !c.passive {
		s.ServiceConfig, tell = c.serviceConfig(true)
		c.given = s.ServiceConfig
	}
	return s, tell
}

// serviceConfig returns the service config for the last state; mu is held. news: what the resolver pushed has
// not been looked at yet.
func (c *conn) serviceConfig(news bool) (give *serviceconfig.ParseResult, tell func()) {
	give = c.last.ServiceConfig
	switch {
	case c.channel.Pushed == nil || !c.newest():
	case news:
		give, tell = c.channel.take(c.target, give)
	case give != nil:
		give = c.channel.usableOf(give)
	}
	if give == nil {
		give = c.parsed()
	}
	if give == nil {
		give = c.last.ServiceConfig // gRPC says why it can not use it
	}
	return give, tell
}

// parsed returns the hub's service config as gRPC parsed it; nil: there is none.
func (c *conn) parsed() *serviceconfig.ParseResult {
	raw := c.hub.current()
	if raw == c.ownRaw {
		return c.own
	}
	c.own, c.ownRaw = nil, raw
	if raw == "" {
		return nil
	}
	if c.channel.Pushed != nil {
		if marked, err := mark(raw, c.channel.Mark); err == nil {
			raw = marked
		}
	}
	c.own = c.ClientConn.ParseServiceConfig(raw)
	return c.own
}

func (c *conn) newest() bool {
	c.channel.mu.Lock()
	defer c.channel.mu.Unlock()
	return c.channel.current == c
}

func (c *conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}
