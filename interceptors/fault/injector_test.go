package fault_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcsteady/steady/interceptors/fault"
)

var quiet = fault.WithLogger(slog.New(slog.DiscardHandler))

const method = "/orders.v1.Orders/Get"

// enabled returns an injector that is on.
func enabled(t testing.TB, seed uint64, rules ...fault.Rule) *fault.Injector {
	t.Helper()
	inj, err := fault.New(seed, rules, quiet)
	if err != nil {
		t.Fatal(err)
	}
	inj.Enable()
	t.Cleanup(inj.Disable)
	return inj
}

func TestOffByDefault(t *testing.T) {
	inj, err := fault.New(1, []fault.Rule{{Share: 1, Drop: true}}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	decide := func() bool { _, ok := inj.Decide(method); return ok }
	if decide() || inj.Enabled() || inj.Snapshot().Enabled {
		t.Fatal("on without Enable")
	}
	inj.Enable()
	if !decide() || !inj.Enabled() {
		t.Fatal("off after Enable")
	}
	inj.Disable()
	if decide() || inj.Enabled() {
		t.Fatal("on after Disable")
	}
	if got := inj.Snapshot().Rules[0]; got.Matched != 1 || got.Struck != 1 || got.Active {
		t.Fatalf("the run that is over left %+v", got)
	}
}

func TestMethods(t *testing.T) {
	tests := []struct {
		patterns []string
		method   string
		want     bool
	}{
		{nil, "/a.B/C", true},
		{nil, "", true},
		{[]string{""}, "/a.B/C", true},
		{[]string{"/a.B/C"}, "/a.B/C", true},
		{[]string{"/a.B/C"}, "/a.B/Cc", false},
		{[]string{"/a.B/C"}, "/a.B/", false},
		{[]string{"/a.B/"}, "/a.B/C", true},
		{[]string{"/a.B/"}, "/a.Bb/C", false},
		{[]string{"/a.B/"}, "/a.B", false},
		{[]string{"/x/Y", "/a.B/"}, "/a.B/C", true},
		{[]string{"/x/Y", "/a.B/"}, "/x/Z", false},
		{[]string{"/a.B/"}, "", false},
		{[]string{"/a.B/"}, "no slash", false},
		{[]string{"/a.B/"}, "/", false},
	}
	for _, tt := range tests {
		inj := enabled(t, 1, fault.Rule{Methods: tt.patterns, Share: 1, Drop: true})
		if _, got := inj.Decide(tt.method); got != tt.want {
			t.Errorf("%q for %q: %v", tt.patterns, tt.method, got)
		}
	}
}

// TestSameSeedSameFaults runs the same calls under equal, renewed and other injectors.
func TestSameSeedSameFaults(t *testing.T) {
	rules := []fault.Rule{
		{Name: "slow", Share: 0.3, Delay: time.Second, DelayJitter: time.Second},
		{Name: "sick", Methods: []string{"/a/"}, Share: 0.5, Code: 14},
		{Name: "gone", Share: 0.1, Drop: true},
	}
	calls := func(inj *fault.Injector) []fault.Fault {
		var got []fault.Fault
		for i := range 1000 {
			f, _ := inj.Decide([]string{"/a/M", "/b/M"}[i*i%7%2])
			got = append(got, f)
		}
		return got
	}
	inj := enabled(t, 7, rules...)
	first := calls(inj)
	if again := calls(enabled(t, 7, rules...)); !slices.Equal(first, again) {
		t.Error("another injector with the same seed decides otherwise")
	}
	if on := calls(inj); slices.Equal(first, on) {
		t.Error("the draws repeat themselves")
	}
	inj.Disable()
	inj.Enable()
	if again := calls(inj); !slices.Equal(first, again) {
		t.Error("the same injector decides otherwise in its second run")
	}
	if other := calls(enabled(t, 8, rules...)); slices.Equal(first, other) {
		t.Error("another seed decides the same")
	}
}

// TestDrawsAreTheRulesOwn: calls of other methods, and rules for them, shift nothing.
func TestDrawsAreTheRulesOwn(t *testing.T) {
	sick := fault.Rule{Name: "sick", Methods: []string{"/a/"}, Share: 0.5, Code: 14}
	alone := enabled(t, 1, sick)
	mixed := enabled(t, 1, fault.Rule{Name: "other", Methods: []string{"/b/"}, Share: 0.5, Drop: true}, sick)
	struck := 0
	for i := range 500 {
		want, _ := alone.Decide("/a/M")
		for range i % 3 {
			mixed.Decide("/b/M")
		}
		got, ok := mixed.Decide("/a/M")
		if got != want {
			t.Fatalf("call %d: %+v, alone %+v", i, got, want)
		}
		if ok {
			struck++
		}
	}
	if struck == 0 || struck == 500 {
		t.Fatalf("%d of 500 struck at a share of a half", struck)
	}
}

// TestShare holds the share within four standard deviations, for fixed seeds.
func TestShare(t *testing.T) {
	const calls = 20_000
	for _, share := range []float64{0.001, 0.02, 0.1, 0.5, 0.9, 1} {
		for seed := range uint64(5) {
			inj := enabled(t, seed, fault.Rule{Share: share, Code: 14})
			for range calls {
				inj.Decide(method)
			}
			got := inj.Snapshot().Rules[0]
			diff := float64(got.Struck) - share*calls
			if got.Matched != calls || diff*diff > 16*calls*share*(1-share) {
				t.Errorf("share %v, seed %d: struck %d of %d", share, seed, got.Struck, got.Matched)
			}
		}
	}
}

func TestJitterIsEven(t *testing.T) {
	const calls = 20_000
	inj := enabled(t, 3, fault.Rule{Share: 1, Delay: time.Second, DelayJitter: time.Second})
	var tenths [10]int
	for range calls {
		f, _ := inj.Decide(method)
		if f.Delay < time.Second || f.Delay >= 2*time.Second {
			t.Fatalf("delay %v", f.Delay)
		}
		tenths[(f.Delay-time.Second)/(100*time.Millisecond)]++
	}
	for i, n := range tenths {
		if n < calls/10*9/10 || n > calls/10*11/10 {
			t.Errorf("%d of %d delays in tenth %d", n, calls, i)
		}
	}
}

func TestFirstThatStrikesWins(t *testing.T) {
	inj := enabled(t, 1,
		fault.Rule{Name: "half", Share: 0.5, Code: 14, Message: "half"},
		fault.Rule{Name: "rest", Share: 1, Drop: true},
		fault.Rule{Name: "never", Share: 1, Code: 13},
	)
	for range 1000 {
		f, ok := inj.Decide(method)
		half := fault.Fault{Rule: "half", Code: 14, Message: "half"}
		rest := fault.Fault{Rule: "rest", Drop: true}
		if !ok || (f != half && f != rest) {
			t.Fatalf("%+v, %v", f, ok)
		}
	}
	s := inj.Snapshot().Rules
	if s[0].Matched != 1000 || s[1].Matched != 1000-s[0].Struck || s[1].Struck != s[1].Matched || s[2].Matched != 0 {
		t.Fatalf("%+v", s)
	}
}

func TestLoud(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		inj, err := fault.New(42, []fault.Rule{
			{Name: "slow one", Share: 0.5, Delay: time.Second},
			{Name: "sick one", Methods: []string{"/a/"}, Share: 1, Code: 14},
		}, fault.WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
		if err != nil {
			t.Fatal(err)
		}
		lines := func(what string, want int, parts ...string) {
			t.Helper()
			text := out.String()
			out.Reset()
			if got := strings.Count(text, "\n"); got != want {
				t.Fatalf("%s: %d lines, want %d:\n%s", what, got, want, text)
			}
			for _, part := range parts {
				if !strings.Contains(text, part) {
					t.Errorf("%s: %q does not say %q", what, text, part)
				}
			}
		}
		lines("New", 0)
		inj.Disable()
		lines("Disable of what is off", 0)
		inj.Enable()
		lines("Enable", 1, "level=WARN", "FAULT INJECTION IS ON", "seed=42", "slow one", "sick one", "50%", "UNAVAILABLE")
		inj.Enable()
		lines("Enable of what is on", 0)
		time.Sleep(time.Minute)
		for range 3 {
			inj.Decide("/a/M")
		}
		s := inj.Snapshot().Rules
		inj.Disable()
		lines("Disable", 1, "level=WARN", "off", "after=1m0s",
			fmt.Sprintf("struck %d of 3", s[0].Struck), fmt.Sprintf("struck %d of %d", s[1].Struck, s[1].Matched))
		inj.Disable()
		lines("Disable again", 0)
	})
}

