package breaker

import "time"

// State is what a breaker does with a call.
type State uint8

// The states of a breaker.
const (
	Closed       State = iota // admits all calls and counts their results
	Open                      // refuses all calls until the open time is over
	HalfOpen                  // admits a few probes
	ForcedOpen                // refuses all calls until Reset or ForceClosed
	ForcedClosed              // admits all calls and counts nothing until Reset or ForceOpen
)

var stateNames = [...]string{"closed", "open", "half-open", "forced-open", "forced-closed"}

// String returns closed, open, half-open, forced-open or forced-closed.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// Why a breaker changed its state. The set is closed, so that a reason may serve as a label.
const (
	ReasonConsecutive = "consecutive failures" // closed to open
	ReasonFailures    = "failure ratio"        // closed to open
	ReasonSlow        = "slow ratio"           // closed to open
	ReasonOpenOver    = "open time over"       // open to half-open
	ReasonProbeFailed = "probe failed"         // half-open to open
	ReasonProbeSlow   = "probe slow"           // half-open to open
	ReasonRecovered   = "probes succeeded"     // half-open to closed
	ReasonForced      = "forced"               // by ForceOpen or ForceClosed
	ReasonReset       = "reset"                // by Reset
)

// Change tells that a breaker has changed its state.
type Change struct {
	From, To   State
	Reason     string        // one of the Reason constants
	At         time.Time     // when
	OpenFor    time.Duration // how long it will refuse everything, if To is Open; else 0
	Generation uint64        // the number of the generation that began
}

// notify delivers the changes that wait. One goroutine delivers at a time, so that changes arrive in order;
// whoever comes in the meantime, the callback itself included, leaves its change to that one. Never called
// with mu held.
func (b *Breaker) notify() {
	if b.onChange == nil {
		return
	}
	b.mu.Lock()
	if b.delivering || len(b.changes) == 0 {
		b.mu.Unlock()
		return
	}
	b.delivering = true
	b.mu.Unlock()
	b.deliver()
}

// deliver empties the queue. A callback that panics or calls Goexit unwinds its goroutine, but what still
// waits is delivered on the way: nobody else would come for it.
func (b *Breaker) deliver() {
	empty := false
	defer func() {
		if !empty {
			b.deliver()
		}
	}()
	for {
		c, ok := b.nextChange()
		if !ok {
			empty = true
			return
		}
		b.onChange(c)
	}
}

func (b *Breaker) nextChange() (Change, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.changes) == 0 {
		b.delivering = false
		b.changes = nil
		return Change{}, false
	}
	c := b.changes[0]
	b.changes = b.changes[1:]
	return c, true
}
