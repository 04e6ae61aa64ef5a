package pool

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/balancer/window"
	"github.com/grpcsteady/steady/resolver/endpoint"
)

// Pool holds the endpoints of one channel.
type Pool struct {
	epoch    time.Time
	handle   *endpoint.Handle
	settings atomic.Pointer[Settings]
	kinds    kinds

	// What every pick may write lies apart from what every pick reads.
	_        cacheLine
	sequence atomic.Uint64 // of picks, for policies that go round; it goes on over rebuilds
	_        cacheLine
	flying   atomic.Int64 // calls in flight of all endpoints; counted only if Settings.Bounded
	_        cacheLine

	mu      sync.Mutex // guards what follows, and what endpoints say is guarded by it
	byKey   map[string]*Endpoint
	list    []*Endpoint // in the resolver's order
	current *policy     // the policy that was built last
	out     int         // ejected, or would be, and listed
	totals  totals
	tiers   tiers
	news    []endpoint.Change // to be told
	telling bool              // a goroutine is telling it
}

// cacheLine keeps what lies on its two sides from being fetched together.
type cacheLine [64]byte

// totals are what the calls to all listed endpoints came to, as of some instant.
type totals struct {
	at    int64
	valid bool
	sums  window.Sums
}

type poolKey struct{}

// poolOf returns the pool that the channel keeps, or a new one for a channel without a handle.
func poolOf(h *endpoint.Handle) *Pool {
	p, _ := h.Keep(poolKey{}, func() any { return newPool(h) }).(*Pool)
	return p
}

func newPool(h *endpoint.Handle) *Pool {
	// An instant of 0 means none, so none is.
	p := &Pool{epoch: time.Now().Add(-time.Nanosecond), handle: h, byKey: make(map[string]*Endpoint)}
	p.settings.Store(new(Settings))
	p.sequence.Store(rand.Uint64()) // a thousand clients do not all begin with the same endpoint
	return p
}

// Flying returns how many calls are under way to all endpoints together, with Settings.Bounded.
func (p *Pool) Flying() int64 { return p.flying.Load() }

// Now returns the instant that [Endpoint.Cost] takes.
func (p *Pool) Now() int64 { return p.now() }

// now returns nanoseconds since the pool began, by the monotonic clock.
func (p *Pool) now() int64 { return int64(time.Since(p.epoch)) }

func (p *Pool) at(now int64) time.Time { return p.epoch.Add(time.Duration(now)) }

// Next returns the number of a pick, from 0.
func (p *Pool) Next() uint64 { return p.sequence.Add(1) - 1 }

// configure puts settings in force. Windows of another shape begin anew, and what checks have found is forgotten
// when there are none any more.
func (p *Pool) configure(s Settings) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.settings.Swap(&s)
	if s.Check.Interval == 0 {
		for _, e := range p.list {
			if e.ill {
				p.found(e, false)
			}
		}
	}
	if old.Ejection.Window == s.Ejection.Window && old.Ejection.Off == s.Ejection.Off {
		return
	}
	for _, e := range p.list {
		p.open(e, s)
	}
	p.totals.valid = false
}

// open gives an endpoint its window.
func (p *Pool) open(e *Endpoint, s Settings) {
	e.window.Store(nil)
	if !s.Ejection.Off {
		e.window.Store(window.NewSingle(s.Ejection.Window, windowSlots))
	}
}

// update takes the resolver's list. What is learned of endpoints that stay is kept, and of those that go
// nothing is. It returns the list that is to be connected to: weight 0 takes an endpoint out, unless all are.
func (p *Pool) update(list []resolver.Endpoint) []resolver.Endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := *p.settings.Load()
	keys := make(map[string]*Endpoint, len(list))
	p.list = p.list[:0:0]
	use := make([]resolver.Endpoint, 0, len(list))
	for _, le := range list {
		key := keyOf(le)
		if key == "" {
			continue
		}
		if _, twice := keys[key]; twice {
			continue
		}
		weight, said := endpoint.Weight(le)
		if !said {
			weight = 1
		}
		if weight == 0 {
			keys[key] = nil
			continue
		}
		e := p.byKey[key]
		if e == nil {
			e = p.add(key, le.Addresses[0].Addr, s)
		}
		p.enlist(e, le, float64(weight))
		keys[key] = e
		use = append(use, le)
	}
	if len(use) == 0 && len(keys) > 0 {
		return p.useAll(list, keys, s)
	}
	p.forget(keys)
	return use
}

// useAll is for a list in which every weight is 0.
func (p *Pool) useAll(list []resolver.Endpoint, keys map[string]*Endpoint, s Settings) (use []resolver.Endpoint) {
	for _, le := range list {
		key := keyOf(le)
		if e, ok := keys[key]; !ok || e != nil {
			continue
		}
		e := p.byKey[key]
		if e == nil {
			e = p.add(key, le.Addresses[0].Addr, s)
		}
		p.enlist(e, le, 1)
		keys[key] = e
		use = append(use, le)
	}
	p.forget(keys)
	return use
}

// enlist puts an endpoint at the end of the list.
func (p *Pool) enlist(e *Endpoint, said resolver.Endpoint, weight float64) {
	e.weight, e.zone, e.priority = weight, endpoint.Zone(said), endpoint.Priority(said)
	e.listed, e.index = true, len(p.list)
	p.list = append(p.list, e)
}

func (p *Pool) add(key, name string, s Settings) *Endpoint {
	e := &Endpoint{pool: p, key: key, name: name, state: "idle"}
	e.learner, e.plain = e, e.endPlain
	p.open(e, s)
	p.byKey[key] = e
	return e
}

