package breaker

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/grpcsteady/steady/balancer/window"
)

// generation is one stay in one state, with all that is remembered in it. A token points to the generation
// that admitted it, and a new generation starts with a memory of its own: a late result, however it races
// with the change, can write only into a memory that nobody reads any more.
type generation struct {
	// Set before the generation is published, constant afterwards.
	b       *Breaker
	state   State
	number  uint64
	since   time.Time
	reason  string
	openFor time.Duration // Open: how long; HalfOpen: how long it was, which is what a probe may take
	until   time.Time     // Open: end of the open time

	// Closed. Successes write here without a lock.
	win atomic.Pointer[window.Window]
	run atomic.Int64 // failures since the last success

	// Closed, guarded by Breaker.mu: only failures get there.
	first string // source of the first failure of the run
	broad bool   // the run comes from more than one endpoint, or counts as if
	from  sources

	// HalfOpen, guarded by Breaker.mu.
	probes    []*probe // hold a slot; in order of admission
	successes int

	// full is the offset (see Breaker.offset) before which no slot gets free by time, 0 if one is free. It
	// lets callers that come while all probes are under way be refused without the lock.
	full atomic.Int64
}

// probe is the ticket of one call admitted while half-open. Guarded by Breaker.mu.
type probe struct {
	due   time.Time // when the slot is given to somebody else, though the probe has not ended
	ended bool
}

// Kinds of results in the window: bit 0 for failure, bit 1 for slow.
const (
	kindFailure = 1
	kindSlow    = 2
)

// tally reads the window.
func tally(s window.Sums) (calls, failures, slow int64) {
	return s.Total(), s[kindFailure] + s[kindFailure|kindSlow], s[kindSlow] + s[kindFailure|kindSlow]
}

// succeed ends the run of failures. The load spares the common case the write to a line that all cores read.
func (g *generation) succeed() {
	if g.run.Load() != 0 {
		g.run.Store(0)
	}
}

// failed counts one failure into the run and returns its length. Called with mu held. A success may end the
// run at any moment; it then counts as having ended just after.
func (g *generation) failed(o *Outcome) int64 {
	n := g.run.Add(1)
	if n == 1 {
		g.first, g.broad = o.Source, false
	}
	if o.Source == "" || o.Everywhere || o.Sources == 1 || o.Source != g.first {
		g.broad = true
	}
	return n
}

// admit gives a slot to a probe, or returns nil when all are taken. Called with mu held. All probes of a
// generation have the same time, so the oldest is the first one due.
func (g *generation) admit(now time.Time, slots int) *probe {
	for len(g.probes) > 0 && !now.Before(g.probes[0].due) {
		g.probes = slices.Delete(g.probes, 0, 1)
	}
	var p *probe
	if len(g.probes) < slots {
		p = &probe{due: now.Add(g.openFor)}
		g.probes = append(g.probes, p)
	}
	g.refull(slots)
	return p
}

// release takes the probe's slot back, if it still has it, and reports whether the probe ends only now.
// Called with mu held.
func (g *generation) release(p *probe, slots int) bool {
	if p.ended {
		return false
	}
	p.ended = true
	if i := slices.Index(g.probes, p); i >= 0 {
		g.probes = slices.Delete(g.probes, i, i+1)
		g.refull(slots)
	}
	return true
}

// refull keeps full up to date. Called with mu held.
func (g *generation) refull(slots int) {
	var full int64
	if len(g.probes) >= slots {
		full = g.b.offset(g.probes[0].due)
	}
	g.full.Store(full)
}
