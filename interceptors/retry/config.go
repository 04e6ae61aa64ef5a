package retry

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Jitter says how much of a wait is left to chance, so that clients that failed together do not come back
// together.
type Jitter uint8

const (
	// FullJitter waits U(0, b), where b is the exponential bound: the least work and nearly the least time
	// for contending clients (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015). The default.
	FullJitter Jitter = iota
	// EqualJitter waits b/2 + U(0, b/2): never at once.
	EqualJitter
	// DecorrelatedJitter waits min(cap, U(base, 3*previous)): each wait grows from the last, not from a count.
	DecorrelatedJitter
	// NoJitter waits exactly b. For tests and for a single client.
	NoJitter
)

var jitterNames = [...]string{"full", "equal", "decorrelated", "none"}

// String returns full, equal, decorrelated or none.
func (j Jitter) String() string {
	if int(j) < len(jitterNames) {
		return jitterNames[j]
	}
	return fmt.Sprintf("Jitter(%d)", uint8(j))
}

// MarshalText returns what String returns; an unknown jitter is an error.
func (j Jitter) MarshalText() ([]byte, error) {
	if int(j) >= len(jitterNames) {
		return nil, fmt.Errorf("jitter %d is none of full, equal, decorrelated, none", uint8(j))
	}
	return []byte(jitterNames[j]), nil
}

// UnmarshalText reads full, equal, decorrelated or none.
func (j *Jitter) UnmarshalText(text []byte) error {
	i := slices.Index(jitterNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("jitter %q is none of full, equal, decorrelated, none", text)
	}
	*j = Jitter(i) //nolint:gosec // an index into four names
	return nil
}

// Config says how often and how fast to retry. It is plain data; a zero field means its default.
type Config struct {
	// MaxAttempts bounds the attempts of one call, the first included. Default 3, range 1 to 5, the ceiling
	// of gRPC's retry design (gRFC A6).
	MaxAttempts int

	// InitialBackoff is the exponential bound of the first wait, the base of the formulas. Default 25 ms,
	// as Envoy's; range 1 ms to 1 min.
	InitialBackoff time.Duration

	// MaxBackoff caps the exponential bound. Default 1 s, or InitialBackoff if that is longer; range
	// InitialBackoff to 10 min.
	MaxBackoff time.Duration

	// Multiplier is by how much the bound grows with each retry. Default 2, range 1 to 10.
	Multiplier float64

	// Jitter spreads the waits below the bound. Default FullJitter.
	Jitter Jitter

	// MaxElapsed is the time since the call began after which no retry is started. Default 10 s; -1: none;
	// otherwise at least 1 ms. An attempt under way is not cut by it: that is what deadlines are for.
	MaxElapsed time.Duration
}

const (
	maxAttempts       = 5
	maxInitialBackoff = time.Minute
	maxMaxBackoff     = 10 * time.Minute
	maxMultiplier     = 10
)

// WithDefaults returns the config with every zero field filled in.
func (c Config) WithDefaults() Config {
	if c.MaxAttempts == 0 {
		c.MaxAttempts = 3
	}
	if c.InitialBackoff == 0 {
		c.InitialBackoff = 25 * time.Millisecond
	}
	if c.MaxBackoff == 0 {
		c.MaxBackoff = max(time.Second, c.InitialBackoff)
	}
	if c.Multiplier == 0 {
		c.Multiplier = 2
	}
	if c.MaxElapsed == 0 {
		c.MaxElapsed = 10 * time.Second
	}
	return c
}

// Validate returns what is wrong with the config: every finding names the field, its value and what is
// allowed.
func (c Config) Validate() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	d := c.WithDefaults()
	if d.MaxAttempts < 1 || d.MaxAttempts > maxAttempts {
		add("MaxAttempts: %d, want 1 to %d (0: 3)", c.MaxAttempts, maxAttempts)
	}
	if d.InitialBackoff < time.Millisecond || d.InitialBackoff > maxInitialBackoff {
		add("InitialBackoff: %v, want 1ms to %v (0: 25ms)", c.InitialBackoff, maxInitialBackoff)
	}
	// The default of MaxBackoff follows InitialBackoff; a wrong one of those is one finding, not two.
	if c.MaxBackoff != 0 && (c.MaxBackoff < d.InitialBackoff || c.MaxBackoff > maxMaxBackoff) {
		add("MaxBackoff: %v, want InitialBackoff (%v) to %v (0: 1s)", c.MaxBackoff, d.InitialBackoff, maxMaxBackoff)
	}
	if !(d.Multiplier >= 1 && d.Multiplier <= maxMultiplier) { // NaN is neither
		add("Multiplier: %v, want 1 to %v (0: 2)", c.Multiplier, maxMultiplier)
	}
	if int(d.Jitter) >= len(jitterNames) {
		add("Jitter: %d, want FullJitter, EqualJitter, DecorrelatedJitter or NoJitter", d.Jitter)
	}
	if d.MaxElapsed != -1 && d.MaxElapsed < time.Millisecond {
		add("MaxElapsed: %v, want at least 1ms (0: 10s, -1: none)", c.MaxElapsed)
	}
	return errors.Join(errs...)
}

// Backoff returns the wait before retry n, which is 0 for the first. previous is the wait before, for
// DecorrelatedJitter; random is in [0, 1). With b = min(MaxBackoff, InitialBackoff*Multiplier^n) it is
//
//	full          random * b
//	equal         b/2 + random * b/2
//	decorrelated  min(MaxBackoff, InitialBackoff + random * (3*max(previous, InitialBackoff) - InitialBackoff))
//	none          b
//
// It is never negative and never above MaxBackoff, whatever n, previous and random are: a random that is no
// number counts as 0. The config must have its defaults filled in.
func (c Config) Backoff(n int, previous time.Duration, random float64) time.Duration {
	if !(random > 0) { // also NaN, of which a Duration would be anything
		random = 0
	}
	base, limit := float64(c.InitialBackoff), float64(c.MaxBackoff)
	bound := min(limit, base*math.Pow(c.Multiplier, float64(max(n, 0))))
	var wait float64
	switch c.Jitter {
	case NoJitter:
		wait = bound
	case EqualJitter:
		wait = bound/2 + random*bound/2
	case DecorrelatedJitter:
		wait = base + random*(3*max(float64(previous), base)-base)
	default:
		wait = random * bound
	}
	switch {
	case wait >= limit: // compared as floats, as an overflowing one is no Duration
		return max(c.MaxBackoff, 0)
	case wait > 0:
		return time.Duration(wait)
	}
	return 0
}
