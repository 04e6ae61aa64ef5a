package breaker

import (
	"errors"
	"fmt"
	"math"
	"time"
)

const (
	maxCount    = 1_000_000
	maxProbes   = 1000
	maxBuckets  = 100
	minWindow   = 100 * time.Millisecond
	maxWindow   = time.Hour
	minOpenTime = time.Millisecond
	maxOpenTime = time.Hour
	maxMaxOpen  = 24 * time.Hour
	maxGrowth   = 10
)

// Config says when a breaker opens and how it comes back. It is plain, comparable data; a zero field means
// its default, and the zero Config is a sensible breaker.
type Config struct {
	// ConsecutiveFailures opens the breaker after so many failures in a row, in order of their ends.
	// Default 5, -1 switches the rule off, range 1 to 1,000,000.
	ConsecutiveFailures int

	// FailureRatio opens the breaker when at least this share of the calls in the window failed, given
	// MinimumCalls. Default 0.5, -1 switches the rule off, range above 0 up to 1.
	FailureRatio float64

	// SlowRatio opens the breaker when at least this share of the calls in the window took SlowAfter or
	// longer, given MinimumCalls. Default 0: off. Range above 0 up to 1.
	SlowRatio float64

	// SlowAfter is how long a call takes that is slow. It is required with SlowRatio, and refused without.
	SlowAfter time.Duration

	// MinimumCalls is how many calls must have ended within the window before a ratio means anything.
	// Default 20, range 1 to 1,000,000.
	MinimumCalls int

	// Window is the time over which ratios are taken. Default 10 s, range 100 ms to 1 h.
	Window time.Duration

	// Buckets is in how many slices the window is kept; the oldest leaves as a whole. Default 10,
	// range 1 to 100.
	Buckets int

	// OpenTime is how long the breaker refuses everything before it lets a probe through, the first time.
	// Default 5 s, range 1 ms to 1 h.
	OpenTime time.Duration

	// MaxOpenTime is what the open time grows to, before jitter. Default 60 s, or OpenTime if that is
	// longer; range OpenTime to 24 h.
	MaxOpenTime time.Duration

	// OpenMultiplier is by how much the open time grows each time a probe fails. Closing starts over.
	// Default 2, range 1 to 10.
	OpenMultiplier float64

	// OpenJitter stretches every open time by a random share between 0 and this one, so that many
	// processes do not probe in step; it never shortens. Default 0.1, -1 means none, range above 0 up to 1.
	OpenJitter float64

	// Probes is how many calls are let through at a time while half-open. Default 1, range 1 to 1,000.
	Probes int

	// Successes is how many probes must succeed to close the breaker. Default 2, range 1 to 1,000.
	Successes int
}

// WithDefaults returns the Config with every zero field replaced by its default. SlowRatio and SlowAfter
// stay zero: their default is off.
func (c Config) WithDefaults() Config {
	def(&c.ConsecutiveFailures, 5)
	def(&c.FailureRatio, 0.5)
	def(&c.MinimumCalls, 20)
	def(&c.Window, 10*time.Second)
	def(&c.Buckets, 10)
	def(&c.OpenTime, 5*time.Second)
	def(&c.MaxOpenTime, max(time.Minute, c.OpenTime))
	def(&c.OpenMultiplier, 2)
	def(&c.OpenJitter, 0.1)
	def(&c.Probes, 1)
	def(&c.Successes, 2)
	return c
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate returns nil, or one error that joins all findings. Each names the field, its value and what is
// allowed. Zero fields are valid, as they stand for defaults.
func (c Config) Validate() error {
	d := c.WithDefaults()
	var f findings
	f.count("ConsecutiveFailures", d.ConsecutiveFailures, maxCount, true)
	f.share("FailureRatio", d.FailureRatio, "-1 (off) or ")
	f.count("MinimumCalls", d.MinimumCalls, maxCount, false)
	f.span("Window", d.Window, minWindow, maxWindow)
	f.count("Buckets", d.Buckets, maxBuckets, false)
	f.span("OpenTime", d.OpenTime, minOpenTime, maxOpenTime)
	if d.OpenTime >= minOpenTime && d.OpenTime <= maxOpenTime {
		f.span("MaxOpenTime", d.MaxOpenTime, d.OpenTime, maxMaxOpen)
	}
	if !(d.OpenMultiplier >= 1 && d.OpenMultiplier <= maxGrowth) {
		f.add("OpenMultiplier", d.OpenMultiplier, "1 to 10")
	}
	f.share("OpenJitter", d.OpenJitter, "-1 (none) or ")
	f.count("Probes", d.Probes, maxProbes, false)
	f.count("Successes", d.Successes, maxProbes, false)
	if d.SlowRatio != 0 {
		f.share("SlowRatio", d.SlowRatio, "")
		if d.SlowAfter <= 0 {
			f.add("SlowAfter", d.SlowAfter, "a time above 0, as SlowRatio is set")
		}
	} else if d.SlowAfter != 0 {
		f.add("SlowAfter", d.SlowAfter, "0, as SlowRatio is not set")
	}
	return errors.Join(f...)
}

type findings []error

func (f *findings) add(field string, value any, want string) {
	*f = append(*f, fmt.Errorf("breaker: %s is %v, want %s", field, value, want))
}

func (f *findings) count(field string, v, most int, off bool) {
	switch {
	case v >= 1 && v <= most, off && v == -1:
	case off:
		f.add(field, v, fmt.Sprintf("-1 (off) or 1 to %d", most))
	default:
		f.add(field, v, fmt.Sprintf("1 to %d", most))
	}
}

// share is written so that NaN, for which every comparison is false, is refused.
func (f *findings) share(field string, v float64, off string) {
	if v > 0 && v <= 1 || off != "" && v == -1 {
		return
	}
	f.add(field, v, off+"above 0 up to 1")
}

func (f *findings) span(field string, v, least, most time.Duration) {
	if v < least || v > most {
		f.add(field, v, fmt.Sprintf("%v to %v", least, most))
	}
}

// openTime is how long the breaker stays open after reopened failed rounds of probes: the first time grown
// by the multiplier, at most MaxOpenTime, at least the server's pushback (which the cap bounds as well),
// stretched by a share u of the jitter. Pushback feeds no growth: it is about this one failure.
func (c *Config) openTime(reopened int, pushback time.Duration, u float64) time.Duration {
	open := c.MaxOpenTime
	if f := float64(c.OpenTime) * math.Pow(c.OpenMultiplier, float64(reopened)); f < float64(open) {
		open = time.Duration(f)
	}
	open = max(open, min(pushback, c.MaxOpenTime))
	if c.OpenJitter > 0 && u > 0 { // false for NaN
		open += time.Duration(float64(open) * c.OpenJitter * min(u, 1))
	}
	return open
}
