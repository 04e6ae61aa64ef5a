package pairs

import (
	"fmt"
	"math"
)

const (
	// MaxSpread is how far the ratios of the pairs, or one brick, may scatter (see [Spread]) before times
	// are not judged.
	MaxSpread = 0.25

	// MinSpeedup is how much more than one thread two must get done before times of a row with several
	// threads are judged: below it, the machine has no second core to give.
	MinSpeedup = 1.5

	// allocSlack is how many objects above its target a row may be: what the runtime allocates by itself.
	allocSlack = 0.05
)

// Verdict is what a result says about its budget.
type Verdict struct {
	Ours, Peer Cost    // medians
	Ratio      float64 // median of the ratios of the pairs; below 1, ours is faster
	Spread     float64 // of these ratios
	Limit      float64 // nanoseconds: the target times the factor of the machine; NaN without a target
	Holds      *bool   // nil: refused, or there is no target
	Why        string  // the reason of a refusal or of a budget that does not hold; else ""
}

// Noise returns why the times of a result are not to be trusted, or "".
func (r Result) Noise() string {
	ratios := r.Ratios()
	if len(ratios) < MinPairs {
		return fmt.Sprintf("%d usable pairs of %d, want %d", len(ratios), len(r.Ours), MinPairs)
	}
	if s := Spread(ratios); s > MaxSpread {
		return fmt.Sprintf("ratios of the pairs spread %.0f %%, want %.0f %% at most", s*100, MaxSpread*100)
	}
	for _, b := range r.Machine.Bricks {
		if b.Spread > MaxSpread {
			return fmt.Sprintf("%s spreads %.0f %%, want %.0f %% at most", b.Name, b.Spread*100, MaxSpread*100)
		}
	}
	if s := r.Machine.Speedup; r.Row.threads() > 1 && s < MinSpeedup {
		return fmt.Sprintf("two threads did %.2f times the work of one, want %.1f", s, MinSpeedup)
	}
	return ""
}

// Judge compares a result with its budget. Heap objects are counted, not timed, so that a row which makes
// too many of them fails on any machine. Times are judged only without [Result.Noise].
func Judge(r Result) Verdict {
	ratios := r.Ratios()
	v := Verdict{
		Ours: Middle(r.Ours), Peer: Middle(r.Peer),
		Ratio: Median(ratios), Spread: Spread(ratios), Limit: math.NaN(),
	}
	t := r.Row.Target
	if t.NS != nil {
		v.Limit = *t.NS * r.Machine.Factor()
	}
	if t.Allocs != nil && v.Ours.Allocs > *t.Allocs+allocSlack {
		v.Holds = new(false)
		v.Why = fmt.Sprintf("%s heap objects, want %s at most", short(v.Ours.Allocs), short(*t.Allocs))
		return v
	}
	if t.NS == nil {
		if t.Allocs != nil {
			v.Holds = new(true)
		}
		return v
	}
	if noise := r.Noise(); noise != "" {
		v.Why = "refused: " + noise
		return v
	}
	v.Holds = new(v.Ours.NS <= v.Limit)
	if !*v.Holds {
		v.Why = fmt.Sprintf("%s ns, want %s at most", short(v.Ours.NS), short(v.Limit))
	}
	return v
}
