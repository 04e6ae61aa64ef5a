package weighted

import (
	"math"
	"math/bits"
	"slices"
)

// order says whose turn it is, by the number of a pick.
type order interface{ at(n uint64) int }

// A cycle is written out in full if it has at most maxCycle turns and takes no more than maxWork steps to find.
const (
	maxCycle = 4096
	maxWork  = 1 << 18
)

// newOrder makes the order of some weights, each above 0. If they stand in the proportion of small whole numbers,
// as those that people write do, it is a cycle in which each comes exactly as often as its number; otherwise
// a sequence that comes as near as it can.
func newOrder(weights []float64) order {
	if same(weights) {
		return round(len(weights))
	}
	if parts, sum := whole(weights); sum <= maxCycle && sum*len(parts) <= maxWork {
		return newCycle(parts, sum)
	}
	return newSequence(weights)
}

// round is round robin.
type round uint64

func (r round) at(n uint64) int { return int(n % uint64(r)) } //nolint:gosec // an index

func same(weights []float64) bool {
	for _, w := range weights {
		if w != weights[0] {
			return false
		}
	}
	return true
}

// whole returns weights divided by their greatest common divisor, and the sum; a sum above maxCycle if they are no
// whole numbers, or large ones.
func whole(weights []float64) (parts []int, sum int) {
	parts = make([]int, len(weights))
	divisor := 0
	for i, w := range weights {
		if w != math.Trunc(w) || w > math.MaxUint32 {
			return nil, maxCycle + 1
		}
		parts[i] = int(w)
		divisor = gcd(divisor, parts[i])
	}
	for i := range parts {
		parts[i] /= divisor
		if sum += parts[i]; sum > maxCycle {
			return nil, sum
		}
	}
	return parts, sum
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// cycle is an order that repeats. Source: nginx's smooth weighted round robin (commit 52327e0, 2012), which never
// gives the heaviest two turns in a row as long as another one can have one of them.
type cycle struct {
	turns []uint32
}

func newCycle(parts []int, sum int) *cycle {
	c := &cycle{turns: make([]uint32, 0, sum)}
	current := make([]int, len(parts))
	for range sum {
		best := 0
		for i, p := range parts {
			if current[i] += p; current[i] > current[best] {
				best = i
			}
		}
		current[best] -= sum
		c.turns = append(c.turns, uint32(best))
	}
	return c
}

func (c *cycle) at(n uint64) int { return int(c.turns[n%uint64(len(c.turns))]) }

// sequence goes through the weights by the golden ratio: the fractions of its multiples fall into any interval as
// often as its length says, and no other step spreads them more evenly (Knuth, TAOCP 3, 6.4, theorem S). In a
// window of picks each count is within 2 or so of its share, whatever the weights.
type sequence struct {
	bounds []uint64 // where each one's interval ends, as a share of 2^64; the last one's is open
	guide  []uint32 // whose interval the beginning of each of 2^k equal slices lies in
	shift  uint
}

// golden is 2^64 divided by the golden ratio.
const golden = 0x9E3779B97F4A7C15

// leastShare is the least that anybody gets, as a share of what the heaviest gets: so nobody's interval is empty,
// wherever it stands, for up to a million of them.
const leastShare = 1.0 / (1 << 32)

func newSequence(weights []float64) *sequence {
	heaviest, sum := slices.Max(weights), 0.0
	shares := make([]float64, len(weights))
	for i, w := range weights {
		shares[i] = max(w/heaviest, leastShare)
		sum += shares[i]
	}
	s := &sequence{bounds: make([]uint64, len(weights))}
	before := 0.0
	for i, w := range shares {
		before += w
		end := uint64(math.MaxUint64)
		if share := before / sum; i < len(weights)-1 && share < 1 {
			end = uint64(share * (1 << 64))
		}
		s.bounds[i] = end
	}
	width := max(bits.Len(uint(len(weights)-1)), 1)
	s.shift = uint(64 - width)
	s.guide = make([]uint32, 1<<width)
	i := 0
	for k := range s.guide {
		for i < len(weights)-1 && s.bounds[i] <= uint64(k)<<s.shift {
			i++
		}
		s.guide[k] = uint32(i)
	}
	return s
}

func (s *sequence) at(n uint64) int {
	u := n * golden
	k := u >> s.shift
	low, high := int(s.guide[k]), len(s.bounds)-1
	if k+1 < uint64(len(s.guide)) {
		high = int(s.guide[k+1])
	}
	if high-low < 8 {
		for low < high && s.bounds[low] <= u {
			low++
		}
		return low
	}
	for low < high { // many small ones in one slice
		if mid := int(uint(low+high) >> 1); s.bounds[mid] <= u {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}
