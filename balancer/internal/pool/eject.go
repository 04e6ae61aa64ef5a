package pool

import (
	"fmt"
	"math"
	"time"

	"github.com/grpcsteady/steady/balancer/window"
	"github.com/grpcsteady/steady/resolver/endpoint"
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
		e.row.Store(0) // if it may not be ejected now, it takes as many again until the next look
		p.eject(e, now, s, func() string { return fmt.Sprintf("%d failures in a row", row) })
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
	if others := p.others(e, now); ratio > others-s.Margin {
		return
	}
	p.eject(e, now, s, func() string { return fmt.Sprintf("%.0f %% of %d calls succeeded", 100*ratio, calls) })
}

// others returns the share of successes among the calls to all other endpoints; 1 without any.
func (p *Pool) others(of *Endpoint, now int64) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := &p.totals; !t.valid || now-t.at >= int64(totalsEvery) {
		*t = totals{at: now, valid: true}
		for _, e := range p.list {
			e.counted = window.Sums{}
			if w := e.window.Load(); w != nil {
				e.counted = w.Sum(p.at(now))
			}
			for k := range t.sums {
				t.sums[k] += e.counted[k]
			}
		}
	}
	// What is taken off is what it had at the time: calls that came since are not among those of the others.
	calls := p.totals.sums.Total() - of.counted.Total()
	if calls <= 0 {
		return 1
	}
	return float64(p.totals.sums[kindSuccess]-of.counted[kindSuccess]) / float64(calls)
}

// eject takes an endpoint out, if that leaves enough. In observe mode all goes the same way, but for what may be
// picked: so what is told is what would have happened.
func (p *Pool) eject(e *Endpoint, now int64, s Ejection, reason func() string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !e.listed || e.until != 0 || !p.mayEject(e, s) {
		return
	}
	longest := int((s.Max + s.Base - 1) / s.Base) // more in a row change nothing, and would be as long to forget
	n := min(p.inARow(e, now, s)+1, longest)
	length := min(time.Duration(n)*s.Base, s.Max)
	e.until, e.would, e.reason, e.ejections = now+int64(length), s.Observe, reason(), n
	p.out++
	p.wake()
	p.tell(endpoint.Change{Endpoint: e.name, At: p.at(now), Out: true, Reason: e.reason, For: length, Observed: e.would})
}

// ejected reports whether an endpoint is out for what its calls came to. pool.mu is held.
func (e *Endpoint) ejected() bool { return e.until != 0 && !e.would }

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

// readmit takes back whose time is over, and all when the mode has changed. mu is held.
func (p *Pool) readmit(now int64, s Settings) {
	if p.out == 0 {
		return
	}
	for _, e := range p.list {
		if e.until == 0 || now < e.until && !s.Ejection.Off && e.would == s.Ejection.Observe {
			continue
		}
		if !e.would {
			e.warmFrom = now
		}
		p.tell(endpoint.Change{Endpoint: e.name, At: p.at(now), Reason: e.reason, Observed: e.would})
		e.until, e.would, e.reason, e.returned = 0, false, "", now
		p.out--
		e.row.Store(0)
		p.open(e, s) // what led to it is no reason to eject it again
		p.totals.valid = false
	}
}

// checked takes what active checks say of an endpoint.
func (p *Pool) checked(e *Endpoint, ill bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.ill == ill || !e.listed || p.settings.Load().Check.Interval == 0 {
		return // its check is about to stop
	}
	p.found(e, ill)
	p.wake()
}

// found notes what an endpoint was found to be. mu is held.
func (p *Pool) found(e *Endpoint, ill bool) {
	now := p.now()
	e.ill = ill
	if !ill {
		e.warmFrom = now
	}
	p.tell(endpoint.Change{Endpoint: e.name, At: p.at(now), Out: ill, Reason: reasonCheck})
}
