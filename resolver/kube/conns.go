package kube

import (
	"context"
	"net"
	"sync"
	"time"
)

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// conns dials and ends all that it has dialed, also what is still on its way: net/http goes on dialing after the
// request that wanted it has been cancelled, and keeps the connection for the next one.
type conns struct {
	dial dialFunc
	over chan struct{} // closed by closeAll

	mu   sync.Mutex // guards what follows
	open map[*tracked]struct{}
}

func newConns(dial dialFunc) *conns {
	if dial == nil {
		dial = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	return &conns{dial: dial, over: make(chan struct{}), open: map[*tracked]struct{}{}}
}

// DialContext dials.
func (c *conns) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-c.over:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer func() {
		cancel()
		<-ended
	}()
	conn, err := c.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	t := &tracked{Conn: conn, conns: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		_ = conn.Close() // came too late, nobody has it
		return nil, net.ErrClosed
	}
	c.open[t] = struct{}{}
	return t, nil
}

// closeAll ends all connections. There will be no more.
func (c *conns) closeAll() {
	close(c.over)
	c.mu.Lock()
	open := c.open
	c.open = nil
	c.mu.Unlock()
	for t := range open {
		_ = t.Conn.Close() // nothing is in flight any more
	}
}

type tracked struct {
	net.Conn
	conns *conns
}

// Close closes the connection and forgets it.
func (t *tracked) Close() error {
	t.conns.mu.Lock()
	delete(t.conns.open, t)
	t.conns.mu.Unlock()
	return t.Conn.Close()
}
