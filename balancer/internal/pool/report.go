package pool

import (
	"math"
	"slices"
	"time"
)

// report is what an endpoint has said of its load.
type report struct {
	weight float64 // calls per second that it could do, by what it does now
	first  int64   // since when it reports
	last   int64   // when it did so last
}

// loadReport is ORCA's report as package orca parses it, by the methods that are needed.
type loadReport interface {
	GetApplicationUtilization() float64
	GetCpuUtilization() float64
	GetRpsFractional() float64
	GetEps() float64
}

// reportEvery is how often weights follow reports.
const reportEvery = time.Second

// reports notes a load report that came with an answer. Source of the formula: gRFC A58.
func (e *Endpoint) reports(load any, now int64, s Reports) {
	r, ok := load.(loadReport)
	if !ok {
		return
	}
	used := r.GetApplicationUtilization()
	if used == 0 {
		used = r.GetCpuUtilization()
	}
	rate := r.GetRpsFractional()
	if !(used > 0 && rate > 0 && r.GetEps() >= 0) { // not a number is none either
		return
	}
	used += r.GetEps() / rate * s.ErrorPenalty
	next := &report{weight: rate / used, first: now, last: now}
	if math.IsInf(next.weight, 0) || next.weight == 0 {
		return
	}
	old := e.report.Load()
	if old != nil && time.Duration(now-old.last) < s.Expiry {
		next.first = old.first
	}
	e.report.CompareAndSwap(old, next) // of two at once either will do
	if old == nil {
		e.pool.mu.Lock()
		e.pool.wake() // for the next look to be due
		e.pool.mu.Unlock()
	}
}

// reported returns by what load reports multiply weights, and when to look again.
func reported(ready []*Endpoint, now int64, s Reports) (factor func(*Endpoint) float64, again int64) {
	again = math.MaxInt64
	factor = func(*Endpoint) float64 { return 1 }
	if s.Expiry == 0 {
		return factor, again
	}
	usable := func(e *Endpoint) float64 {
		r := e.report.Load()
		if r == nil {
			return 0
		}
		if time.Duration(now-r.last) >= s.Expiry || time.Duration(now-r.first) < s.Blackout {
			return 0
		}
		return r.weight
	}
	var weights []float64
	for _, e := range ready {
		if e.report.Load() != nil {
			again = now + int64(reportEvery)
		}
		if w := usable(e); w > 0 {
			weights = append(weights, w)
		}
	}
	if len(weights) == 0 {
		return factor, again
	}
	middle := median(weights)
	return func(e *Endpoint) float64 {
		if w := usable(e); w > 0 {
			return min(max(w/middle, 1/maxFactor), maxFactor)
		}
		return 1
	}, again
}

// maxFactor bounds what one report can do: whatever a server says of itself, it gets at most so many times what the
// one in the middle gets, and none less than that fraction.
const maxFactor = 10.0

// median returns the one in the middle, which no single report can move far.
func median(list []float64) float64 {
	slices.Sort(list)
	n := len(list)
	return list[(n-1)/2]/2 + list[n/2]/2
}
