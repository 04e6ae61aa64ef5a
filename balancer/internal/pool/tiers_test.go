package pool

import (
	"maps"
	"math"
	"testing"
)

func TestSharesOfGroups(t *testing.T) {
	of := func(available float64) tier { return tier{weight: 10, available: available} }
	for _, tt := range []struct {
		name   string
		groups map[int]tier
		want   map[int]float64
	}{
		{"all well", map[int]tier{0: of(10), 1: of(10)}, map[int]float64{0: 1, 1: 0}},
		{"enough", map[int]tier{0: of(7), 1: of(10)}, map[int]float64{0: 1, 1: 0}},
		{"half of what is needed", map[int]tier{0: of(3.5), 1: of(10)}, map[int]float64{0: 0.5, 1: 0.5}},
		{"gone", map[int]tier{0: of(0), 1: of(10)}, map[int]float64{0: 0, 1: 1}},
		{"three groups", map[int]tier{0: of(3.5), 2: of(1.75), 5: of(10)}, map[int]float64{0: 0.5, 2: 0.25, 5: 0.25}},
		{"not enough anywhere", map[int]tier{0: of(3.5), 1: of(1.75)}, map[int]float64{0: 2.0 / 3, 1: 1.0 / 3}},
		{"nobody", map[int]tier{0: of(0), 1: of(0)}, map[int]float64{0: 0, 1: 0}},
	} {
		got := shares(tt.groups, 0.7)
		if !maps.EqualFunc(got, tt.want, func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