func TestDefaultLogger(t *testing.T) {
	var text bytes.Buffer
	old, writer, flags := slog.Default(), log.Writer(), log.Flags()
	t.Cleanup(func() {
		slog.SetDefault(old)
		log.SetOutput(writer) // SetDefault redirects package log as well, and does not bring it back
		log.SetFlags(flags)
	})
	slog.SetDefault(slog.New(slog.NewTextHandler(&text, nil)))
	inj, err := fault.New(1, []fault.Rule{{Name: "x", Share: 1, Drop: true}}, fault.WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	inj.Enable()
	if !strings.Contains(text.String(), "FAULT INJECTION IS ON") {
		t.Fatalf("logged %q", text.String())
	}
	inj.Disable()
}

// reentrant is a handler that looks at the injector which logs.
type reentrant struct {
	slog.Handler
	look func()
}

func (h *reentrant) Enabled(ctx context.Context, l slog.Level) bool {
	h.look()
	return h.Handler.Enabled(ctx, l)
}

func TestLoggerMayCallBack(t *testing.T) {
	var inj *fault.Injector
	h := &reentrant{slog.DiscardHandler, func() { inj.Snapshot(); inj.Enabled(); inj.Decide(method) }}
	inj, err := fault.New(1, []fault.Rule{{Share: 1, Drop: true}}, fault.WithLogger(slog.New(h)))
	if err != nil {
		t.Fatal(err)
	}
	inj.Enable()
	inj.Disable()
}

// TestRulesAreCopied: neither what New was given nor what Snapshot returns leads back inside.
func TestRulesAreCopied(t *testing.T) {
	rules := []fault.Rule{{Methods: []string{"/a/"}, Share: 1, Drop: true}}
	inj := enabled(t, 1, rules...)
	rules[0].Methods[0], rules[0].Share = "/b/", 0
	inj.Snapshot().Rules[0].Rule.Methods[0] = "/b/"
	if _, ok := inj.Decide("/a/M"); !ok {
		t.Error("the rule has changed")
	}
	if got := inj.Snapshot().Rules[0].Rule.Methods[0]; got != "/a/" {
		t.Errorf("the snapshot says %q", got)
	}
}

// TestConcurrent decides from many goroutines while others switch and look. Then, with nobody switching,
// the number struck is what one goroutine alone would get, since the draws are the same.
func TestConcurrent(t *testing.T) {
	rule := fault.Rule{Share: 0.3, Delay: time.Second, DelayJitter: time.Second, Code: 14}
	inj := enabled(t, 5, rule)
	load := func(goroutines, each int) *sync.WaitGroup {
		var wg sync.WaitGroup
		for range goroutines {
			wg.Go(func() {
				for range each {
					inj.Decide(method)
				}
			})
		}
		return &wg
	}
	wg := load(8, 1000)
	for range 100 {
		inj.Disable()
		inj.Enable()
		if s := inj.Snapshot().Rules[0]; s.Struck > s.Matched {
			t.Fatalf("struck %d of %d", s.Struck, s.Matched)
		}
	}
	wg.Wait()

	inj.Disable()
	inj.Enable()
	load(8, 1000).Wait()
	many := inj.Snapshot().Rules[0]
	inj.Disable()
	inj.Enable()
	load(1, 8000).Wait()
	if one := inj.Snapshot().Rules[0]; one.Struck != many.Struck || one.Matched != many.Matched || one.Matched != 8000 {
		t.Fatalf("alone %d of %d, together %d of %d", one.Struck, one.Matched, many.Struck, many.Matched)
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	inj := enabled(t, 1, fault.Rule{Methods: []string{"/orders.v1.Orders/"}, Share: 0.5, Delay: 1, DelayJitter: time.Second, Code: 14, Message: "x"})
	for _, state := range []string{"on", "off"} {
		if n := testing.AllocsPerRun(1000, func() { inj.Decide(method) }); n != 0 {
			t.Errorf("%s: %v allocations", state, n)
		}
		inj.Disable()
	}
}

func BenchmarkDecide(b *testing.B) {
	inj := enabled(b, 1,
		fault.Rule{Methods: []string{"/a/"}, Share: 0.5, Drop: true},
		fault.Rule{Methods: []string{"/orders.v1.Orders/"}, Share: 0.5, Code: 14},
	)
	for _, state := range []string{"on", "off"} {
		b.Run(state, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				inj.Decide(method)
			}
		})
		if state == "on" {
			inj.Disable()
		}
	}
}
