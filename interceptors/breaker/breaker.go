package breaker

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grpcsteady/steady/balancer/window"
)

// ErrOpen is what a breaker refuses a call with: it is open, forced open, or half-open with all probes under
// way.
var ErrOpen = errors.New("breaker: open")

// Breaker is a circuit breaker. Its methods may be called from any goroutine. It owns no goroutine and no
// timer: it moves only when somebody asks or reports, and needs no closing.
//
// Where a method takes now, it must be a reading of time.Now that still has its monotonic part, so that a
// step of the wall clock moves nothing.
type Breaker struct {
	// cur is all that the success path shares; a change of state replaces it.
	cur  atomic.Pointer[generation]
	slow atomic.Int64 // SlowAfter in nanoseconds, 0 while the rule is off
	base time.Time    // offsets count from here

	onChange func(Change)
	random   func() float64

	// mu guards what follows, the marked fields of the current generation, and every write to cur. No
	// callback runs under it but random.
	mu         sync.Mutex
	cfg        Config // with defaults
	reopened   int    // failed rounds of probes since the breaker was last closed
	trips      uint64
	changes    []Change // not delivered yet
	delivering bool
}

// Option gives a breaker behaviour.
type Option func(*Breaker)

// OnChange has fn called after each change of state, in order, on the goroutine that caused the change or on
// one that was delivering an earlier one. No lock is held: fn may call any method of the breaker. It must
// not block, as it delays the call it runs in. Given more than once, the last one holds. Default: none.
func OnChange(fn func(Change)) Option { return func(b *Breaker) { b.onChange = fn } }

// WithRandom replaces the source of jitter: fn returns a number from 0 up to 1 and is called with the
// breaker's lock held, so it must not call the breaker. Default: math/rand/v2.
func WithRandom(fn func() float64) Option {
	return func(b *Breaker) {
		if fn != nil {
			b.random = fn
		}
	}
}

// New returns a closed breaker, or what [Config.Validate] says.
func New(cfg Config, opts ...Option) (*Breaker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := &Breaker{cfg: cfg.WithDefaults(), base: time.Now(), random: rand.Float64}
	for _, opt := range opts {
		opt(b)
	}
	b.slow.Store(int64(b.cfg.SlowAfter))
	g := &generation{b: b, state: Closed, number: 1, since: b.base}
	g.win.Store(window.New(b.cfg.Window, b.cfg.Buckets))
	b.cur.Store(g)
	return b, nil
}

// offset is an instant as nanoseconds since the breaker was made, never below 1, so that 0 can mean never.
func (b *Breaker) offset(t time.Time) int64 { return max(int64(t.Sub(b.base)), 0) + 1 }

// Allow asks for admission of one call. It returns [ErrOpen] if the call must not be made, else a token that
// must be ended once by Done or End. It costs no allocation, except that a probe costs one.
func (b *Breaker) Allow() (Token, error) {
	g := b.cur.Load()
	if g.state == Closed && b.slow.Load() == 0 {
		return Token{g: g}, nil // needs no clock
	}
	return b.AllowAt(time.Now())
}

// AllowAt is Allow for a caller who has just read the clock.
func (b *Breaker) AllowAt(now time.Time) (Token, error) {
	g := b.cur.Load()
	switch g.state {
	case Closed:
		if b.slow.Load() == 0 {
			return Token{g: g}, nil
		}
		return Token{g: g, at: b.offset(now)}, nil
	case ForcedClosed:
		return Token{}, nil // a zero token: its end has no effect
	case ForcedOpen:
		return Token{}, ErrOpen
	case Open:
		if now.Before(g.until) {
			return Token{}, ErrOpen
		}
	case HalfOpen:
		if full := g.full.Load(); full != 0 && b.offset(now) < full {
			return Token{}, ErrOpen
		}
	}
	return b.allowProbe(now)
}

