package healthsvc

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// check is a dependency that is probed by one goroutine.
type check struct {
	checkConfig
	index int
	last  atomic.Pointer[result] // of the newest probe; nil before the first
}

// result is how a probe ended, and what came before it. It is immutable.
type result struct {
	at       time.Time
	latency  time.Duration
	err      error
	probes   uint64 // since the start
	failures uint64 // of them
	inARow   int    // probes that ended as this one did
}

// run probes until ctx ends. It is the only goroutine of the check, beside the probe that is under way.
func (h *Health) run(ctx context.Context, c *check) {
	m := newMachine(c.rise, c.fall, c.grace, time.Now())
	timer := time.NewTimer(0) // the first probe at once: everybody waits for it
	defer timer.Stop()
	var p *probe
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		var r *result
		if p, r = c.probe(ctx, p); r == nil {
			return
		}
		changed := m.record(r.at, r.err == nil)
		c.last.Store(r)
		h.notices.tell(&CheckEnded{Check: c.name, Class: c.class, Err: r.err, Latency: r.latency, At: r.at})
		if changed {
			h.checkChanged(c, m.state, r)
		}
		timer.Reset(c.rest(m.doubt, h.cfg.random()))
	}
}

// probe makes one probe and says how it ended; nil means that ctx has ended. A probe before that has not ended
// yet counts as failed once more, and no other one is begun beside it.
func (c *check) probe(ctx context.Context, before *probe) (*probe, *result) {
	if before != nil && !before.ended() {
		now := time.Now()
		hung := now.Sub(before.began)
		return before, c.result(now, hung, fmt.Errorf("%w: the probe before is still under way after %v", ErrTimeout, hung))
	}
	within, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	limit := time.NewTimer(c.timeout)
	defer limit.Stop()
	p := start(within, c.checker)
	select {
	case <-p.done:
	case <-limit.C:
	case <-ctx.Done():
		// Its context has ended too: whoever minds contexts is waited for.
		select {
		case <-p.done:
		case <-limit.C:
		}
		return p, nil
	}
	now := time.Now()
	took := now.Sub(p.began)
	// Both may have happened at once; the limit decides, so that late is late.
	if took >= c.timeout || !p.ended() {
		return p, c.result(now, took, fmt.Errorf("%w: none within %v", ErrTimeout, c.timeout))
	}
	return p, c.result(now, took, p.err)
}

func (c *check) result(now time.Time, took time.Duration, err error) *result {
	r := &result{at: now, latency: took, err: err, probes: 1, inARow: 1}
	if before := c.last.Load(); before != nil {
		r.probes, r.failures = before.probes+1, before.failures
		if (before.err == nil) == (err == nil) {
			r.inARow = before.inARow + 1
		}
	}
	if err != nil {
		r.failures++
	}
	return r
}
