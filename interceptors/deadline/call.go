package deadline

import (
	"context"
	"fmt"
	"math"
	"time"
)

// Origin says who set the deadline that is in force for a call, or which of the times of a stream ran out.
type Origin uint8

const (
	// OriginNone: there is no deadline.
	OriginNone Origin = iota
	// OriginCaller: the caller's own, unchanged.
	OriginCaller
	// OriginDefault: the caller had none and got [Config].Default.
	OriginDefault
	// OriginCap: the caller's was longer than [Config].Max, or he had none and there is no default.
	OriginCap
	// OriginReserve: the caller's, less the reserve of this hop.
	OriginReserve
	// OriginFirstMessage: a stream had no message within [Config].FirstMessage.
	OriginFirstMessage
	// OriginIdle: a stream had no further message within [Config].Idle.
	OriginIdle
	// OriginSend: a message could not be sent within [Config].Send.
	OriginSend
)

var originNames = [...]string{"none", "caller", "default", "cap", "reserve", "first message", "idle", "send"}

// String returns none, caller, default, cap, reserve, first message, idle or send.
func (o Origin) String() string {
	if int(o) < len(originNames) {
		return originNames[o]
	}
	return fmt.Sprintf("Origin(%d)", uint8(o))
}

// Call returns the deadline of a call that begins now, and who set it. caller is the deadline the call came
// with, zero if none; inherited says that it came in with a server call, so the reserve is kept back from
// it. A deadline that is already past stays as it is. The result is never later than caller, and zero means
// that there is none. c must have its defaults filled in, see [Config.WithDefaults].
func (c Config) Call(now, caller time.Time, inherited bool) (time.Time, Origin) {
	deadline, origin := caller, OriginCaller
	switch {
	case caller.IsZero():
		switch {
		case c.Default > 0:
			deadline, origin = now.Add(c.Default), OriginDefault
		case c.Max > 0:
			return now.Add(c.Max), OriginCap
		default:
			return time.Time{}, OriginNone
		}
	case !caller.After(now):
		return caller, OriginCaller
	case inherited:
		if r := c.reserve(caller.Sub(now)); r > 0 {
			deadline, origin = caller.Add(-r), OriginReserve
		}
	}
	if c.Max > 0 {
		if end := now.Add(c.Max); end.Before(deadline) {
			return end, OriginCap
		}
	}
	return deadline, origin
}

// reserve returns what is kept back of the time left for a call. Half of it is the bound, so that however
// little arrives and however long the chain, every hop passes on something.
func (c Config) reserve(left time.Duration) time.Duration {
	r := max(c.Reserve, 0)
	if c.ReserveShare > 0 {
		r = max(r, share(left, c.ReserveShare))
	}
	return min(r, left/2)
}

// share returns part of d. A product that rounds up to more than a Duration holds is cut.
func share(d time.Duration, part float64) time.Duration {
	f := float64(d) * part
	if f >= math.MaxInt64 {
		return d
	}
	return min(time.Duration(f), d)
}

// Attempt returns the deadline of one attempt that begins now, in a call with the given deadline (zero:
// none), and true; or the deadline of the call and false if the attempt needs none of its own, because it
// would be no tighter. A call that has no time left is not divided further.
func (c Config) Attempt(now, deadline time.Time) (time.Time, bool) {
	limit := c.AttemptTimeout
	if deadline.IsZero() {
		if limit <= 0 {
			return deadline, false
		}
		return now.Add(limit), true
	}
	left := deadline.Sub(now)
	if c.AttemptShare > 0 {
		s := max(share(left, c.AttemptShare), 1)
		if limit <= 0 || s < limit {
			limit = s
		}
	}
	if limit <= 0 || limit >= left {
		return deadline, false
	}
	return now.Add(limit), true
}

// Context returns a context for a call that begins now, with the deadline that [Config.Call] finds, and who
// set it. It fills in defaults, so it may be used on a configuration as written. If the deadline of ctx
// stays as it is, ctx itself is returned, and the cancel function does nothing; call it all the same.
func (c Config) Context(ctx context.Context, now time.Time, inherited bool) (context.Context, context.CancelFunc, Origin) {
	caller, _ := ctx.Deadline()
	deadline, origin := c.WithDefaults().Call(now, caller, inherited)
	if origin == OriginNone || origin == OriginCaller {
		return ctx, func() {}, origin
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	return ctx, cancel, origin
}
