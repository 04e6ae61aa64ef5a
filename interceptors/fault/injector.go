package fault

import (
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Injector decides which calls get a fault. Its methods may be called from any goroutine.
type Injector struct {
	seed   uint64
	rules  []compiled
	logger *slog.Logger // nil: slog's default at the time

	on atomic.Pointer[run] // the run under way; nil: off

	mu   sync.Mutex // guards the change between on and off, and last
	last *run       // the latest run, over or not; nil before the first
}

// compiled is a rule in the form in which it is looked up. It never changes.
type compiled struct {
	rule    Rule
	salt    uint64 // from the seed and the name
	all     bool
	methods map[string]struct{} // patterns of methods and of services, which end in a slash
}

// run is the time from Enable to Disable. Each begins anew with windows, draws and counters.
type run struct {
	start  time.Time
	counts []count // one for each rule
}

// count fills one cache line, so that rules do not disturb each other.
type count struct {
	matched, struck atomic.Uint64
	_               [64 - 16]byte
}

// Option changes how an Injector behaves.
type Option func(*Injector)

// WithLogger sets where Enable and Disable write their warnings. Default, and for nil: slog.Default() at
// the time of the call.
func WithLogger(l *slog.Logger) Option { return func(i *Injector) { i.logger = l } }

// New returns an Injector that is off until [Injector.Enable]. With the same seed and rules, the same calls
// in the same order get the same faults. The rules are copied. An error joins all findings, each with the
// rule's name, the field, its value and what is allowed.
func New(seed uint64, rules []Rule, opts ...Option) (*Injector, error) {
	i := &Injector{seed: seed, rules: make([]compiled, 0, len(rules))}
	var errs []error
	names := make(map[string]struct{}, len(rules))
	for n, r := range rules {
		if r.Name == "" {
			r.Name = fmt.Sprintf("rule %d", n+1)
		}
		if _, twice := names[r.Name]; twice {
			errs = append(errs, fmt.Errorf("fault %q: Name: stands in two rules, want each once", r.Name))
		}
		names[r.Name] = struct{}{}
		if err := r.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("fault %q: %w", r.Name, err))
		}
		i.rules = append(i.rules, compile(seed, r))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, opt := range opts {
		opt(i)
	}
	return i, nil
}

func compile(seed uint64, r Rule) compiled {
	r.Methods = slices.Clone(r.Methods)
	h := fnv.New64a()
	_, _ = h.Write([]byte(r.Name)) // a hash never fails
	c := compiled{rule: r, salt: mix(seed ^ mix(h.Sum64())), all: len(r.Methods) == 0}
	c.methods = make(map[string]struct{}, len(r.Methods))
	for _, p := range r.Methods {
		c.all = c.all || p == ""
		c.methods[p] = struct{}{}
	}
	return c
}

// Enable begins a run: the windows of the rules count from now, and the draws and counters from the
// beginning. It logs one warning that names every rule. While a run is under way it does nothing.
func (i *Injector) Enable() {
	i.mu.Lock()
	if i.on.Load() != nil {
		i.mu.Unlock()
		return
	}
	i.last = &run{start: time.Now(), counts: make([]count, len(i.rules))}
	i.on.Store(i.last)
	i.mu.Unlock()

	names := make([]string, len(i.rules))
	for n := range i.rules {
		names[n] = i.rules[n].rule.String()
	}
	i.log().Warn("FAULT INJECTION IS ON: calls are broken on purpose", "seed", i.seed, "rules", names)
}

// Disable ends the run and logs a warning with what it did. Faults already decided still take their course.
// Without a run under way it does nothing.
func (i *Injector) Disable() {
	i.mu.Lock()
	r := i.on.Swap(nil)
	i.mu.Unlock()
	if r == nil {
		return
	}
	// As loud as the beginning: whoever was told of the one must be told of the other.
	struck := make([]string, len(i.rules))
	for n := range i.rules {
		c := &r.counts[n]
		struck[n] = fmt.Sprintf("%q: struck %d of %d", i.rules[n].rule.Name, c.struck.Load(), c.matched.Load())
	}
	i.log().Warn("fault injection is off", "after", time.Since(r.start), "rules", struck)
}

