package consistenthash

import (
	"math/rand/v2"
	"sync/atomic"

	"github.com/grpcsteady/steady/balancer/internal/pool"
)

// bound is how much each candidate may have in flight: no more than its share of all calls times a factor.
type bound struct {
	pool   *pool.Pool
	factor float64
	shares []float64 // of the weight, by candidate: the resolver's, for keys are not spared by slow start

	// missing is what the pool's count of calls under way lacks: those to candidates that began under another
	// configuration, less those to endpoints that can not be picked now. It changes as they end, and is looked at now
	// and then.
	missing atomic.Int64
}

func newBound(s pool.Set, slots []int32, factor float64) *bound {
	b := &bound{pool: s.Pool, factor: factor, shares: make([]float64, len(s.Candidates))}
	sum := 0.0
	for i, slot := range slots {
		if slot >= 0 {
			b.shares[slot] = s.Listed[i].Weight
			sum += s.Listed[i].Weight
		}
	}
	for i := range b.shares {
		b.shares[i] /= sum
	}
	b.look(s.Candidates)
	return b
}

// bears reports whether a candidate may have one call more.
func (b *bound) bears(slot int, e *pool.Endpoint) bool {
	most := b.factor * float64(b.pool.Flying()+b.missing.Load()+1) * b.shares[slot]
	return float64(e.InFlight()) < most // so the last one above a whole number is allowed
}

// look counts what is missing. Calls begin and end meanwhile, and a goroutine may lose its processor between two
// reads, so that one count may be far off, either way: the middle of three is not.
func (b *bound) look(candidates []pool.Candidate) {
	x, y, z := b.count(candidates), b.count(candidates), b.count(candidates)
	b.missing.Store(max(min(x, y), min(max(x, y), z)))
}

func (b *bound) count(candidates []pool.Candidate) int64 {
	sum := -b.pool.Flying()
	for i := range candidates {
		sum += candidates[i].InFlight()
	}
	return sum
}

// lookShare makes looks so rare that each pick pays for reading half an endpoint.
const lookShare = 6

func (b *bound) sometimes(candidates []pool.Candidate) {
	if rand.IntN(lookShare*len(candidates)) == 0 {
		b.look(candidates)
	}
}
