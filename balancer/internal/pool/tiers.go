package pool

import (
	"maps"
	"math"
	"slices"
	"time"
)

// tiers divides the calls between groups of endpoints, by the priority that the resolver gives them: the first group
// has all as long as enough of it is available, and below that gives away what it can not bear.
type tiers struct {
	shares map[int]float64 // in force, by priority; nil: there is one group
	since  int64           // since when another division is wanted; 0: none is
	began  int64           // when there came to be several groups; 0: never
}

// tier is one group.
type tier struct {
	weight    float64 // of all that the resolver lists
	available float64 // of those that may be picked
}

// divide decides how calls are divided, and returns when to decide again; math.MaxInt64: not before something happens.
// What is wanted counts when it was wanted for the hold, both ways, so that a group which comes and goes does not
// carry the calls along. A group that has nobody left to call is left at once, and at the beginning nothing is held:
// connections are only just being made. mu is held.
func (p *Pool) divide(now int64, s Settings) (again int64) {
	groups := p.groups(s)
	t := &p.tiers
	if len(groups) < 2 {
		*t = tiers{}
		return math.MaxInt64
	}
	if t.began == 0 {
		t.began = max(now, 1)
	}
	wanted := shares(groups, s.Failover.MinAvailable)
	switch {
	case t.shares == nil, time.Duration(now-t.began) < s.Failover.Hold, deserted(groups, t.shares):
		t.shares, t.since = wanted, 0
	case maps.EqualFunc(wanted, t.shares, func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }):
		t.since = 0
	case t.since == 0:
		t.since = max(now, 1)
		return now + int64(s.Failover.Hold)
	case time.Duration(now-t.since) >= s.Failover.Hold:
		t.shares, t.since = wanted, 0
	default:
		return t.since + int64(s.Failover.Hold)
	}
	return math.MaxInt64
}

// groups returns the groups by priority. mu is held.
func (p *Pool) groups(s Settings) map[int]tier {
	out := make(map[int]tier, 1)
	for _, e := range p.list {
		g := out[e.priority]
		g.weight += e.weight
		if e.ready && !e.ejected() && !e.ill {
			g.available += e.weight
		}
		out[e.priority] = g
	}
	if len(out) < 2 || p.spare(out, s) {
		return out
	}
	// There is not enough anywhere: as in a single group, what is ejected or found ill counts again where too little is
	// left.
	for _, e := range p.list {
		if g := out[e.priority]; e.ready && (e.ejected() || e.ill) && g.available < s.Panic*g.weight {
			g.available += e.weight
			out[e.priority] = g
		}
	}
	return out
}

// spare reports whether all groups together can bear all calls.
func (p *Pool) spare(groups map[int]tier, s Settings) bool {
	sum := 0.0
	for _, g := range groups {
		sum += g.bears(s.Failover.MinAvailable)
	}
	return sum >= 1
}

// bears returns how much of all calls a group can bear, up to all of them.
func (g tier) bears(minAvailable float64) float64 {
	return min(g.available/g.weight/minAvailable, 1)
}

// shares gives each group as much as it can bear, in the order of priority, until all is given. If it can not all be
// borne, each bears more in proportion.
func shares(groups map[int]tier, minAvailable float64) map[int]float64 {
	out := make(map[int]float64, len(groups))
	left := 1.0
	for _, priority := range slices.Sorted(maps.Keys(groups)) {
		share := min(groups[priority].bears(minAvailable), left)
		out[priority] = share
		left -= share
	}
	if given := 1 - left; left > 1e-9 && given > 0 {
		for priority := range out {
			out[priority] /= given
		}
	}
	return out
}

// deserted reports whether some group has calls and nobody to take them, or whether there is a group that nobody has
// divided for yet.
func deserted(groups map[int]tier, shares map[int]float64) bool {
	if len(groups) != len(shares) {
		return true
	}
	for priority, g := range groups {
		share, known := shares[priority]
		if !known || share > 0 && g.available == 0 {
			return true
		}
	}
	return false
}

// apply makes the weights of each group sum up to its share. mu is held.
func (t *tiers) apply(list []*Endpoint, weights []float64) {
	if t.shares == nil {
		return
	}
	sums := make(map[int]float64, len(t.shares))
	used := 0
	for i, e := range list {
		sums[e.priority] += weights[i]
	}
	for priority, share := range t.shares {
		if share > 0 && sums[priority] > 0 {
			used++
		}
	}
	if used == 0 {
		return // whoever is connected is better than nobody
	}
	for i, e := range list {
		share := t.shares[e.priority]
		switch {
		case weights[i] == 0:
		case share == 0:
			weights[i] = 0
		case used > 1: // the weights of a group that has all calls stay as they are
			weights[i] *= share / sums[e.priority]
		}
	}
}
