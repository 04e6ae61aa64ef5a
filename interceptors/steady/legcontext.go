package steady

import (
	"context"
	"slices"
	"sync"
)

// legContext is the context of one leg of a stream: the attempt's, which can be ended for this leg alone, with
// the error that says why. A leg that had its time ends as at a deadline for everybody below, so that the
// balancer and stats handlers learn what it was; a cancel of the standard library's would tell them that the
// caller went away.
type legContext struct {
	*wire // the attempt's own: deadline and values

	done chan struct{}
	stop func() bool // ends the watch over the attempt's own context

	mu     sync.Mutex // guards what follows
	err    error
	after  []afterCancel
	number int
}

type afterCancel struct {
	id int
	f  func()
}

func newLegContext(w *wire) *legContext {
	c := &legContext{wire: w, done: make(chan struct{})}
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

// AfterFunc is what package context looks for in a parent that is not its own, so that contexts derived from this
// one need no goroutine and get its error. Functions must be short: they run where the leg is ended.
func (c *legContext) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	c.number++
	id := c.number
	c.after = append(c.after, afterCancel{id, f})
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		before := len(c.after)
		c.after = slices.DeleteFunc(c.after, func(a afterCancel) bool { return a.id == id })
		return len(c.after) < before
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
	c.stop()
	for _, a := range after {
		a.f()
	}
}
