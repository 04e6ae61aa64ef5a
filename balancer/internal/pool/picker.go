package pool

import (
	"sync"

	"google.golang.org/grpc/balancer"

	"github.com/grpcsteady/steady/balancer/attempt"
)

// Candidate is an endpoint that may be picked.
type Candidate struct {
	*Endpoint
	Weight float64 // above 0
	picker balancer.Picker
}

// Chooser chooses among the candidates it was made for.
type Chooser interface {
	// Choose returns the index of a candidate. a is nil for calls without a driver. Avoidance is soft: when
	// everything is to be avoided, nothing is. now is for Cost; it is 0 unless latency is learned. It is called
	// concurrently and must not block.
	Choose(info balancer.PickInfo, a *attempt.Attempt, now int64) int
}

// picker is what gRPC picks with. It is immutable but for what it points to.
type picker struct {
	pool       *Pool
	candidates []Candidate
	chooser    Chooser
	settings   *Settings
	endpoints  int // that may be well, for the breaker: failures of one of many are no failure of all
}

// Pick implements balancer.Picker.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	a := attempt.From(info.Ctx)
	var now int64
	if p.settings.Latency.Decay > 0 {
		now = p.pool.now()
	}
	c := &p.candidates[p.chooser.Choose(info, a, now)]
	r, err := c.picker.Pick(info)
	if err != nil {
		return r, err
	}
	e := c.Endpoint
	e.picks.Add(1)
	if a == nil && now == 0 && r.Done == nil && !p.settings.Bounded { // nothing to remember until its end
		r.Done = e.plain
		return r, nil
	}
	t := newToken()
	t.endpoint, t.attempt, t.settings, t.below = e, a, p.settings, r.Done
	if a != nil {
		a.SetPicked(&e.name)
		a.SetEndpoints(p.endpoints)
		a.SetLearner(&e.learner)
	}
	if now != 0 {
		t.start, t.stream = now, p.stream(info, a)
	}
	if p.settings.Bounded {
		p.pool.flying.Add(1)
	}
	r.Done = t.done
	return r, nil
}

// endPlain is the end of a pick of which nothing had to be remembered.
func (e *Endpoint) endPlain(info balancer.DoneInfo) {
	e.ends.Add(1)
	if info.Err != nil || info.BytesSent {
		e.ended(info, false, e.pool.settings.Load(), 0, false)
	}
}

// stream reports whether a pick is for a stream.
func (p *picker) stream(info balancer.PickInfo, a *attempt.Attempt) bool {
	if a.Driven() {
		return a.Stream
	}
	return p.pool.kinds.stream(info.FullMethodName)
}

// token is one pick until its end. It is used again: at its end it holds nothing any more.
type token struct {
	endpoint *Endpoint
	attempt  *attempt.Attempt
	settings *Settings
	below    func(balancer.DoneInfo)
	start    int64
	stream   bool

	done func(balancer.DoneInfo) // end, bound once
}

var tokens sync.Pool

func newToken() *token {
	if t, ok := tokens.Get().(*token); ok {
		return t
	}
	t := new(token)
	t.done = t.end
	return t
}

// end is told by gRPC, once for each pick, with the attempt's lock held.
func (t *token) end(info balancer.DoneInfo) {
	e, a, s, start, stream, below := t.endpoint, t.attempt, t.settings, t.start, t.stream, t.below
	t.endpoint, t.attempt, t.settings, t.below, t.start, t.stream = nil, nil, nil, nil, 0, false
	tokens.Put(t)
	e.ends.Add(1)
	if s.Bounded {
		e.pool.flying.Add(-1)
	}
	if below != nil {
		below(info)
	}
	if info.Err == nil && !info.BytesSent {
		a.SetSent(false)
		return // the connection was gone before the call was sent: it never happened
	}
	a.SetSent(info.BytesSent)
	e.ended(info, a.Driven(), s, start, stream)
}
