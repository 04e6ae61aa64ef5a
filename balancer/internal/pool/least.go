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
}

// scanLimit is the size up to which a set is looked at whole: it costs no more than to draw two.
const scanLimit = 4

// NewLeast makes a chooser. choices is how many are compared, at least 2.
func NewLeast(p *Pool, candidates []Candidate, choices int, l Latency) *Least {
	c := &Least{pool: p, candidates: candidates, choices: choices, latency: l}
	if !sameWeight(candidates) {
		c.inverse = make([]float64, len(candidates))
		weights := make([]float64, len(candidates))
		for i := range candidates {
			weights[i] = candidates[i].Weight
			c.inverse[i] = 1 / weights[i]
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
func (c *Least) Choose(_ balancer.PickInfo, a *attempt.Attempt) int {
	n := len(c.candidates)
	var now int64
	if c.latency.Decay > 0 {
		now = c.pool.now()
	}
	if a.AvoidsAny() {
		if i := c.other(now, a); i >= 0 {
			return i
		}
	}
	if n <= scanLimit || n <= c.choices {
		return c.least(now)
	}
	if c.choices == 2 && c.inverse == nil { // what nearly everybody has
		r := rand.Uint64()
		i := int((r & math.MaxUint32) * uint64(n) >> 32)
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

// least looks at all, from a random one on, so that of equals each is as likely.
func (c *Least) least(now int64) int {
	n := len(c.candidates)
	if n == 1 {
		return 0
	}
	at := int(uint64(rand.Uint32()) * uint64(n) >> 32)
	best, least := at, c.cost(at, now)
	for range n - 1 {
		if at++; at == n {
			at = 0
		}
		if cost := c.cost(at, now); cost < least {
			best, least = at, cost
		}
	}
	return best
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
		if i = c.any(); !among(taken, i) {
			return i
		}
	}
	for among(taken, i) {
		if i++; i == len(c.candidates) {
			i = 0
		}
	}
	return i
}

func (c *Least) any() int {
	if c.inverse == nil {
		return int(uint64(rand.Uint32()) * uint64(len(c.candidates)) >> 32)
	}
	return c.alias.draw(rand.Uint64())
}

func among(list []int, i int) bool {
	return slices.Contains(list, i)
}

// other chooses among those that the call has not tried, and returns -1 if there are none. Retries are few, so
// it may look at many.
func (c *Least) other(now int64, a *attempt.Attempt) int {
	n := len(c.candidates)
	best, least, found := -1, 0.0, 0
	try := func(i int) {
		if a.Avoids(c.candidates[i].name) {
			return
		}
		if cost := c.cost(i, now); best < 0 || cost < least {
			best, least = i, cost
		}
		found++
	}
	if n > 64 {
		for k := 0; k < 32 && found < c.choices; k++ {
			try(c.any())
		}
	}
	if found == 0 {
		at := int(uint64(rand.Uint32()) * uint64(n) >> 32)
		for i := range n {
			try((at + i) % n)
		}
	}
	return best
}
