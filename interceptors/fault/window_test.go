package fault_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcsteady/steady/interceptors/fault"
)

// TestWindows asks at the nanosecond before and at each change.
func TestWindows(t *testing.T) {
	const s = time.Second
	type at struct {
		after time.Duration
		want  bool
	}
	tests := map[string]struct {
		rule fault.Rule
		at   []at
	}{
		"always":     {fault.Rule{}, []at{{0, true}, {1000 * time.Hour, true}}},
		"from":       {fault.Rule{From: 5 * s}, []at{{0, false}, {5*s - 1, false}, {5 * s, true}, {1000 * s, true}}},
		"until":      {fault.Rule{Until: 5 * s}, []at{{0, true}, {5*s - 1, true}, {5 * s, false}, {1000 * s, false}}},
		"from until": {fault.Rule{From: 2 * s, Until: 5 * s}, []at{{2*s - 1, false}, {2 * s, true}, {5*s - 1, true}, {5 * s, false}}},
		"half of the time": {fault.Rule{Every: 10 * s, For: 5 * s}, []at{
			{0, true}, {5*s - 1, true}, {5 * s, false}, {10*s - 1, false}, {10 * s, true}, {15*s - 1, true}, {15 * s, false}, {1000 * s, true},
		}},
		"periods count from From": {fault.Rule{From: 3 * s, Until: 14 * s, Every: 10 * s, For: 5 * s}, []at{
			{3*s - 1, false}, {3 * s, true}, {8*s - 1, true}, {8 * s, false}, {13*s - 1, false}, {13 * s, true}, {14*s - 1, true}, {14 * s, false}, {24 * s, false},
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.rule.Share, tt.rule.Drop = 1, true
				time.Sleep(time.Minute) // the window counts from Enable, not from the beginning of time
				inj := enabled(t, 1, tt.rule)
				for range 2 { // and anew from each Enable
					start := time.Now()
					for _, p := range tt.at {
						time.Sleep(time.Until(start.Add(p.after)))
						_, got := inj.Decide(method)
						if got != p.want || inj.Snapshot().Rules[0].Active != p.want {
							t.Errorf("after %v: struck %v, want %v", p.after, got, p.want)
						}
					}
					inj.Disable()
					inj.Enable()
				}
			})
		})
	}
}

// TestWindowModel holds random windows against the plain words of the manual: the instant lies in the
// window, and less than For after the last beginning of a period.
func TestWindowModel(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 9))
		synctest.Test(t, func(t *testing.T) {
			rule := fault.Rule{Share: 1, Drop: true}
			span := func(n int) time.Duration { return time.Duration(1+r.IntN(n)) * time.Millisecond }
			if r.IntN(2) == 0 {
				rule.From = span(100)
			}
			if r.IntN(2) == 0 {
				rule.Until = rule.From + span(300)
			}
			if r.IntN(3) > 0 {
				rule.Every = span(50) + time.Millisecond
				rule.For = 1 + time.Duration(r.Int64N(int64(rule.Every)-1))
			}
			inj := enabled(t, seed, rule)
			start := time.Now()
			for range 300 {
				since := time.Since(start)
				want := since >= rule.From && (rule.Until == 0 || since < rule.Until)
				if rule.Every > 0 {
					begin := rule.From
					for begin+rule.Every <= since {
						begin += rule.Every
					}
					want = want && since < begin+rule.For
				}
				if _, got := inj.Decide(method); got != want {
					t.Fatalf("seed %d: %v after %v: %v, want %v", seed, rule, since, got, want)
				}
				time.Sleep(time.Duration(r.Int64N(int64(3 * time.Millisecond))))
			}
		})
	}
}
