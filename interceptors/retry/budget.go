package retry

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grpcsteady/steady/balancer/window"
)

// BudgetConfig says how many retries a budget allows. It is plain data; a zero field means its default.
type BudgetConfig struct {
	// Ratio is how many retries each call of the interval grants. Default 0.2, as Finagle's and Linkerd's;
	// -1: none; otherwise above 0, at most 10.
	Ratio float64

	// MinPerSecond is granted whatever the calls, so that a client of few calls may retry at all: a reserve
	// of MinPerSecond*Interval. Default 1; -1: none; otherwise above 0, at most 1000.
	MinPerSecond float64

	// Interval is the time after which calls and retries are forgotten. Default 10 s, range 1 s to 10 min.
	Interval time.Duration

	// MaxRatio is a ceiling over both: never more retries than MaxRatio times the calls of the interval. It
	// keeps a thousand clients of one call each from a thousand reserves. Default 1, above 0, at most 10.
	MaxRatio float64
}

// WithDefaults returns the config with every zero field filled in.
func (c BudgetConfig) WithDefaults() BudgetConfig {
	if c.Ratio == 0 {
		c.Ratio = 0.2
	}
	if c.MinPerSecond == 0 {
		c.MinPerSecond = 1
	}
	if c.Interval == 0 {
		c.Interval = 10 * time.Second
	}
	if c.MaxRatio == 0 {
		c.MaxRatio = 1
	}
	return c
}

// Validate returns what is wrong with the config: every finding names the field, its value and what is
// allowed.
func (c BudgetConfig) Validate() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	d := c.WithDefaults()
	if d.Ratio != -1 && !(d.Ratio > 0 && d.Ratio <= 10) {
		add("Ratio: %v, want above 0 and at most 10 (0: 0.2, -1: none)", c.Ratio)
	}
	if d.MinPerSecond != -1 && !(d.MinPerSecond > 0 && d.MinPerSecond <= 1000) {
		add("MinPerSecond: %v, want above 0 and at most 1000 (0: 1, -1: none)", c.MinPerSecond)
	}
	if d.Interval < time.Second || d.Interval > 10*time.Minute {
		add("Interval: %v, want 1s to 10m (0: 10s)", c.Interval)
	}
	if !(d.MaxRatio > 0 && d.MaxRatio <= 10) {
		add("MaxRatio: %v, want above 0 and at most 10 (0: 1)", c.MaxRatio)
	}
	return errors.Join(errs...)
}

// capacity returns how many retries so many calls grant. The epsilon makes a tenth of thirty calls, each
// rounded in binary, a whole three; the relative part keeps that true for millions of calls.
func (c BudgetConfig) capacity(calls int64) int64 {
	granted := max(c.Ratio, 0)*float64(calls) + max(c.MinPerSecond, 0)*c.Interval.Seconds()
	granted = min(granted, c.MaxRatio*float64(calls))
	return int64(math.Floor(granted + granted*1e-12 + 1e-9))
}

// Kinds of events in a budget's window.
const (
	kindCall = iota
	kindRetry
)

// intervalBuckets is how finely a budget forgets.
const intervalBuckets = 10

// Budget bounds the retries of everything that shares it, in proportion to its calls. Without one, retries
// are most frequent when the server can bear them least. Its methods may be called from any goroutine. Make
// one with [NewBudget].
type Budget struct {
	// live is read by every call without a lock; it changes only under mu.
	live atomic.Pointer[liveBudget]

	mu      sync.Mutex // makes check and withdrawal one step; only failed attempts come here
	refused uint64
}

type liveBudget struct {
	cfg   BudgetConfig
	count *window.Window
}

// NewBudget returns a budget that has seen no call yet. An error names the field of cfg that is wrong.
func NewBudget(cfg BudgetConfig) (*Budget, error) {
	b := new(Budget)
	if err := b.Update(cfg); err != nil {
		return nil, err
	}
	return b, nil
}

// Deposit tells of one call, at its beginning. It takes no lock and allocates nothing.
func (b *Budget) Deposit(now time.Time) { b.live.Load().count.Add(now, kindCall) }

// Withdraw asks for one retry or hedge, and reports whether it may be made. A refusal costs nothing.
func (b *Budget) Withdraw(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.live.Load()
	s := l.count.Sum(now)
	if s[kindRetry]+1 > l.cfg.capacity(s[kindCall]) {
		b.refused++
		return false
	}
	l.count.Add(now, kindRetry)
	return true
}

// Update changes the config. What was counted is kept, unless the interval changes; with an error nothing
// has changed.
func (b *Budget) Update(cfg BudgetConfig) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("retry budget: %w", err)
	}
	next := &liveBudget{cfg: cfg.WithDefaults()}
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.live.Load(); old != nil && old.cfg.Interval == next.cfg.Interval {
		next.count = old.count
	} else {
		next.count = window.New(next.cfg.Interval, intervalBuckets)
	}
	b.live.Store(next)
	return nil
}

// BudgetSnapshot is the state of a budget at one moment.
type BudgetSnapshot struct {
	Calls    int64  // in the interval
	Retries  int64  // in the interval
	Left     int64  // retries that would be granted now
	Capacity int64  // retries that the calls of the interval grant
	Refused  uint64 // retries refused so far, for ever
}

// Snapshot returns the state of the budget.
func (b *Budget) Snapshot(now time.Time) BudgetSnapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.live.Load()
	s := l.count.Sum(now)
	capacity := l.cfg.capacity(s[kindCall])
	return BudgetSnapshot{
		Calls: s[kindCall], Retries: s[kindRetry], Capacity: capacity, Left: max(capacity-s[kindRetry], 0), Refused: b.refused,
	}
}