// forget drops the endpoints that the resolver no longer lists, and with them their share of the ejection cap.
func (p *Pool) forget(keys map[string]*Endpoint) {
	for key, e := range p.byKey {
		if keys[key] == nil {
			e.listed = false
			if e.until != 0 {
				p.out--
			}
			delete(p.byKey, key)
		}
	}
	p.totals.valid = false
}

// Endpoints returns a snapshot of all endpoints.
func (p *Pool) Endpoints() []endpoint.Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	s := p.settings.Load()
	shares, _ := p.pickable(now, *s)
	out := make([]endpoint.Snapshot, 0, len(p.list))
	for i, e := range p.list {
		row := endpoint.Snapshot{
			Endpoint: e.name, Zone: e.zone, Priority: e.priority, State: e.state, Weight: e.weight, Effective: shares[i],
			InFlight: int(e.exactInFlight()), Picks: e.picks.Load(), Failures: e.failures.Load(), Success: 1,
			Ejected: e.ejected(), Unchecked: e.ill,
		}
		if s.Latency.Decay > 0 {
			row.Latency = time.Duration(e.latency.at(now, s.Latency.Decay))
		}
		if w := e.window.Load(); w != nil {
			sums := w.Sum(p.at(now))
			if row.Calls = int(sums.Total()); row.Calls > 0 {
				row.Success = float64(sums[kindSuccess]) / float64(row.Calls)
			}
		}
		if row.Ejections = e.ejections; e.until == 0 {
			row.Ejections = p.inARow(e, now, s.Ejection)
		}
		switch {
		case row.Ejected:
			row.Reason, row.Until = e.reason, p.at(e.until)
		case e.ill:
			row.Reason = reasonCheck
		}
		out = append(out, row)
	}
	slices.SortFunc(out, func(a, b endpoint.Snapshot) int { return cmp.Compare(a.Endpoint, b.Endpoint) })
	return out
}

// pickable returns the weight of each listed endpoint after load reports and slow start, 0 for those that may not
// be picked, and when to look again; math.MaxInt64: not before something happens. mu is held.
//
// What is not ready can not be picked. Ejections and checks count as long as enough endpoints are available;
// below that, sending calls to a few until they fall over too is worse than trying all.
func (p *Pool) pickable(now int64, s Settings) (weights []float64, again int64) {
	again = math.MaxInt64
	ready := make([]*Endpoint, 0, len(p.list))
	available := 0
	for _, e := range p.list {
		if e.until != 0 {
			again = min(again, e.until)
		}
		if !e.ready {
			continue
		}
		ready = append(ready, e)
		if !e.ejected() && !e.ill {
			available++
		}
	}
	panicking := available == 0 || float64(available) < s.Panic*float64(len(p.list))
	if p.tiers.shares != nil { // a backup is better than panic
		panicking = panicking && !p.spare(p.groups(s), s)
	}
	slow, tick := p.warming(ready, now, s.SlowStart)
	again = min(again, tick)
	factor, due := reported(ready, now, s.Reports)
	again = min(again, due)
	weights = make([]float64, len(p.list))
	for _, e := range ready {
		if !panicking && (e.ejected() || e.ill) {
			continue
		}
		w := e.weight * factor(e)
		if slow {
			// The middle of the time until the next look.
			w *= s.SlowStart.grown(time.Duration(now-e.warmFrom) + s.SlowStart.step()/2)
		}
		weights[e.index] = w
	}
	p.tiers.apply(p.list, weights)
	return weights, again
}

// leaving is pickable for a policy that another one is about to replace: it goes by the connections that it has
// itself. mu is held.
func (p *Pool) leaving(connected func(*Endpoint) bool) (weights []float64) {
	weights = make([]float64, len(p.list))
	for _, strict := range [...]bool{true, false} {
		some := false
		for i, e := range p.list {
			if connected(e) && (!strict || !e.ejected() && !e.ill) {
				weights[i], some = e.weight, true
			}
		}
		if some {
			break
		}
	}
	return weights
}

// warming reports whether weights are held back, and when they are next to grow.
func (p *Pool) warming(ready []*Endpoint, now int64, s SlowStart) (slow bool, again int64) {
	again = math.MaxInt64
	if s.Window == 0 {
		return false, again
	}
	var warm, all float64
	young := false
	for _, e := range ready {
		all += e.weight
		if time.Duration(now-e.warmFrom) >= s.Window {
			warm += e.weight
		} else {
			young = true
			again = min(again, e.warmFrom+int64(s.Window)) // when the share that is warm changes
		}
	}
	if slow = young && warm >= all/2; slow {
		again = now + int64(s.step())
	}
	return slow, again
}

// step is how often weights grow: often enough that a share is within a few percent of the curve.
func (s SlowStart) step() time.Duration { return max(s.Window/100, 10*time.Millisecond) }

// connected takes the states of connections, as the policy that was built last has them.
func (p *Pool) connected(by *policy, now int64, states []string) {
	if p.current != by {
		return
	}
	for i, e := range p.list {
		state := "idle"
		if i < len(states) && states[i] != "" {
			state = states[i]
		}
		ready := state == stateReady
		if ready && !e.ready {
			if !e.everReady || time.Duration(now-e.left) > awayTime {
				e.warmFrom = now
			}
			e.everReady, e.since = true, now
		}
		if !ready && e.ready {
			e.left = now
		}
		e.ready, e.state = ready, state
	}
}

const (
	stateReady   = "ready"
	stateFailing = "transient_failure"

	// awayTime is how long an endpoint may be away without being taken for a new one when it is back: a server
	// that closes connections now and then, by GOAWAY, is as warm as it was.
	awayTime = 10 * time.Second
)
