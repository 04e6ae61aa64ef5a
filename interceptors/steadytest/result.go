package steadytest

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// Outcome is what became of one call of a [Load].
type Outcome struct {
	// Call is the number given to Load.Call.
	Call int
	// At is when the call began, counted from the start of the load.
	At time.Duration
	// Took is how long it took.
	Took time.Duration
	// Code is its status; codes.OK for success.
	Code codes.Code
}

// Result is what became of a [Load].
type Result struct {
	// Calls is how many calls were made, and OK how many of them returned nil.
	Calls, OK int
	// Errors counts the others by their code.
	Errors map[codes.Code]int
	// Took is the time from the first call to the last end.
	Took time.Duration
	// Outcomes are the calls in the order they began.
	Outcomes []Outcome

	latencies []time.Duration // sorted
}

func newResult(outcomes []Outcome, took time.Duration) *Result {
	slices.SortFunc(outcomes, func(a, b Outcome) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Call, b.Call))
	})
	r := &Result{Calls: len(outcomes), Errors: map[codes.Code]int{}, Took: took, Outcomes: outcomes}
	r.latencies = make([]time.Duration, len(outcomes))
	for i, o := range outcomes {
		r.latencies[i] = o.Took
		if o.Code == codes.OK {
			r.OK++
		} else {
			r.Errors[o.Code]++
		}
	}
	slices.Sort(r.latencies)
	return r
}

// Availability returns OK / Calls, from 0 to 1, and 1 for no calls.
func (r *Result) Availability() float64 {
	if r.Calls == 0 {
		return 1
	}
	return float64(r.OK) / float64(r.Calls)
}

// Quantile returns the latency that a share q of the calls did not exceed, failed ones included: 0.5 for the
// median, 0.99, 1 for the slowest. It is a latency that occurred (nearest rank), 0 for no calls. A q outside
// 0 to 1 is taken for the nearest of both.
func (r *Result) Quantile(q float64) time.Duration {
	n := len(r.latencies)
	if n == 0 {
		return 0
	}
	// Without the small step back, 0.9 * 10 would round up past 9.
	rank := int(math.Ceil(q*float64(n) - 1e-9))
	return r.latencies[min(max(rank, 1), n)-1]
}

// Between returns the part of the calls that began at from or later and before to, both counted from the
// start of the load: what happened during an outage, what after.
func (r *Result) Between(from, to time.Duration) *Result {
	var part []Outcome
	took := time.Duration(0)
	for _, o := range r.Outcomes {
		if o.At >= from && o.At < to {
			part = append(part, o)
			took = max(took, o.At+o.Took-from)
		}
	}
	return newResult(part, took)
}

// String is one line for logs: "1000 calls, 98.70 % ok, p50 2ms, p99 301ms, max 500ms; DeadlineExceeded 3,
// Unavailable 10".
func (r *Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d calls, %.2f %% ok, p50 %v, p99 %v, max %v",
		r.Calls, 100*r.Availability(), r.Quantile(0.5), r.Quantile(0.99), r.Quantile(1))
	sep := "; "
	for _, code := range slices.SortedFunc(maps.Keys(r.Errors), func(a, b codes.Code) int {
		return strings.Compare(a.String(), b.String())
	}) {
		fmt.Fprintf(&b, "%s%v %d", sep, code, r.Errors[code])
		sep = ", "
	}
	return b.String()
}
