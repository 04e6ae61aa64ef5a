package weighted

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func count(o order, from, picks uint64, n int) []int {
	counts := make([]int, n)
	for k := range picks {
		counts[o.at(from+k)]++
	}
	return counts
}

func TestWholeWeightsAreExactInEveryCycle(t *testing.T) {
	for _, tt := range []struct {
		weights []float64
		want    []int // in as many picks as they sum up to
	}{
		{[]float64{3, 2, 1}, []int{3, 2, 1}},
		{[]float64{5, 3, 2}, []int{5, 3, 2}},
		{[]float64{50, 30, 20}, []int{5, 3, 2}},
		{[]float64{1, 1, 1, 1}, []int{1, 1, 1, 1}},
		{[]float64{0.3, 0.3}, []int{1, 1}},
		{[]float64{7}, []int{1}},
		{[]float64{1, 1000}, []int{1, 1000}},
	} {
		o := newOrder(tt.weights)
		sum := 0
		for _, n := range tt.want {
			sum += n
		}
		for from := range uint64(2 * sum) {
			if got := count(o, from, uint64(sum), len(tt.want)); !slices.Equal(got, tt.want) {
				t.Fatalf("weights %v: %v from pick %d, want %v", tt.weights, got, from, tt.want)
			}
		}
	}
}

// TestNoBursts: the heaviest is spread over the cycle.
func TestNoBursts(t *testing.T) {
	o := newOrder([]float64{5, 1, 1})
	row, longest := 0, 0
	for n := range uint64(70) {
		if o.at(n) != 0 {
			row = 0
			continue
		}
		row++
		longest = max(longest, row)
	}
	if longest > 4 { // of five: the cycle is a a b a c a a, and meets its own beginning
		t.Errorf("the heaviest has %d turns in a row", longest)
	}
}

// TestAnyWindowIsInProportion: in any window of picks each count is within 2 of its share, as far as the theory
// of the golden ratio goes; 3 is what random weights have been seen to reach in long windows.
func TestAnyWindowIsInProportion(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		n := 2 + random.IntN(20)
		weights := make([]float64, n)
		sum := 0.0
		for i := range weights {
			weights[i] = math.Exp(4 * random.NormFloat64())
			sum += weights[i]
		}
		s := newSequence(weights)
		window := uint64(10 + random.IntN(500))
		from := random.Uint64()
		for i, got := range count(s, from, window, n) {
			if want := weights[i] / sum * float64(window); math.Abs(float64(got)-want) > 3 {
				t.Fatalf("weights %v: %d of %d picks from %d for the one of %g, want %.1f", weights, got, window, from, weights[i], want)
			}
		}
	}
}

func TestSixtyPicksOfThreeTwoOne(t *testing.T) {
	for _, o := range []order{newOrder([]float64{3, 2, 1}), newSequence([]float64{3, 2, 1})} {
		for from := range uint64(1000) {
			got := count(o, from, 60, 3)
			for i, want := range []int{30, 20, 10} {
				if d := got[i] - want; d < -2 || d > 2 {
					t.Fatalf("%T: %v in 60 picks from %d", o, got, from)
				}
			}
		}
		got := count(o, 0, 60_000, 3)
		for i, want := range []float64{30_000, 20_000, 10_000} {
			if math.Abs(float64(got[i])-want) > want/100 {
				t.Errorf("%T: %v in 60,000 picks", o, got)
			}
		}
	}
}

// TestNoWeightIsRoundedToNever: one weight of ten thousand and ten thousand of a hundredth.
func TestNoWeightIsRoundedToNever(t *testing.T) {
	weights := []float64{1e6}
	for range 1000 {
		weights = append(weights, 0.5)
	}
	s := newSequence(weights)
	seen := make(map[int]bool)
	for n := range uint64(8_000_000) {
		seen[s.at(n)] = true
	}
	if len(seen) != len(weights) {
		t.Errorf("%d of %d were ever picked", len(seen), len(weights))
	}
	// What no number of picks could show: wherever the smallest stands, it has an interval, and so has everybody else.
	for _, weights := range [][]float64{
		{1e300, 1e-300, 1e300}, {1e300, 1e-300, 1e-300}, {1e-300, 1e-300, 1e300}, {math.MaxFloat64, math.MaxFloat64, 1, 1, 1},
		{1, 5e-324, 5e-324, 5e-324}, append(slices.Repeat([]float64{math.MaxUint32}, 10_000), 1, 1, 1),
		append([]float64{math.MaxUint32}, slices.Repeat([]float64{1e-9}, 10_000)...),
	} {
		tiny := newSequence(weights)
		before := uint64(0)
		for i, end := range tiny.bounds {
			if i == len(tiny.bounds)-1 {
				end = math.MaxUint64
			}
			if end-before < 1<<17 {
				t.Errorf("%d weights from %g to %g: number %d has an interval of %d", len(weights), weights[0], weights[len(weights)-1], i, end-before)
				break
			}
			before = end
		}
	}
}

// TestSequenceFindsTheRightInterval compares the guided search with a plain one.
func TestSequenceFindsTheRightInterval(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		weights := make([]float64, 1+random.IntN(300))
		for i := range weights {
			weights[i] = math.Exp(8 * random.NormFloat64())
		}
		s := newSequence(weights)
		for range 300 {
			n := random.Uint64()
			want := 0
			for want < len(weights)-1 && s.bounds[want] <= n*golden {
				want++
			}
			if got := s.at(n); got != want {
				t.Fatalf("pick %d of %d weights: %d, want %d", n, len(weights), got, want)
			}
		}
	}
}

func BenchmarkOrder(b *testing.B) {
	for name, weights := range map[string][]float64{
		"cycle3": {3, 2, 1}, "sequence3": {3.1, 2.2, 1}, "skewed10000": append([]float64{1e9}, make([]float64, 9999)...),
	} {
		for i := range weights {
			if weights[i] == 0 {
				weights[i] = 1.5
			}
		}
		o := newOrder(weights)
		b.Run(name, func(b *testing.B) {
			n := uint64(0)
			for b.Loop() {
				o.at(n)
				n++
			}
		})
	}
}
