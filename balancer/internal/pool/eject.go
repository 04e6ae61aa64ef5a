package pool

import (
	"fmt"
	"math"
	"time"

	"github.com/grpcsteady/steady/balancer/attempt"
	"github.com/grpcsteady/steady/interceptors/window"
)

const (
	reasonCheck = "health checks fail"

	// judgeEvery bounds how often the success ratio of one endpoint is looked at, and totalsEvery how often
	// those of all are added up: after failures only, but a failing fleet has many.
	judgeEvery  = 100 * time.Millisecond
	totalsEvery = 500 * time.Millisecond
)

// judge decides, after a failure, whether an endpoint is to be ejected. row is how many there were in a row; 0: it
// is not known.
func (p *Pool) judge(e *Endpoint, now int64, row int, s Ejection) {
	if s.Consecutive > 0 && row >= s.Consecutive {
		p.eject(e, now, fmt.Sprintf("%d failures in a row", row), s)
		return
	}
	if s.Ratio == 0 {
		return
	}
	last := e.judged.Load()
	if last != 0 && now-last < int64(judgeEvery) || !e.judged.CompareAndSwap(last, now) {
		return
	}
	w := e.window.Load()
	if w == nil {
		return
	}
	own := w.Sum(p.at(now))
	calls := own.Total()
	if calls < int64(s.MinimumCalls) {
		return
	}
	ratio := float64(own[kindSuccess]) / float64(calls)
	if ratio >= s.Ratio {
		return
	}
	if others := p.others(now, own); ratio > others-s.Margin {
		return
	}
	p.eject(e, now, fmt.Sprintf("%.0f %% of %d calls succeeded", 100*ratio, calls), s)
}

// others returns the share of successes among the calls to all other endpoints; 1 without any.
func (p *Pool) others(now int64, own window.Sums) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := &p.totals; !t.valid || now-t.at >= int64(totalsEvery) {
		*t = totals{at: now, valid: true}
		for _, e := range p.list {
			if w := e.window.Load(); w != nil {
				sums := w.Sum(p.at(now))
				for k := range sums {
					t.sums[k] += sums[k]
				}
			}
		}
	}
	calls := max(p.totals.sums.Total()-own.Total(), 0)
	if calls == 0 {
		return 1
	}
	return min(max(float64(p.totals.sums[kindSuccess]-own[kindSuccess])/float64(calls), 0), 1)
}

// eject takes an endpoint out, if that leaves enough.
func (p *Pool) eject(e *Endpoint, now int64, reason string, s Ejection) {
	p.mu.Lock()
	if !e.listed || e.until != 0 || s.Observe && now < e.seen || !p.mayEject(e, s) {
		p.mu.Unlock()
		return
	}
	n := p.inARow(e, now, s) + 1
	length := min(time.Duration(n)*s.Base, s.Max)
	e.row.Store(0)
	change := attempt.EndpointChange{Endpoint: e.name, At: p.at(now), Out: true, Reason: reason, For: length, Observed: s.Observe}
	if s.Observe {
		e.seen = now + int64(length)
	} else {
		e.until, e.reason, e.ejections = now+int64(length), reason, n
		p.out++
		p.wake()
	}
	p.mu.Unlock()
	p.handle.Notify(change)
}

// mayEject reports whether one more may be out: the cap allows it, and somebody is left to call. mu is held.
func (p *Pool) mayEject(e *Endpoint, s Ejection) bool {
	most := max(1, int(math.Floor(s.Share*float64(len(p.list))+1e-9)))
	if p.out+1 > most {
		return false
	}
	for _, other := range p.list {
		if other != e && other.ready && other.until == 0 && !other.ill {
			return true
		}
	}
	return false
}

// inARow returns how many ejections of an endpoint still count: as much time without one as the first takes
// forgets one. mu is held.
func (p *Pool) inARow(e *Endpoint, now int64, s Ejection) int {
	if e.ejections == 0 {
		return 0
	}
	good := (now - e.returned) / int64(s.Base)
	return int(max(int64(e.ejections)-good, 0))
}

// readmit takes back whose time is over, and returns what is to be told. mu is held.
func (p *Pool) readmit(now int64, s Settings) (changes []attempt.EndpointChange) {
	for _, e := range p.list {
		if e.until == 0 || now < e.until && !s.Ejection.Off {
			continue
		}
		e.until, e.returned, e.warmFrom = 0, now, now
		p.out--
		e.row.Store(0)
		p.open(e, s) // what led to it is no reason to eject it again
		changes = append(changes, attempt.EndpointChange{Endpoint: e.name, At: p.at(now), Reason: e.reason})
		e.reason = ""
	}
	return changes
}

// checked takes what active checks say of an endpoint.
func (p *Pool) checked(e *Endpoint, ill bool) {
	p.mu.Lock()
	if e.ill == ill {
		p.mu.Unlock()
		return
	}
	e.ill = ill
	if !ill {
		e.warmFrom = p.now()
	}
	change := attempt.EndpointChange{Endpoint: e.name, At: p.at(p.now()), Out: ill, Reason: reasonCheck}
	if e.listed {
		p.wake()
	}
	p.mu.Unlock()
	p.handle.Notify(change)
}

// wake has the policy in force look at the endpoints again. mu is held.
func (p *Pool) wake() {
	if p.current != nil {
		p.current.wake()
	}
}
