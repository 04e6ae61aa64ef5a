package pool

import (
	"math"
	"math/rand/v2"
	"slices"

	"google.golang.org/grpc/balancer"

	"github.com/grpcsteady/steady/balancer/attempt"
)

// Least chooses the candidate with the least to do among a few that are drawn by weight, without replacement.
type Least struct {
	pool       *Pool
	candidates []Candidate
	choices    int
	latency    Latency
	inverse    []float64 // of the weights; nil: they are all the same
	alias      alias     // to draw by weight; unused if they are all the same
	random     func() uint64
}

// scanLimit is the size up to which a set is looked at whole: it costs no more than to draw two.
const scanLimit = 4

// NewLeast makes a chooser. choices is how many are compared, at least 2.
func NewLeast(p *Pool, candidates []Candidate, choices int, l Latency) *Least {
	c := &Least{pool: p, candidates: candidates, choices: choices, latency: l, random: rand.Uint64}
	if !sameWeight(candidates) {
		c.inverse = make([]float64, len(candidates))
		weights := make([]float64, len(candidates))
		for i := range candidates {
			weights[i] = candidates[i].Weight
			c.inverse[i] = min(1/weights[i], math.MaxFloat64) // infinity times nothing would be no number
		}
		c.alias = newAlias(weights)
	}
	return c
}

func sameWeight(candidates []Candidate) bool {
	for i := range candidates {
		if candidates[i].Weight != candidates[0].Weight {
			return false
		}
	}
	return true
}

// Choose implements [Chooser].
func (c *Least) Choose(_ balancer.PickInfo, a *attempt.Attempt, now int64) int {
	n := len(c.candidates)
	if a.AvoidsAny() {
		if i := c.other(now, a); i >= 0 {
			return i
		}
	}
	if n <= scanLimit || n <= c.choices {
		return c.least(now)
	}
	if c.choices == 2 && c.inverse == nil { // what nearly everybody has
		r := c.random()
		i := int(r & math.MaxUint32 * uint64(n) >> 32)
		j := int((r >> 32) * uint64(n-1) >> 32)
		if j >= i {
			j++
		}
		if c.cost(j, now) < c.cost(i, now) {
			return j
		}
		return i
	}
	return c.drawn(now)
}

// cost is what decides between two.
func (c *Least) cost(i int, now int64) float64 {
	e := c.candidates[i].Endpoint
	var cost float64
	if c.latency.Decay > 0 {
		cost = e.Cost(now, c.latency)
	} else {
		cost = e.Load()
	}
	if c.inverse != nil {
		cost *= c.inverse[i]
	}
	return cost
}

// least looks at all, of which there are at most maxChoices. Of equals each is as likely.
func (c *Least) least(now int64) int {
	n := len(c.candidates)
	if n == 1 {
		return 0
	}
	var costs [maxChoices]float64
	best, equals := 0, 0
	for i := range n {
		costs[i] = c.cost(i, now)
		switch {
		case costs[i] < costs[best]:
			best, equals = i, 1
		case costs[i] == costs[best]:
			equals++
		}
	}
	if equals == 1 {
		return best
	}
	least := costs[best]
	for skip := c.below(equals); ; best++ { // best is the first of them
		if costs[best] == least {
			if skip == 0 {
				return best
			}
			skip--
		}
	}
}

// maxChoices is the most that a policy may be told to compare.
const maxChoices = 10

// drawn compares several that are drawn by weight.
func (c *Least) drawn(now int64) int {
	var taken [maxChoices]int
	best, least := -1, 0.0
	for k := range min(c.choices, maxChoices) {
		i := c.draw(taken[:k])
		taken[k] = i
		if cost := c.cost(i, now); best < 0 || cost < least {
			best, least = i, cost
		}
	}
	return best
}

// draw returns one that is not among those taken, of which there are fewer than candidates. If it keeps drawing
// the same few, since they have nearly all the weight, it takes the next one.
func (c *Least) draw(taken []int) int {
	i := 0
	for range 8 {
		if i = c.any(); !slices.Contains(taken, i) {
			return i
		}
	}
	for slices.Contains(taken, i) {
		if i++; i == len(c.candidates) {
			i = 0
		}
	}
	return i
}

// below returns a random index.
func (c *Least) below(n int) int { return int(c.random() >> 32 * uint64(n) >> 32) } //nolint:gosec // a length

func (c *Least) any() int {
	if c.inverse == nil {
		return c.below(len(c.candidates))
	}
	return c.alias.draw(c.random())
}

// other chooses among those that the call has not tried, and returns -1 if there are none. Retries are few, so
// it may look at many.
func (c *Least) other(now int64, a *attempt.Attempt) int {
	n := len(c.candidates)
	best, least, equals := -1, 0.0, 0
	try := func(i int) {
		switch cost := c.cost(i, now); {
		case best < 0 || cost < least:
			best, least, equals = i, cost, 1
		case cost == least:
			if equals++; c.below(equals) == 0 { // of equals each is as likely
				best = i
			}
		}
	}
	if n > manyCandidates {
		var taken [maxChoices]int
		found := 0
		for k := 0; k < 32 && found < min(c.choices, maxChoices); k++ {
			if i := c.any(); !slices.Contains(taken[:found], i) && !a.Avoids(c.candidates[i].name) {
				try(i)
				taken[found] = i
				found++
			}
		}
		if found > 0 {
			return best
		}
	}
	for i := range n {
		if !a.Avoids(c.candidates[i].name) {
			try(i)
		}
	}
	return best
}

// manyCandidates is from which size on a retry draws as well.
const manyCandidates = 64
