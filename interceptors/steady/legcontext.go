package steady

import (
	"context"
	"sync"
)

// legContext ends the context of one leg of a stream, with the error that says why. A leg that had its time ends as
// at a deadline for everybody below, so that the balancer and stats handlers learn what it was; a cancel of the
// standard library's would tell them that the caller went away. It stands between the attempt's context and one of
// the standard library's, which takes its end and its error over and is what gRPC gets: what is derived from that
// needs no goroutine.
type legContext struct {
	*wire // the attempt's own: deadline and values

	given   context.Context // gRPC's
	release context.CancelFunc
	stop    func() bool // ends the watch over the attempt's own context
	done    chan struct{}

	mu    sync.Mutex // guards what follows
	err   error
	after func() // ends given
}

func newLegContext(w *wire) *legContext {
	c := &legContext{wire: w, done: make(chan struct{})}
	c.given, c.release = context.WithCancel(c)
	c.mu.Lock() // w may have ended already, and then cancel wants to know what to stop
	defer c.mu.Unlock()
	c.stop = context.AfterFunc(w, func() { c.cancel(w.Err()) })
	return c
}

// Done is closed when the leg has ended.
func (c *legContext) Done() <-chan struct{} { return c.done }

// Err returns why.
func (c *legContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// AfterFunc is what package context looks for in a parent that is not its own. There is one child, made with it.
func (c *legContext) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.after = f
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		was := c.after != nil
		c.after = nil
		return was
	}
}

// cancel ends the leg, once.
func (c *legContext) cancel(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	after := c.after
	c.after = nil
	close(c.done)
	c.mu.Unlock()
	if after != nil {
		after()
	}
	c.release()
	c.stop()
}
