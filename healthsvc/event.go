package healthsvc

import "time"

// Observer is told what happens. Events come one after the other, in their order, on a goroutine of their own:
// an observer that blocks holds up no check and no answer, but while it does, the events beyond 1,024 that
// wait are lost and counted ([Snapshot].LostEvents). It must not keep or change an event's slices.
//
// An observer that also has a method Attach(func() Snapshot) is given the snapshot function by [New], for what
// is better read than told.
type Observer interface{ Observe(Event) }

// ObserverFunc makes an observer of a function.
type ObserverFunc func(Event)

// Observe calls the function.
func (f ObserverFunc) Observe(e Event) { f(e) }

// Event is one of the event types of this package, always as a pointer: [*CheckEnded], [*CheckChanged],
// [*ServingChanged], [*PhaseChanged], [*WatchdogChanged], [*WatchRefused]. An observer switches over those it
// knows and ignores the rest, so a new type breaks nobody.
type Event interface{ event() }

// CheckEnded tells that a probe has ended, good or bad.
type CheckEnded struct {
	Check   string
	Class   Class
	Err     error // nil: good
	Latency time.Duration
	At      time.Time
}

// CheckChanged tells that a check has changed its state.
type CheckChanged struct {
	Check    string
	Class    Class
	From, To State
	Err      error // of the last probe; nil if it was good
	At       time.Time
}

// ServingChanged tells which names serve from now on, and which no longer do. One change of a check is one
// event, however many services need it.
type ServingChanged struct {
	Serving    []string // names that serve now, sorted
	NotServing []string // names that no longer do, sorted
	Reason     string   // what happened: "check database is down", "draining"
	At         time.Time
}

// PhaseChanged tells how far the life of the server is.
type PhaseChanged struct {
	From, To Phase
	At       time.Time
}

// WatchdogChanged tells that a watchdog was not fed in time, or is fed again.
type WatchdogChanged struct {
	Watchdog string
	Stalled  bool
	Limit    time.Duration
	At       time.Time
}

// WatchRefused tells that Watches were refused because a bound was reached, once a second at most.
type WatchRefused struct {
	Reason string // of the one that it tells of
	Total  uint64 // refused since the beginning
	At     time.Time
}

func (*CheckEnded) event()      {}
func (*CheckChanged) event()    {}
func (*ServingChanged) event()  {}
func (*PhaseChanged) event()    {}
func (*WatchdogChanged) event() {}
func (*WatchRefused) event()    {}
