package breaker

import "time"

// Snapshot is a breaker at one instant, for pages and gauges.
type Snapshot struct {
	State      State
	Since      time.Time // when State began
	Reason     string    // why, one of the Reason constants; "" for a breaker that never changed
	OpenUntil  time.Time // end of the open time; zero unless State is Open
	Generation uint64    // counts changes of state and resets, from 1

	Calls       int64 // ended within the window; 0 unless closed
	Failures    int64 // of these, failed
	Slow        int64 // of these, slow
	Consecutive int64 // failures since the last success; 0 unless closed

	Trips uint64 // how often it opened since it was made, reopening included, force not

	ProbesInFlight int // slots taken; 0 unless half-open
	Successes      int // of probes; 0 unless half-open
}

// State returns the present state. An open breaker whose open time is over stays Open until somebody asks
// for admission.
func (b *Breaker) State() State { return b.cur.Load().state }

// RetryAfter returns what is left of the open time at now: 0 unless the breaker is Open, and 0 when a probe
// would be let through.
func (b *Breaker) RetryAfter(now time.Time) time.Duration {
	g := b.cur.Load()
	if g.state != Open {
		return 0
	}
	return max(g.until.Sub(now), 0)
}

// Snapshot returns what the breaker knows. It takes a lock that failures take too, so it is for every
// second, not for every call.
func (b *Breaker) Snapshot() Snapshot {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.cur.Load()
	s := Snapshot{
		State:          g.state,
		Since:          g.since,
		Reason:         g.reason,
		OpenUntil:      g.until,
		Generation:     g.number,
		Trips:          b.trips,
		ProbesInFlight: len(g.probes),
		Successes:      g.successes,
	}
	if w := g.win.Load(); w != nil {
		s.Calls, s.Failures, s.Slow = tally(w.Sum(now))
		s.Consecutive = g.run.Load()
	}
	return s
}
