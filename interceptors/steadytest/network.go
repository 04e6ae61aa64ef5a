package steadytest

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
)

// backlog is how many connections may wait to be accepted before further ones are refused.
const backlog = 1024

// Network is a small internet in memory: listeners have names, connections carry them, and the names can be
// made to fail. Unlike a bufconn listener, both ends of a connection say who they are, so a test can tell
// which endpoint answered, and unlike a socket, waiting for it does not stop a bubble's clock.
//
// Its methods may be called from any goroutine. A Network belongs to the bubble it is used in.
type Network struct {
	mu     sync.Mutex
	hosts  map[string]*host
	dials  int // numbers the client's side of connections
	closed bool
}

// host is what is known of a name. Network.mu guards it.
type host struct {
	name    string
	lis     *listener
	refuse  bool
	hole    bool
	links   map[*pipeConn]*pipeConn // open connections, from the client's end to the server's
	changed chan struct{}           // closed when the hole ends, for dials that hang in it
}

// NewNetwork returns a network without names. A [Fleet] makes its own; make one to share it between fleets,
// or to test code that needs a net.Listener and a dialer but no gRPC.
func NewNetwork() *Network {
	return &Network{hosts: map[string]*host{}}
}

// host needs mu.
func (n *Network) host(name string) *host {
	h := n.hosts[name]
	if h == nil {
		h = &host{name: name, links: map[*pipeConn]*pipeConn{}, changed: make(chan struct{})}
		n.hosts[name] = h
	}
	return h
}

// Listen opens a listener under the name. It fails with EADDRINUSE while another one is open there.
func (n *Network) Listen(name string) (net.Listener, error) {
	lis, err := n.listen(name)
	if err != nil {
		return nil, err // and no typed nil
	}
	return lis, nil
}

func (n *Network) listen(name string) (*listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.host(name)
	switch {
	case n.closed:
		return nil, opError("listen", name, net.ErrClosed)
	case h.lis != nil:
		return nil, opError("listen", name, os.NewSyscallError("bind", syscall.EADDRINUSE))
	}
	h.lis = &listener{network: n, name: name, conns: make(chan *pipeConn, backlog), closed: make(chan struct{})}
	return h.lis, nil
}

// Dial connects to a name, as "client". It fails at once with ECONNREFUSED when nobody listens there or the
// name refuses, and hangs until ctx ends while the name is a black hole. It has the form of
// grpc.WithContextDialer.
func (n *Network) Dial(ctx context.Context, name string) (net.Conn, error) {
	return n.DialFrom("client")(ctx, name)
}

// DialFrom returns a dialer whose connections come from the given client: servers see "client:1",
// "client:2" and so on, counted over all connections of the network.
func (n *Network) DialFrom(client string) func(ctx context.Context, name string) (net.Conn, error) {
	return func(ctx context.Context, name string) (net.Conn, error) {
		for {
			conn, hole, err := n.connect(client, name)
			if hole == nil {
				return conn, err
			}
			select {
			case <-hole:
			case <-ctx.Done():
				return nil, opError("dial", name, ctx.Err())
			}
		}
	}
}

// connect makes one try. It returns a channel to wait for when the name is a black hole.
func (n *Network) connect(client, name string) (_ net.Conn, hole <-chan struct{}, _ error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.host(name)
	switch {
	case n.closed:
		return nil, nil, opError("dial", name, net.ErrClosed)
	case h.hole:
		return nil, h.changed, nil
	case h.refuse || h.lis == nil:
		return nil, nil, opError("dial", name, os.NewSyscallError("connect", syscall.ECONNREFUSED))
	}
	n.dials++
	var c, s *pipeConn
	c, s = newPipe(Addr(fmt.Sprintf("%s:%d", client, n.dials)), Addr(name), func() { n.forget(h, c) })
	select {
	case h.lis.conns <- s:
	default:
		return nil, nil, opError("dial", name, os.NewSyscallError("connect", syscall.ECONNREFUSED))
	}
	h.links[c] = s
	return c, nil, nil
}

func (n *Network) forget(h *host, c *pipeConn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(h.links, c)
}

// Refuse lets new connections to the name fail with ECONNREFUSED although a listener may be open, as with a
// full backlog or a wrong firewall. Connections that exist go on.
func (n *Network) Refuse(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.host(name).refuse = true
}

// BlackHole makes the name fall silent: dials hang until their context ends, and on existing connections
// nothing arrives any more in either direction, not even their end. After [Network.Heal] what was sent
// meanwhile arrives, as TCP sends it again.
func (n *Network) BlackHole(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.host(name)
	h.hole = true
	for c := range h.links {
		c.hold(true)
	}
}

// Heal ends Refuse and BlackHole.
func (n *Network) Heal(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.host(name)
	if h.refuse = false; !h.hole {
		return
	}
	h.hole = false
	for c := range h.links {
		c.hold(false)
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

// Cut resets all connections to the name, also in a black hole: both ends get ECONNRESET, and what was under
// way is lost. It returns how many there were. New connections are not affected.
func (n *Network) Cut(name string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.host(name)
	for c := range h.links {
		c.reset()
	}
	cut := len(h.links)
	clear(h.links)
	return cut
}

// hangUp closes the server's ends of all connections to the name, so that its clients read io.EOF.
func (n *Network) hangUp(name string) {
	n.mu.Lock()
	ends := slices.Collect(maps.Values(n.host(name).links))
	n.mu.Unlock()
	for _, s := range ends {
		_ = s.Close()
	}
}

// Conns returns how many connections to the name are open, cut ones not counted.
func (n *Network) Conns(name string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.host(name).links)
}

// Close cuts all connections, closes all listeners and lets every later Dial and Listen fail with
// net.ErrClosed. Dials that hang in a black hole end with it.
func (n *Network) Close() {
	n.mu.Lock()
	n.closed = true
	var listeners []*listener
	for _, h := range n.hosts {
		if h.lis != nil {
			listeners = append(listeners, h.lis)
		}
		for c := range h.links {
			c.reset()
		}
		clear(h.links)
		close(h.changed)
		h.changed = make(chan struct{})
	}
	n.mu.Unlock()
	for _, l := range listeners {
		_ = l.Close()
	}
}

// listener is the accepting side of a name.
type listener struct {
	network *Network
	name    string
	conns   chan *pipeConn
	closed  chan struct{}
}

func (l *listener) Addr() net.Addr { return Addr(l.name) }

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, opError("accept", l.name, net.ErrClosed)
	default:
	}
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, opError("accept", l.name, net.ErrClosed)
	}
}

// Close frees the name and resets the connections that nobody accepted; accepted ones go on.
func (l *listener) Close() error {
	l.network.mu.Lock()
	h := l.network.host(l.name)
	if h.lis != l {
		l.network.mu.Unlock()
		return opError("close", l.name, net.ErrClosed)
	}
	h.lis = nil // nobody can queue a connection from here on
	close(l.closed)
	l.network.mu.Unlock()
	for {
		select {
		case c := <-l.conns:
			c.reset()
			_ = c.Close()
		default:
			return nil
		}
	}
}

func opError(op, name string, err error) error {
	return &net.OpError{Op: op, Net: "mem", Addr: Addr(name), Err: err}
}
