// Package deadline decides how long a call and each of its attempts may take, and whether the time that is
// left is worth an attempt at all.
//
// A deadline is a budget that travels: what a server got from its caller is all that its own calls may
// spend, less a reserve for the hop, so that a parent always outlasts its children and can still answer. A
// [Config] says what a call without a deadline gets, what a long one is cut to, how much is kept back and
// how much a single attempt may use. [Learned] knows how long a method takes, and [Feasible] refuses calls
// that would only be waited for in vain.
//
//	cfg := deadline.Config{Default: 2 * time.Second, AttemptShare: 0.5}.WithDefaults()
//	ctx, cancel, _ := cfg.Context(ctx, time.Now(), true) // true: ctx is the one a server handler was given
//	defer cancel()
//	reply, err := client.Get(ctx, request)
//
// A stream gets no total time, which is wrong for a watch that is meant to stay open: of a Config it has what
// concerns single messages, the first one, a silence and one that can not be sent. Not a timeout for connecting,
// nor for a function that does not look at its context.
//
// The package knows nothing of gRPC, starts no goroutine and holds no timer.
package deadline

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrExhausted says that too little time is left for the attempt: it was not made. See [Feasible.Check].
var ErrExhausted = errors.New("deadline: too little time left")

// Defaults and bounds of [Config].
const (
	defaultDefault      = 30 * time.Second
	defaultFirstMessage = 30 * time.Second
	defaultReserve      = 5 * time.Millisecond
	defaultReserveShare = 0.05

	minTimeout      = time.Millisecond
	maxTimeout      = 24 * time.Hour
	maxReserve      = time.Minute
	maxReserveShare = 0.5
	none            = -1 // in a field whose zero value means its default
)

// Feasibility says which attempts are held back when the time left is less than what the method usually
// takes. The estimate is the learned median, see [Learned].
type Feasibility uint8

const (
	// FeasibilityRetries holds back retries and hedges; first attempts are always sent. It is the default.
	FeasibilityRetries Feasibility = iota
	// FeasibilityAll holds back first attempts too, with [ErrExhausted]; see [Feasible].
	FeasibilityAll
	// FeasibilityOff holds back nothing.
	FeasibilityOff
)

var feasibilityNames = [...]string{"retries", "all", "off"}

// String returns retries, all or off.
func (f Feasibility) String() string {
	if int(f) < len(feasibilityNames) {
		return feasibilityNames[f]
	}
	return fmt.Sprintf("Feasibility(%d)", uint8(f))
}

// MarshalText returns what String returns; an unknown value is an error.
func (f Feasibility) MarshalText() ([]byte, error) {
	if int(f) >= len(feasibilityNames) {
		return nil, fmt.Errorf("feasibility %d is none of retries, all, off", uint8(f))
	}
	return []byte(feasibilityNames[f]), nil
}

// UnmarshalText reads retries, all or off.
func (f *Feasibility) UnmarshalText(text []byte) error {
	i := slices.Index(feasibilityNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("feasibility %q is none of retries, all, off", text)
	}
	*f = Feasibility(i) //nolint:gosec // an index into three names
	return nil
}

// Config is plain data, comparable; the zero value is a usable configuration.
type Config struct {
	// Default is the time for a call whose caller set no deadline. Default: 30 s, or Max if that is less.
	// -1: none. Range: 1 ms to 24 h.
	Default time.Duration

	// Max cuts the deadline of a caller who asks for more, and that of a call without any. Default: no cap.
	// Range: at least 1 ms, and at least Default if that is set.
	Max time.Duration

	// AttemptTimeout is the time for one attempt. Default: none, an attempt may use all that is left.
	// Range: 1 ms to 24 h, and not above Default or Max.
	AttemptTimeout time.Duration

	// AttemptShare is the largest share of what is left of the call that one attempt may use, so that time
	// for another one remains. It has no effect on a call without a deadline. With AttemptTimeout, the
	// smaller of the two counts. Default: none. Range: above 0, up to 1.
	AttemptShare float64

	// Reserve is kept back from a deadline that came in with a server call, for this hop to read the reply
	// of its own call and to answer. Default: 5 ms. -1: none. Range: above 0, up to 1 min.
	Reserve time.Duration

	// ReserveShare is kept back likewise, as a share of what is left. The larger of Reserve and ReserveShare
	// counts, but never more than half of what is left. Default: 0.05. -1: none. Range: above 0, up to 0.5.
	ReserveShare float64

	// Feasibility says which attempts are not sent when they cannot be expected to end in time.
	// Default: retries and hedges.
	Feasibility Feasibility

	// FirstMessage is how long an attempt of a stream may take to its first response message, from its opening
	// on; where the client streams too, from what it sent last, and while it has sent nothing, not at all. Only
	// waiting counts, in Recv or Header: a message may have arrived long before it is read. Default: 30 s, as
	// the usual read timeout. -1: none. Range: 1 ms to 24 h.
	FirstMessage time.Duration

	// Idle is how long a stream may wait in one Recv for the next message, after the first. On a stream of many
	// messages it may come late by an eighth. Default: none, for a watch may be quiet for hours. Range: 1 ms to 24 h.
	Idle time.Duration

	// Send is how long one message of a stream may take to be sent: it waits for as long as the server takes no
	// more. On a stream of many messages it may come late by an eighth. Default: none. Range: 1 ms to 24 h.
	Send time.Duration
}

