package pairs_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/grpcsteady/steady/examples/bench/pairs"
)

// result is one without noise: ours takes 60 ns and the peer 120, on a machine as fast as the reference.
func result(change ...func(*pairs.Result)) pairs.Result {
	r := pairs.Result{
		Row:     pairs.Row{Name: "job", Peer: "someone", Target: pairs.Target{NS: new(70.0), Allocs: new(1.0)}},
		Machine: pairs.Machine{Bricks: []pairs.Brick{{Name: "brick", NS: 10, Reference: 10}}, Speedup: 1.9},
	}
	for range 11 {
		r.Ours = append(r.Ours, pairs.Cost{NS: 60, Allocs: 1, Bytes: 48})
		r.Peer = append(r.Peer, pairs.Cost{NS: 120, Allocs: 3, Bytes: 96})
	}
	for _, f := range change {
		f(&r)
	}
	return r
}

func TestJudge(t *testing.T) {
	slow := func(r *pairs.Result) {
		for i := range r.Ours {
			r.Ours[i].NS = 80
		}
	}
	scattered := func(r *pairs.Result) {
		for i := range r.Ours {
			r.Ours[i].NS = 60 + float64(i)*10
		}
	}
	greedy := func(r *pairs.Result) {
		for i := range r.Ours {
			r.Ours[i].Allocs = 2
		}
	}
	threads := func(n int, speedup float64) func(*pairs.Result) {
		return func(r *pairs.Result) { r.Row.Threads, r.Machine.Speedup = n, speedup }
	}
	machine := func(ns, spread float64) func(*pairs.Result) {
		return func(r *pairs.Result) { r.Machine.Bricks[0].NS, r.Machine.Bricks[0].Spread = ns, spread }
	}
	few := func(r *pairs.Result) { r.Ours, r.Peer = r.Ours[:9], r.Peer[:9] }
	target := func(tt pairs.Target) func(*pairs.Result) { return func(r *pairs.Result) { r.Row.Target = tt } }

	for _, c := range []struct {
		name string
		give pairs.Result
		word string
		why  string // contained; "": there is no reason to give
	}{
		{"within budget", result(), "yes", ""},
		{"too slow", result(slow), "NO", "80 ns, want 70 at most"},
		{"a slow machine stretches the budget", result(slow, machine(12, 0)), "yes", ""},
		{"a fast machine shrinks it", result(machine(5, 0)), "NO", "60 ns, want 35 at most"},
		{"pairs scatter", result(scattered), "refused", "ratios of the pairs"},
		{"a brick scatters", result(machine(10, 0.3)), "refused", "brick spreads 30 %"},
		{"too few pairs", result(few), "refused", "9 usable pairs"},
		{"no second core", result(threads(2, 1.1)), "refused", "two threads did 1.10 times"},
		{"two cores", result(threads(2, 1.6)), "yes", ""},
		{"one thread needs no second core", result(threads(1, 0)), "yes", ""},
		{"too many objects", result(greedy), "NO", "2 heap objects, want 1 at most"},
		{"objects are judged on a noisy machine too", result(greedy, scattered), "NO", "heap objects"},
		{"only objects have a target", result(scattered, target(pairs.Target{Allocs: new(1.0)})), "yes", ""},
		{"only time has a target", result(greedy, target(pairs.Target{NS: new(60.0)})), "yes", ""},
		{"no target", result(scattered, target(pairs.Target{})), "-", ""},
		{"nothing measured", pairs.Result{Row: pairs.Row{Target: pairs.Target{NS: new(1.0)}}}, "refused", "0 usable pairs"},
	} {
		v := pairs.Judge(c.give)
		if got := pairs.Word(c.give.Row, v); got != c.word {
			t.Errorf("%s: %s (%s), want %s", c.name, got, v.Why, c.word)
		}
		if (c.why == "") != (v.Why == "") || !strings.Contains(v.Why, c.why) {
			t.Errorf("%s: reason %q, want %q in it", c.name, v.Why, c.why)
		}
	}
	if v := pairs.Judge(result()); v.Ratio != 0.5 || v.Spread != 0 || v.Ours.NS != 60 || v.Peer.Allocs != 3 || v.Limit != 70 {
		t.Errorf("figures are %+v", v)
	}
}

var keys = []string{
	"holds", "ours_allocs", "ours_ns", "peer", "peer_allocs", "peer_ns", "ratio", "row", "spread", "target_allocs", "target_ns",
}

func TestJSON(t *testing.T) {
	noTarget := func(r *pairs.Result) { r.Row.Target = pairs.Target{} }
	empty := pairs.Result{Row: pairs.Row{Name: "job", Peer: "someone"}}
	for _, c := range []struct {
		name string
		give pairs.Result
		want map[string]any // null where missing
	}{
		{"full", result(), map[string]any{
			"row": "job", "peer": "someone", "ours_ns": 60.0, "peer_ns": 120.0, "ratio": 0.5, "spread": 0.0,
			"ours_allocs": 1.0, "peer_allocs": 3.0, "target_ns": 70.0, "target_allocs": 1.0, "holds": true,
		}},
		{"without a target", result(noTarget), map[string]any{
			"row": "job", "peer": "someone", "ours_ns": 60.0, "peer_ns": 120.0, "ratio": 0.5, "spread": 0.0,
			"ours_allocs": 1.0, "peer_allocs": 3.0,
		}},
		{"without numbers", empty, map[string]any{"row": "job", "peer": "someone"}},
	} {
		var out bytes.Buffer
		if err := pairs.WriteJSON(&out, c.give, pairs.Judge(c.give)); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%s: %q, want one line", c.name, out.String())
		}
		var got map[string]any
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatalf("%s: %v in %s", c.name, err, out.String())
		}
		if have := slices.Sorted(maps.Keys(got)); !slices.Equal(have, keys) {
			t.Errorf("%s: keys %v, want %v", c.name, have, keys)
		}
		for _, k := range keys {
			if c.name == "without numbers" && (k == "ours_allocs" || k == "peer_allocs") {
				continue // 0 or null, nothing was counted
			}
			if got[k] != c.want[k] {
				t.Errorf("%s: %s is %v, want %v", c.name, k, got[k], c.want[k])
			}
		}
	}
}

func TestLineSaysWhoIsFaster(t *testing.T) {
	peerWins := func(r *pairs.Result) { r.Ours, r.Peer = r.Peer, r.Ours }
	level := func(r *pairs.Result) { r.Ours = r.Peer }
	noisy := func(r *pairs.Result) { r.Machine.Bricks[0].Spread = math.Inf(1) }
	for want, r := range map[string]pairs.Result{
		"ours, 2.0 times":  result(),
		"PEER, 2.0 times":  result(peerWins),
		"even":             result(level),
		"too noisy to say": result(noisy),
	} {
		var out bytes.Buffer
		if err := pairs.WriteLine(&out, r, pairs.Judge(r)); err != nil {
			t.Fatal(err)
		}
		line := strings.TrimSpace(out.String())
		if !strings.HasPrefix(line, "job ") || !strings.HasSuffix(line, want) {
			t.Errorf("line %q, want it to end in %q", line, want)
		}
	}
}
