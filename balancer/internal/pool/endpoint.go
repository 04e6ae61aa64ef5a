package pool

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/balancer/attempt"
	"github.com/grpcsteady/steady/balancer/window"
	"github.com/grpcsteady/steady/resolver/endpoint"
)

// Endpoint is one endpoint of a channel and what was learned of it. What picks touch is atomic; the rest is
// guarded by the pool.
type Endpoint struct {
	// What every pick reads comes first and lies together. In flight is the difference of picks and ends, so that
	// counting it costs nothing more.
	picks   atomic.Uint64
	ends    atomic.Uint64
	trouble decaying // share of failures among the last few, 0 to 1
	latency decaying // ns; 0: not known

	pool    *Pool
	window  atomic.Pointer[window.Window] // kinds success and failure
	row     atomic.Int32                  // failures in a row
	name    string
	learner attempt.Learner         // itself, behind an address that does not change
	plain   func(balancer.DoneInfo) // endPlain, bound once
	key     string

	failures atomic.Uint64
	judged   atomic.Int64 // when its success ratio was last looked at
	report   atomic.Pointer[report]

	// Guarded by pool.mu.
	index     int     // in pool.list
	weight    float64 // the resolver's
	zone      string
	priority  int
	listed    bool
	ready     bool
	state     string
	everReady bool
	since     int64 // when it became ready
	left      int64 // when it was last ready
	warmFrom  int64 // when slow start began
	until     int64 // when its ejection ends; 0: it is in
	would     bool  // that ejection is only observed
	returned  int64 // when its last ejection ended
	ejections int   // in a row
	reason    string
	counted   window.Sums // its part of pool.totals
	ill       bool        // active checks say so
}

const (
	kindSuccess = 0
	kindFailure = 1
	windowSlots = 10
)

// Name returns the endpoint's name: its first address when it was first seen.
func (e *Endpoint) Name() string { return e.name }

// InFlight returns how many calls are under way.
func (e *Endpoint) InFlight() int64 {
	ends := e.ends.Load()               // first, so that the difference is never negative
	return int64(e.picks.Load() - ends) //nolint:gosec // far below 2^63
}

// exactInFlight is InFlight for people, who would wonder: between the two reads of InFlight calls may begin.
func (e *Endpoint) exactInFlight() int64 {
	for range 8 {
		picks := e.picks.Load()
		ends := e.ends.Load()
		if e.picks.Load() == picks {
			return int64(picks - ends) //nolint:gosec // far below 2^63
		}
	}
	return e.InFlight() // a busy one: what is one more or less
}

// keyOf returns what makes an endpoint the same: its addresses, in whatever order. It is what gRPC's own
// EndpointMap goes by.
func keyOf(e resolver.Endpoint) string {
	switch len(e.Addresses) {
	case 0:
		return ""
	case 1:
		return e.Addresses[0].Addr
	default:
		return endpoint.Key(e)
	}
}

// Load returns what the endpoint has to do, for comparison: the calls in flight with one more, times the
// trouble it has had lately.
func (e *Endpoint) Load() float64 {
	load := float64(e.InFlight() + 1)
	if e.trouble.bits.Load() != 0 {
		// Below the cost of one call it is forgotten: where all others are idle, the least cost is the least chance,
		// and an endpoint without calls can not show that it is well again.
		if cost := troubleCost * e.trouble.at(e.pool.now(), troubleDecay); cost >= 1 {
			load *= 1 + cost
		}
	}
	return load
}

// Cost is Load times latency. An endpoint whose latency nobody knows gets one call to find out, and no second
// one meanwhile.
func (e *Endpoint) Cost(now int64, l Latency) float64 {
	load := float64(e.InFlight() + 1)
	cost := e.latency.at(now, l.Decay)
	if cost == 0 {
		if load > 1 {
			return float64(l.Penalty) * load
		}
		return 0
	}
	return cost * load
}

// A failure weighs as if the endpoint had more to do: with every call failing, troubleCost times as much. One
// failure among many successes is soon forgotten, by the successes and by time.
const (
	troubleCost   = 100
	troubleShare  = 0.1
	pushbackShare = 0.5 // of a server that says so itself
	troubleDecay  = 10 * time.Second
	maxPushback   = 300 * time.Second
)

// Learn is told by the driver how an attempt ended. It implements [attempt.Learner].
func (e *Endpoint) Learn(o attempt.Outcome) {
	now := int64(o.At.Sub(e.pool.epoch))
	if o.At.IsZero() { // nobody else wanted to know when it ended
		now = e.pool.now()
	}
	switch o.Result {
	case attempt.Success:
		e.succeeded(now)
	case attempt.Failure, attempt.Suspect:
		e.failed(now, o.Pushback, o.Result == attempt.Failure)
	case attempt.Nothing:
	}
}

func (e *Endpoint) succeeded(now int64) {
	if e.row.Load() != 0 {
		e.row.Store(0)
	}
	if w := e.window.Load(); w != nil {
		w.Add(e.pool.at(now), kindSuccess)
	}
	if e.trouble.bits.Load() != 0 {
		e.trouble.change(now, troubleDecay, func(v float64, held int64) (float64, int64) {
			if v *= 1 - troubleShare; v < 0.001 {
				v = 0
			}
			return v, held
		})
	}
}

// failed accounts for a failure. Only sure ones count as failures in a row.
func (e *Endpoint) failed(now int64, pushback time.Duration, sure bool) {
	e.failures.Add(1)
	pushback = min(max(pushback, 0), maxPushback)
	e.trouble.change(now, troubleDecay, func(v float64, held int64) (float64, int64) {
		share := troubleShare
		if pushback > 0 {
			share = pushbackShare
		}
		return v + (1-v)*share, max(held, now+int64(pushback)) // it does not fall before the server wants to see us again
	})
	s := e.pool.settings.Load()
	if s.Latency.Decay > 0 {
		cost := max(pushback, s.Latency.Penalty)
		e.latency.change(now, s.Latency.Decay, func(v float64, _ int64) (float64, int64) { return max(v, float64(cost)), now })
	}
	if w := e.window.Load(); w != nil {
		w.Add(e.pool.at(now), kindFailure)
	}
	row := 0
	if sure {
		row = int(e.row.Add(1))
	}
	if !s.Ejection.Off {
		e.pool.judge(e, now, row, s.Ejection)
	}
}

// observe notes how long an answer took.
func (e *Endpoint) observe(now, start int64, l Latency) {
	e.latency.peak(now, l.Decay, float64(now-start))
}

// waited notes that it took so long without the work being done: it says nothing of a fast endpoint, and much of a
// slow one.
func (e *Endpoint) waited(now, start int64, l Latency) {
	if took := float64(now - start); took > e.latency.at(now, l.Decay) {
		e.latency.peak(now, l.Decay, took)
	}
}
