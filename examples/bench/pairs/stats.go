package pairs

import (
	"math"
	"slices"
)

// Quantile returns the value below which the share q of the values lies, interpolated linearly between
// neighbours (the default of R and NumPy). NaN without values.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	at := q * float64(len(sorted)-1)
	low := int(math.Floor(at))
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

// Median returns the value in the middle. NaN without values.
func Median(values []float64) float64 { return Quantile(values, 0.5) }

// Spread is the interquartile range as a share of the median: half of all values lie within a span of that
// size. It ignores the odd batch that something else interrupted. NaN without values.
func Spread(values []float64) float64 {
	return (Quantile(values, 0.75) - Quantile(values, 0.25)) / math.Abs(Median(values))
}

// Ratios returns ours divided by the peer's of each pair: times, or bytes where things are kept. A pair in which noise made the cost of a part zero
// or negative says nothing and is left out.
func (r Result) Ratios() []float64 {
	var out []float64
	for i := range min(len(r.Ours), len(r.Peer)) {
		a, b := r.Ours[i].NS, r.Peer[i].NS
		if r.Row.Keeps > 0 {
			a, b = r.Ours[i].Held, r.Peer[i].Held
		}
		if a > 0 && b > 0 {
			out = append(out, a/b)
		}
	}
	return out
}

// Middle returns the median cost, each figure on its own. Heap objects and bytes of a part are never below
// zero, and are rounded to hundredths: a timer of the runtime may allocate in any batch.
func Middle(costs []Cost) Cost {
	pick := func(f func(Cost) float64) float64 {
		values := make([]float64, len(costs))
		for i, c := range costs {
			values[i] = f(c)
		}
		return Median(values)
	}
	rounded := func(v float64) float64 { return max(math.Round(v*100)/100, 0) }
	return Cost{
		NS:     pick(func(c Cost) float64 { return c.NS }),
		Allocs: rounded(pick(func(c Cost) float64 { return c.Allocs })),
		Bytes:  rounded(pick(func(c Cost) float64 { return c.Bytes })),
		Held:   rounded(pick(func(c Cost) float64 { return c.Held })),
	}
}