// WithDefaults returns the configuration with every zero field that has a default filled in. Fields that
// are -1 stay so, which makes it safe to call twice.
func (c Config) WithDefaults() Config {
	if c.Default == 0 {
		c.Default = defaultDefault
		if c.Max > 0 {
			c.Default = min(c.Default, c.Max)
		}
	}
	if c.Reserve == 0 {
		c.Reserve = defaultReserve
	}
	if c.ReserveShare == 0 {
		c.ReserveShare = defaultReserveShare
	}
	if c.FirstMessage == 0 {
		c.FirstMessage = defaultFirstMessage
	}
	return c
}

// Validate returns what is wrong with the configuration, all findings joined: each names the field, its
// value and what is allowed.
func (c Config) Validate() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if c.Default != 0 && c.Default != none && (c.Default < minTimeout || c.Default > maxTimeout) {
		add("Default: %v, want -1 (none), 0 (30s) or 1ms to 24h", c.Default)
	}
	if c.Max != 0 && c.Max < minTimeout {
		add("Max: %v, want 0 (no cap) or at least 1ms", c.Max)
	}
	if c.Max >= minTimeout && c.Default > c.Max {
		add("Max: %v is below Default: %v, want at least as much", c.Max, c.Default)
	}
	if c.AttemptTimeout != 0 && (c.AttemptTimeout < minTimeout || c.AttemptTimeout > maxTimeout) {
		add("AttemptTimeout: %v, want 0 (none) or 1ms to 24h", c.AttemptTimeout)
	} else if call := c.WithDefaults().Default; call >= minTimeout && c.AttemptTimeout > call {
		add("AttemptTimeout: %v is above Default: %v, want at most the time of the call", c.AttemptTimeout, call)
	} else if c.Max >= minTimeout && c.AttemptTimeout > c.Max {
		add("AttemptTimeout: %v is above Max: %v, want at most the time of the call", c.AttemptTimeout, c.Max)
	}
	// The comparisons are turned round so that NaN, which is neither above nor below anything, is refused.
	if c.AttemptShare != 0 && !(c.AttemptShare > 0 && c.AttemptShare <= 1) {
		add("AttemptShare: %v, want 0 (none) or above 0 and up to 1", c.AttemptShare)
	}
	if c.Reserve != 0 && c.Reserve != none && (c.Reserve < 0 || c.Reserve > maxReserve) {
		add("Reserve: %v, want -1 (none), 0 (5ms) or above 0 and up to 1m", c.Reserve)
	}
	if c.ReserveShare != 0 && c.ReserveShare != none && !(c.ReserveShare > 0 && c.ReserveShare <= maxReserveShare) {
		add("ReserveShare: %v, want -1 (none), 0 (0.05) or above 0 and up to 0.5", c.ReserveShare)
	}
	if c.FirstMessage != 0 && c.FirstMessage != none && (c.FirstMessage < minTimeout || c.FirstMessage > maxTimeout) {
		add("FirstMessage: %v, want -1 (none), 0 (30s) or 1ms to 24h", c.FirstMessage)
	}
	if c.Idle != 0 && (c.Idle < minTimeout || c.Idle > maxTimeout) {
		add("Idle: %v, want 0 (none) or 1ms to 24h", c.Idle)
	}
	if c.Send != 0 && (c.Send < minTimeout || c.Send > maxTimeout) {
		add("Send: %v, want 0 (none) or 1ms to 24h", c.Send)
	}
	if int(c.Feasibility) >= len(feasibilityNames) {
		add("Feasibility: %d, want retries, all or off", uint8(c.Feasibility))
	}
	return errors.Join(errs...)
}