func (i *Injector) log() *slog.Logger {
	if i.logger != nil {
		return i.logger
	}
	return slog.Default()
}

// Enabled reports whether a run is under way.
func (i *Injector) Enabled() bool { return i.on.Load() != nil }

// Decide returns the fault for a call of the method, given in full ("/svc/Method"), and whether there is
// one. The rules are asked in their order; the first that is for the method, in its window, and strikes,
// wins. The draw of a rule depends only on the seed, its name and how many calls it was asked for before,
// so calls that other rules are for do not shift it.
//
// When off it costs one atomic read. It never allocates.
func (i *Injector) Decide(method string) (Fault, bool) {
	r := i.on.Load()
	if r == nil {
		return Fault{}, false
	}
	return i.decide(r, method)
}

func (i *Injector) decide(r *run, method string) (Fault, bool) {
	since := time.Since(r.start)
	for n := range i.rules {
		c := &i.rules[n]
		if !c.matches(method) || !c.rule.active(since) {
			continue
		}
		counts := &r.counts[n]
		draw := mix(c.salt + counts.matched.Add(1)*golden)
		if unit(draw) >= c.rule.Share {
			continue
		}
		counts.struck.Add(1)
		f := Fault{Rule: c.rule.Name, Delay: c.rule.Delay, Code: c.rule.Code, Message: c.rule.Message, Drop: c.rule.Drop}
		if c.rule.DelayJitter > 0 {
			f.Delay += time.Duration(unit(mix(draw^golden)) * float64(c.rule.DelayJitter))
		}
		return f, true
	}
	return Fault{}, false
}

// matches reports whether the rule is for the method.
func (c *compiled) matches(method string) bool {
	if c.all {
		return true
	}
	if _, ok := c.methods[method]; ok {
		return true
	}
	_, ok := c.methods[method[:strings.LastIndexByte(method, '/')+1]]
	return ok
}

// golden and mix make a sequence of random numbers that can be entered anywhere, so that no lock is needed:
// the generator of Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (OOPSLA 2014).
const golden = 0x9e3779b97f4a7c15

func mix(z uint64) uint64 {
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

// unit makes a number in [0, 1) of the 53 highest bits, as many as a float64 holds.
func unit(v uint64) float64 { return float64(v>>11) / (1 << 53) }

// Snapshot is what an Injector is doing.
type Snapshot struct {
	Enabled bool
	Seed    uint64
	Since   time.Time // when the latest run began; zero: there was none
	Rules   []RuleSnapshot
}

// RuleSnapshot is what one rule has done in the latest run.
type RuleSnapshot struct {
	Rule    Rule
	Active  bool   // enabled, and in its window
	Matched uint64 // calls it was asked for: its methods, in its window, not struck by a rule before it
	Struck  uint64 // those of them that got its fault
}

// Snapshot returns what the injector is doing. The counters are those of the latest run, which may be over.
func (i *Injector) Snapshot() Snapshot {
	i.mu.Lock()
	r, on := i.last, i.on.Load() != nil
	i.mu.Unlock()

	s := Snapshot{Enabled: on, Seed: i.seed, Rules: make([]RuleSnapshot, len(i.rules))}
	for n := range i.rules {
		s.Rules[n].Rule = i.rules[n].rule
		s.Rules[n].Rule.Methods = slices.Clone(i.rules[n].rule.Methods)
	}
	if r == nil {
		return s
	}
	s.Since = r.start
	since := time.Since(r.start)
	for n := range i.rules {
		s.Rules[n].Active = on && i.rules[n].rule.active(since)
		// In this order, so that no more are struck than matched.
		s.Rules[n].Struck = r.counts[n].struck.Load()
		s.Rules[n].Matched = r.counts[n].matched.Load()
	}
	return s
}
