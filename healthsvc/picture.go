package healthsvc

import (
	"maps"
	"slices"
	"time"
)

// picture is everything that is answered, at one instant. It is immutable, and so are its parts.
type picture struct {
	phase  Phase
	since  time.Time // of the phase
	names  map[string]*node
	checks []checkState
	dogs   []dogState // sorted by name
	ready  []int
	added  chan struct{} // closed when a name was added: Watches of unknown names look again
}

// node is what is known of a name. One that answers the same in the next picture stays, so that its watchers
// are not woken.
type node struct {
	name    string // the map's own, so that a Watch keeps no request
	status  Status
	since   time.Time
	from    *service // to see whether it is another one
	forced  *Status
	follows bool
	adopted bool
	deps    []int
	changed chan struct{}
}

type dogState struct {
	name    string
	stalled bool
	since   time.Time
}

// publish makes the next picture out of what mu guards, puts it in place, and then wakes the Watches of the
// names that changed: each of them once, however many changes it sleeps through. It needs mu.
func (h *Health) publish(reason string, now time.Time) {
	before := h.pic.Load()
	if h.started && !h.settled {
		h.settled = !slices.ContainsFunc(h.ready, func(i int) bool { return h.states[i].state == Starting })
	}
	if h.settled && h.phase == PhaseStarting {
		h.setPhase(PhaseServing, now)
	}
	next := &picture{
		phase: h.phase, since: h.since, checks: slices.Clone(h.states), ready: h.ready, added: before.added,
		names: make(map[string]*node, len(h.services)),
	}
	for _, name := range slices.Sorted(maps.Keys(h.dogs)) {
		next.dogs = append(next.dogs, h.dogs[name].dogState)
	}
	var wake []chan struct{}
	e := &ServingChanged{Reason: reason, At: now}
	for name, s := range h.services {
		status, old := h.status(name, s), before.names[name]
		if old != nil && old.status == status && old.from == s && old.forced == s.forced {
			next.names[name] = old
			continue
		}
		n := &node{name: name, status: status, since: now, from: s, forced: s.forced, follows: s.follows, adopted: s.adopted, deps: s.deps}
		next.names[name] = n
		if old != nil && old.status == status {
			n.since, n.changed = old.since, old.changed
			continue
		}
		n.changed = make(chan struct{})
		switch {
		case old != nil:
			wake = append(wake, old.changed)
		case next.added == before.added:
			next.added = make(chan struct{})
			wake = append(wake, before.added)
		}
		if status == Serving {
			e.Serving = append(e.Serving, name)
		} else if old != nil {
			e.NotServing = append(e.NotServing, name)
		}
	}
	for name, old := range before.names {
		if next.names[name] == nil {
			wake = append(wake, old.changed)
			if old.status == Serving {
				e.NotServing = append(e.NotServing, name)
			}
		}
	}
	h.pic.Store(next)
	for _, c := range wake {
		close(c)
	}
	if len(e.Serving)+len(e.NotServing) > 0 {
		slices.Sort(e.Serving)
		slices.Sort(e.NotServing)
		h.notices.tell(e)
	}
}

// status is the law of every name. It needs mu.
func (h *Health) status(name string, s *service) Status {
	switch name {
	case Liveness:
		// What a restart mends, and nothing else: not a dependency, not a drain.
		for _, w := range h.dogs {
			if w.stalled {
				return NotServing
			}
		}
		return Status(h.phase != PhaseStopped)
	case Startup:
		// A drain does not undo a start.
		return Status(h.settled && h.phase != PhaseStopped)
	}
	switch {
	case !h.started || h.phase >= PhaseSuspended:
		return NotServing
	case s.forced != nil:
		return *s.forced
	case s.follows && name != Readiness:
		return h.status(Readiness, h.services[Readiness])
	case s.follows:
		return h.up(h.ready)
	}
	return h.up(s.deps)
}

func (h *Health) up(deps []int) Status {
	return Status(!slices.ContainsFunc(deps, func(i int) bool { return h.states[i].state != Up }))
}

// setPhase needs mu.
func (h *Health) setPhase(p Phase, now time.Time) {
	if p != h.phase {
		h.notices.tell(&PhaseChanged{From: h.phase, To: p, At: now})
		h.phase, h.since = p, now
	}
}

// enter is the change of a phase that others see. It needs mu.
func (h *Health) enter(p Phase, now time.Time) {
	if h.phase == PhaseStopped {
		return
	}
	h.setPhase(p, now)
	h.publish(p.String(), now)
	if p < PhaseStopping {
		return
	}
	select {
	case <-h.ended:
	default:
		close(h.ended)
	}
}
