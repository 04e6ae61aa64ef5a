package pool

import "math"

// alias draws an index by weight in constant time. Source: Vose, "A Linear Algorithm for Generating Random Numbers
// with a Given Distribution", 1991.
type alias struct {
	share []uint32 // of 2^32: how much of its column an index keeps
	other []uint32 // who has the rest
}

func newAlias(weights []float64) alias {
	n := len(weights)
	a := alias{share: make([]uint32, n), other: make([]uint32, n)}
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	scaled := make([]float64, n)
	small, large := make([]int, 0, n), make([]int, 0, n)
	for i, w := range weights {
		scaled[i] = w / sum * float64(n)
		if scaled[i] < 1 {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		a.share[s], a.other[s] = uint32(scaled[s]*math.MaxUint32), uint32(l) //nolint:gosec // an index
		scaled[l] -= 1 - scaled[s]
		if scaled[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	for _, rest := range [2][]int{small, large} { // what rounding left over
		for _, i := range rest {
			a.share[i], a.other[i] = math.MaxUint32, uint32(i) //nolint:gosec // an index
		}
	}
	return a
}

// draw returns an index for a random number.
func (a alias) draw(r uint64) int {
	i := uint64(uint32(r)) * uint64(len(a.share)) >> 32 //nolint:gosec // the lower half
	if r>>32 > uint64(a.share[i]) {
		return int(a.other[i])
	}
	return int(i)
}
