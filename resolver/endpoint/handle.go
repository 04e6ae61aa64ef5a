package endpoint

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Handle is what a channel lends to the balancing policies it runs, one after another: a place for what
// belongs to the channel and must outlive them, such as what was learned of its endpoints. gRPC builds a new
// policy after idle mode and when the policy's name changes; the handle stays.
//
// It travels in the attributes of the resolver's state, under [HandleKey]. Without one, a policy keeps what it
// learns for itself. The methods of nil keep nothing and know nothing.
type Handle struct {
	channel string
	notify  func(Change)

	mu   sync.Mutex // guards kept
	kept map[any]any
}

// HandleKey is the key of the *Handle in the attributes of a resolver's state.
type HandleKey struct{}

// NewHandle makes the handle of a channel. notify, if not nil, is told what policies decide about endpoints; it
// is called without any lock held and must be safe for concurrent use.
func NewHandle(channel string, notify func(Change)) *Handle {
	return &Handle{channel: channel, notify: notify}
}

// Channel returns the name of the channel.
func (h *Handle) Channel() string {
	if h == nil {
		return ""
	}
	return h.channel
}

// Keep returns what is kept under key, and keeps what build makes if there is nothing yet. build is called
// with the handle locked, and must not use it.
func (h *Handle) Keep(key any, build func() any) any {
	if h == nil {
		return build()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if v, ok := h.kept[key]; ok {
		return v
	}
	if h.kept == nil {
		h.kept = make(map[any]any)
	}
	v := build()
	h.kept[key] = v
	return v
}

// Notify tells the channel what a policy has decided about an endpoint.
func (h *Handle) Notify(c Change) {
	if h != nil && h.notify != nil {
		h.notify(c)
	}
}

// Endpoints returns the state of the channel's endpoints, by name, as those policies tell it that keep
// something with a method Endpoints. None: no policy of ours is in use.
func (h *Handle) Endpoints() []Snapshot {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	kept := make([]any, 0, len(h.kept))
	for _, v := range h.kept {
		kept = append(kept, v)
	}
	h.mu.Unlock()
	var out []Snapshot
	for _, v := range kept {
		if s, ok := v.(interface{ Endpoints() []Snapshot }); ok {
			out = append(out, s.Endpoints()...)
		}
	}
	slices.SortFunc(out, func(a, b Snapshot) int { return cmp.Compare(a.Endpoint, b.Endpoint) })
	return out
}

// Snapshot is the state of one endpoint at one moment.
type Snapshot struct {
	Endpoint  string        // its first address, as attempts name it
	Zone      string        // as the resolver says; "": unknown
	Priority  int           // as the resolver says; 0 is the first choice
	State     string        // of its connection: idle, connecting, ready, transient_failure
	Weight    float64       // as the resolver says; 1 if it says nothing
	Effective float64       // after load reports and slow start; 0: it gets no calls
	InFlight  int           // attempts under way
	Latency   time.Duration // peak-EWMA; 0: not known
	Picks     uint64        // attempts sent there since it was first seen
	Failures  uint64        // those that failed
	Success   float64       // share of successes in the window, 1 without any attempt
	Calls     int           // attempts that ended within the window
	Ejected   bool          // out for what its attempts came to
	Unchecked bool          // out for what active checks say
	Reason    string        // why, if it is out
	Until     time.Time     // when an ejection ends
	Ejections int           // how often in a row; a good time without one forgets them
}

// Change is a policy's decision about an endpoint.
type Change struct {
	Endpoint string
	At       time.Time
	Out      bool          // it was taken out; false: it is back
	Reason   string        // why
	For      time.Duration // how long it stays out at least; 0: until it is found well
	Observed bool          // the policy only observes: nothing was done
}