// allowProbe is AllowAt where the state may have to change or a slot to be taken.
func (b *Breaker) allowProbe(now time.Time) (Token, error) {
	t, again, err := b.takeSlot(now)
	if again {
		return b.AllowAt(now)
	}
	if err != nil || t.p == nil {
		return t, err
	}
	// If the callback panics, the caller never gets the token, so the slot goes back on the way.
	handed := false
	defer func() {
		if !handed {
			t.End(now, Outcome{Result: Nothing})
		}
	}()
	b.notify()
	handed = true
	return t, nil
}

func (b *Breaker) takeSlot(now time.Time) (t Token, again bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.cur.Load()
	if g.state == Open && !now.Before(g.until) {
		g = b.change(now, HalfOpen, ReasonOpenOver, g.openFor)
	}
	if g.state != HalfOpen {
		return Token{}, true, nil // somebody changed the state since it was read
	}
	p := g.admit(now, b.cfg.Probes)
	if p == nil {
		return Token{}, false, ErrOpen
	}
	return Token{g: g, p: p, at: b.offset(now)}, false, nil
}

// change begins a new generation. Called with mu held; the caller calls notify after unlocking.
func (b *Breaker) change(now time.Time, to State, reason string, openFor time.Duration) *generation {
	old := b.cur.Load()
	g := &generation{b: b, state: to, number: old.number + 1, since: now, reason: reason, openFor: openFor}
	switch to {
	case Closed:
		b.reopened = 0
		g.win.Store(window.New(b.cfg.Window, b.cfg.Buckets))
	case Open:
		b.trips++
		g.until = now.Add(openFor)
	default: // the others have nothing to begin with
	}
	b.cur.Store(g)
	if b.onChange != nil && old.state != to {
		c := Change{From: old.state, To: to, Reason: reason, At: now, Generation: g.number}
		if to == Open {
			c.OpenFor = openFor
		}
		b.changes = append(b.changes, c)
	}
	return g
}

// open opens the breaker. Called with mu held.
func (b *Breaker) open(now time.Time, reason string, pushback time.Duration) {
	b.change(now, Open, reason, b.cfg.openTime(b.reopened, pushback, b.random()))
}

// reopen opens the breaker after a probe that failed, for longer than before. Called with mu held.
func (b *Breaker) reopen(now time.Time, reason string, pushback time.Duration) {
	// The growth is capped by MaxOpenTime long before; the bound only keeps the counter sane.
	b.reopened = min(b.reopened+1, maxCount)
	b.open(now, reason, pushback)
}

// ForceOpen has the breaker refuse all calls until Reset or ForceClosed.
func (b *Breaker) ForceOpen() { b.force(ForcedOpen) }

// ForceClosed has the breaker admit all calls, and count none, until Reset or ForceOpen.
func (b *Breaker) ForceClosed() { b.force(ForcedClosed) }

func (b *Breaker) force(to State) {
	b.mu.Lock()
	if b.cur.Load().state != to {
		b.change(time.Now(), to, ReasonForced, 0)
	}
	b.mu.Unlock()
	b.notify()
}

// Reset makes the breaker automatic and closed, with an empty memory: results of calls admitted before do
// not count any more, and the open time starts over. It begins a new generation even if the breaker was
// closed, but only a change of state is told to OnChange.
func (b *Breaker) Reset() {
	b.mu.Lock()
	b.change(time.Now(), Closed, ReasonReset, 0)
	b.mu.Unlock()
	b.notify()
}

// Update gives the breaker another Config. State, generation, growth and counts stay; only a change of
// Window or Buckets empties the window. New thresholds apply from the next result on, a new open time from
// the next opening on; nothing is decided at once. An error is that of [Config.Validate], and nothing has
// changed.
func (b *Breaker) Update(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	cfg = cfg.WithDefaults()
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.cfg
	b.cfg = cfg
	b.slow.Store(int64(cfg.SlowAfter))
	g := b.cur.Load()
	switch {
	case g.state == Closed && (cfg.Window != old.Window || cfg.Buckets != old.Buckets):
		g.win.Store(window.New(cfg.Window, cfg.Buckets))
		g.from = sources{}
	case g.state == HalfOpen:
		g.refull(cfg.Probes)
	}
	return nil
}
