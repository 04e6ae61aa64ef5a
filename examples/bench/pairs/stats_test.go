package pairs_test

import (
	"math"
	"testing"

	"github.com/grpcsteady/steady/examples/bench/pairs"
)

// same compares floats; two that are not numbers are the same.
func same(a, b float64) bool {
	return math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) < 1e-9
}

func TestMedianAndSpread(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		name           string
		give           []float64
		median, spread float64
	}{
		{"none", nil, nan, nan},
		{"one", []float64{7}, 7, 0},
		{"two", []float64{3, 1}, 2, 0.5}, // quartiles 1.5 and 2.5
		{"odd, unsorted", []float64{5, 1, 4, 2, 3}, 3, 2.0 / 3},
		{"even", []float64{1, 2, 3, 4}, 2.5, 1.5 / 2.5},
		{"one interrupted batch moves nothing", []float64{10, 10, 10, 10, 10, 10, 10, 9000}, 10, 0},
		{"negative median", []float64{-1, -2, -3}, -2, 0.5},
	} {
		give := append([]float64(nil), c.give...)
		if got := pairs.Median(give); !same(got, c.median) {
			t.Errorf("%s: median %v, want %v", c.name, got, c.median)
		}
		if got := pairs.Spread(give); !same(got, c.spread) {
			t.Errorf("%s: spread %v, want %v", c.name, got, c.spread)
		}
		for i := range give {
			if give[i] != c.give[i] {
				t.Errorf("%s: the values were reordered to %v", c.name, give)
				break
			}
		}
	}
}

func TestQuantile(t *testing.T) {
	values := []float64{40, 10, 20, 30}
	for q, want := range map[float64]float64{0: 10, 0.25: 17.5, 0.5: 25, 0.75: 32.5, 1: 40} {
		if got := pairs.Quantile(values, q); !same(got, want) {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
}

func TestRatiosLeaveUselessPairsOut(t *testing.T) {
	r := pairs.Result{
		Ours: []pairs.Cost{{NS: 1}, {NS: -1}, {NS: 6}, {NS: 0}, {NS: 5}},
		Peer: []pairs.Cost{{NS: 2}, {NS: 2}, {NS: 2}, {NS: 2}, {NS: 0}},
	}
	got := r.Ratios()
	if len(got) != 2 || got[0] != 0.5 || got[1] != 3 {
		t.Errorf("ratios %v, want 0.5 and 3", got)
	}
}

func TestMiddle(t *testing.T) {
	got := pairs.Middle([]pairs.Cost{
		{NS: 30, Allocs: 2.004, Bytes: 64.1}, {NS: 10, Allocs: 2.001, Bytes: 64}, {NS: 20, Allocs: 9, Bytes: 900},
	})
	if want := (pairs.Cost{NS: 20, Allocs: 2, Bytes: 64.1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := pairs.Middle([]pairs.Cost{{NS: -3, Allocs: -0.2, Bytes: -8}}); got != (pairs.Cost{NS: -3}) {
		t.Errorf("a part below zero: got %+v, want no objects and no bytes", got)
	}
}

func TestFactor(t *testing.T) {
	m := pairs.Machine{Bricks: []pairs.Brick{{NS: 20, Reference: 10}, {NS: 40, Reference: 5}}}
	if got := m.Factor(); !same(got, 4) {
		t.Errorf("factor %v, want 4, the geometric mean of 2 and 8", got)
	}
	if got := (pairs.Machine{}).Factor(); got != 1 {
		t.Errorf("factor without bricks %v, want 1", got)
	}
}
