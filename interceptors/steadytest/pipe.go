package steadytest

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// pipeBuffer is how many bytes one direction of a connection holds before its writer waits, as the socket
// buffers of a TCP connection do. It is more than gRPC's initial window, so flow control acts first.
const pipeBuffer = 256 << 10

// stream is one direction of a connection. net.Pipe would do, but its writer waits for its reader, and it
// cannot hold bytes back, so a black hole would stop the sender at its first byte.
type stream struct {
	mu      sync.Mutex
	data    []byte
	eof     bool          // the writer closed: what is left is read, then io.EOF
	gone    bool          // the reader closed: writing is pointless
	held    bool          // black hole: nothing that happened on the other side is seen on this one
	broken  error         // connection reset: at once, for both sides
	changed chan struct{} // closed when any of the above changes; nil while nobody waits
}

// update changes the stream and wakes whoever waits on it.
func (s *stream) update(change func(*stream)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
	s.wake()
}

// wake needs mu.
func (s *stream) wake() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// waiter needs mu.
func (s *stream) waiter() <-chan struct{} {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// read takes bytes without waiting. A nil error and wait != nil say: nothing yet.
func (s *stream) read(p []byte) (n int, wait <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.broken != nil:
		return 0, nil, s.broken
	case len(p) == 0:
		return 0, nil, nil
	case s.held || len(s.data) == 0 && !s.eof:
		return 0, s.waiter(), nil
	case len(s.data) == 0:
		return 0, nil, io.EOF
	}
	n = copy(p, s.data)
	if rest := copy(s.data, s.data[n:]); rest == 0 && cap(s.data) > pipeBuffer/4 {
		s.data = nil // a burst is over; an idle connection keeps no buffer of its size
	} else {
		s.data = s.data[:rest]
	}
	s.wake()
	return n, nil, nil
}

// write gives bytes without waiting. n < len(p) with a nil error and wait != nil says: full.
func (s *stream) write(p []byte) (n int, wait <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.broken != nil:
		return 0, nil, s.broken
	case s.gone && !s.held:
		return 0, nil, syscall.EPIPE
	}
	if n = min(len(p), pipeBuffer-len(s.data)); n > 0 {
		s.data = append(s.data, p[:n]...)
		s.wake()
	}
	if n < len(p) {
		wait = s.waiter()
	}
	return n, wait, nil
}

// deadline is a moment after which an operation gives up. Its channel changes with each set, so an
// operation under way is woken to look again.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	over  chan struct{} // nil: no deadline
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.over = nil; t.IsZero() {
		return
	}
	over := make(chan struct{})
	d.over = over
	if left := time.Until(t); left > 0 {
		d.timer = time.AfterFunc(left, func() { close(over) })
	} else {
		close(over)
	}
}

func (d *deadline) channel() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.over
}

// Addr is the name of one end of a connection.
type Addr string

// Network returns "mem".
func (Addr) Network() string { return "mem" }

// String returns the name itself.
func (a Addr) String() string { return string(a) }

// pipeConn is one end of a connection.
type pipeConn struct {
	in, out         *stream
	local, remote   Addr
	readBy, writeBy deadline
	writing         chan struct{} // holds one token while a Write is under way, so that two do not interleave
	closed          chan struct{}
	closeOnce       sync.Once
	onClose         func()
}

// newPipe returns the two ends of a connection. onClose is called once, when both are closed.
func newPipe(client, server Addr, onClose func()) (c, s *pipeConn) {
	there, back := &stream{}, &stream{}
	var closed atomic.Int32
	end := func() {
		if closed.Add(1) == 2 {
			onClose()
		}
	}
	newConn := func(in, out *stream, local, remote Addr) *pipeConn {
		return &pipeConn{
			in: in, out: out, local: local, remote: remote, onClose: end,
			writing: make(chan struct{}, 1), closed: make(chan struct{}),
		}
	}
	return newConn(back, there, client, server), newConn(there, back, server, client)
}

func (c *pipeConn) LocalAddr() net.Addr  { return c.local }
func (c *pipeConn) RemoteAddr() net.Addr { return c.remote }

func (c *pipeConn) Read(p []byte) (int, error) {
	for {
		over := c.readBy.channel()
		if err := c.check(over); err != nil {
			return 0, c.wrap("read", err)
		}
		n, wait, err := c.in.read(p)
		if wait == nil {
			return n, c.wrap("read", err)
		}
		select {
		case <-wait:
		case <-over:
		case <-c.closed:
		}
	}
}

func (c *pipeConn) Write(p []byte) (total int, err error) {
	select {
	case c.writing <- struct{}{}:
		defer func() { <-c.writing }()
	case <-c.closed:
		return 0, c.wrap("write", net.ErrClosed)
	}
	for {
		over := c.writeBy.channel()
		if err := c.check(over); err != nil {
			return total, c.wrap("write", err)
		}
		n, wait, err := c.out.write(p[total:])
		if total += n; wait == nil {
			return total, c.wrap("write", err)
		}
		select {
		case <-wait:
		case <-over:
		case <-c.closed:
		}
	}
}

// check says why an operation may not go on: this end is closed or its deadline is over.
func (c *pipeConn) check(over <-chan struct{}) error {
	select {
	case <-c.closed:
		return net.ErrClosed
	default:
	}
	select {
	case <-over:
		return os.ErrDeadlineExceeded
	default:
		return nil
	}
}

// wrap gives an error the form that errors of real connections have. io.EOF stays bare, as there.
func (c *pipeConn) wrap(op string, err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // it must be bare
		return err
	}
	return &net.OpError{Op: op, Net: c.local.Network(), Source: c.local, Addr: c.remote, Err: err}
}

// Close ends this side in an orderly way: the peer reads what was written, then io.EOF.
func (c *pipeConn) Close() error {
	err := c.wrap("close", net.ErrClosed)
	c.closeOnce.Do(func() {
		err = nil
		close(c.closed)
		c.readBy.set(time.Time{})
		c.writeBy.set(time.Time{})
		c.out.update(func(s *stream) { s.eof = true })
		c.in.update(func(s *stream) { s.gone, s.data = true, nil })
		c.onClose()
	})
	return err
}

// reset breaks the connection for both ends, losing what was under way.
func (c *pipeConn) reset() {
	for _, s := range []*stream{c.in, c.out} {
		s.update(func(s *stream) { s.broken, s.data = os.NewSyscallError("read", syscall.ECONNRESET), nil })
	}
}

// hold starts or ends a black hole between the two ends. What was sent meanwhile arrives afterwards, as TCP
// sends it again; the ends of a connection learn nothing of each other until then.
func (c *pipeConn) hold(held bool) {
	for _, s := range []*stream{c.in, c.out} {
		s.update(func(s *stream) { s.held = held })
	}
}

func (c *pipeConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *pipeConn) SetReadDeadline(t time.Time) error  { return c.setDeadline(&c.readBy, c.in, t) }
func (c *pipeConn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.writeBy, c.out, t) }

func (c *pipeConn) setDeadline(d *deadline, s *stream, t time.Time) error {
	if err := c.check(nil); err != nil {
		return c.wrap("set", err)
	}
	d.set(t)
	s.update(func(*stream) {}) // an operation under way looks again
	return nil
}
