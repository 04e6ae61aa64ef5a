package healthsvc

import (
	"maps"
	"slices"
	"time"
)

// Snapshot is the state of a health service at an instant.
type Snapshot struct {
	Phase Phase
	Since time.Time // of the phase

	Names     []NameSnapshot     // sorted by name; the first is ""
	Checks    []CheckSnapshot    // in the order of the options
	Watchdogs []WatchdogSnapshot // sorted by name

	Watches        int    // open now
	UnknownWatches int    // of them, for names that do not exist
	RefusedWatches uint64 // since the beginning
	LostEvents     uint64 // that observers were too slow for
}

// NameSnapshot is what is answered for a name.
type NameSnapshot struct {
	Name    string
	Status  Status
	Since   time.Time
	Forced  bool
	Follows bool     // readiness decides
	Checks  []string // that it needs; those of readiness if it follows
}

// CheckSnapshot is what is known of a dependency.
type CheckSnapshot struct {
	Name  string
	Class Class
	State State
	Since time.Time // of the state

	// Of the newest probe; zero before the first.
	At      time.Time
	Latency time.Duration
	Err     error
	InARow  int // probes that ended alike, this one included

	Probes, Failures uint64 // since the start
}

// WatchdogSnapshot is what is known of a watchdog.
type WatchdogSnapshot struct {
	Name    string
	Stalled bool
	Since   time.Time
}

// Snapshot returns the state now. It takes no lock that a check waits for.
func (h *Health) Snapshot() Snapshot {
	p := h.pic.Load()
	s := Snapshot{
		Phase: p.phase, Since: p.since, Watches: int(h.watches.Load()), UnknownWatches: int(h.unknown.Load()),
		RefusedWatches: h.refused.Load(), LostEvents: h.notices.lostEvents(),
	}
	for _, name := range slices.Sorted(maps.Keys(p.names)) {
		n := p.names[name]
		s.Names = append(s.Names, NameSnapshot{
			Name: name, Status: n.status, Since: n.since, Forced: n.forced != nil, Follows: n.follows, Checks: h.needs(p, n),
		})
	}
	for _, c := range h.checks {
		s.Checks = append(s.Checks, h.checkSnapshot(p, c.index))
	}
	for _, d := range p.dogs {
		s.Watchdogs = append(s.Watchdogs, WatchdogSnapshot{Name: d.name, Stalled: d.stalled, Since: d.since})
	}
	return s
}

func (h *Health) needs(p *picture, n *node) (names []string) {
	deps := n.deps
	switch {
	case n.name == Liveness:
		return nil
	case n.follows:
		deps = p.ready
	}
	for _, i := range deps {
		names = append(names, h.checks[i].name)
	}
	return names
}

func (h *Health) checkSnapshot(p *picture, i int) CheckSnapshot {
	c := h.checks[i]
	s := CheckSnapshot{Name: c.name, Class: c.class, State: p.checks[i].state, Since: p.checks[i].since}
	if r := c.last.Load(); r != nil {
		s.At, s.Latency, s.Err, s.InARow, s.Probes, s.Failures = r.at, r.latency, r.err, r.inARow, r.probes, r.failures
	}
	return s
}
