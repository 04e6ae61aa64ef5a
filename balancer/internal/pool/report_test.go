package pool

import (
	"math"
	"testing"
	"time"
)

// TestOneReportMovesLittle: whatever servers say of themselves, finite or not quite, nobody is starved by it.
func TestOneReportMovesLittle(t *testing.T) {
	const huge = math.MaxFloat64
	s := Reports{Expiry: time.Minute}
	for _, tt := range []struct {
		name    string
		reports []float64 // 0: none
		want    []float64
	}{
		{"nobody reports", []float64{0, 0, 0}, []float64{1, 1, 1}},
		{"one reports", []float64{300, 0, 0}, []float64{1, 1, 1}},
		{"three report", []float64{50, 100, 200}, []float64{0.5, 1, 2}},
		{"one has no report", []float64{50, 0, 150}, []float64{0.5, 1, 1.5}},
		{"one boasts", []float64{100, 100, huge}, []float64{1, 1, 10}},
		{"two boast", []float64{huge, huge, 0}, []float64{1, 1, 1}},
		{"one is nearly dead", []float64{100, 100, 1e-300}, []float64{1, 1, 0.1}},
	} {
		p, _ := set(len(tt.reports), Settings{}, one)
		for i, w := range tt.reports {
			if w != 0 {
				p.list[i].report.Store(&report{weight: w, first: 0, last: 0})
			}
		}
		factor, _ := reported(p.list, int64(time.Second), s)
		for i, want := range tt.want {
			if got := factor(p.list[i]); math.Abs(got-want) > 1e-9 {
				t.Errorf("%s: the factor of %d is %g, want %g", tt.name, i, got, want)
			}
		}
	}
}
