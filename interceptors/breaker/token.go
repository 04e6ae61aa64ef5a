package breaker

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// Result is what the end of a call says about the server.
type Result uint8

// The results of a call.
const (
	Success Result = iota // the server did its work
	Failure               // the server is not able to do its work
	Nothing               // the end says nothing: the caller went away, or nothing was sent
)

// Outcome is how a call ended. The zero Outcome is a success.
type Outcome struct {
	Result Result

	// RatioOnly makes a failure count for the ratio only: it neither adds to a run of consecutive failures
	// nor ends one. Meant for errors that may be anything, such as UNKNOWN. The failure of a probe reopens
	// the breaker all the same, as a probe is there to answer a question.
	RatioOnly bool

	// Source names the endpoint that failed. Empty: unknown, the failure counts as from all.
	Source string

	// Everywhere marks a failure for want of any connection: it counts as from all endpoints.
	Everywhere bool

	// Sources is how many endpoints there are now. 0: unknown, so that failures in a row must come from two
	// sources; 1: a single one is enough.
	Sources int

	// Duration is how long the call took; it matters only with SlowRatio. 0: measured from Allow to End.
	Duration time.Duration

	// Pushback is when the server wants to be called again at the earliest: if this failure opens the
	// breaker, it stays open at least so long, within MaxOpenTime.
	Pushback time.Duration
}

// Token stands for one admitted call. It must be ended once, by Done or End, on any goroutine. The zero
// Token may be ended any number of times, without effect.
type Token struct {
	g  *generation
	p  *probe // nil unless admitted while half-open
	at int64  // offset of the admission, 0 if nobody needed it
}

// Probe reports whether the call is one of the few let through while half-open. Its end decides for all, so
// a caller may want it to be quick, and must not leave it out: an unended probe holds its slot for as long as
// the breaker was open before.
func (t Token) Probe() bool { return t.p != nil }

// Done ends the call: nil is a success, an error that is [context.Canceled] counts for nothing, any other is
// a failure. An error in whose tree one has a method Source() string names the endpoint with it; failures in
// a row must then come from two of them.
func (t Token) Done(err error) {
	if t.g == nil {
		return
	}
	b := t.g.b
	if err == nil {
		var now time.Time
		if t.g.state == Closed && b.slow.Load() == 0 {
			// Only the monotonic clock is needed here, and reading it alone costs half as much.
			now = b.base.Add(time.Since(b.base))
		} else {
			now = time.Now()
		}
		t.End(now, Outcome{})
		return
	}
	o := Outcome{Result: Failure}
	if errors.Is(err, context.Canceled) {
		o.Result = Nothing
	} else if s, ok := errors.AsType[interface {
		error
		Source() string
	}](err); ok {
		o.Source = s.Source()
	}
	t.End(time.Now(), o)
}

// End ends the call at now, with all that is known about it.
func (t Token) End(now time.Time, o Outcome) {
	g := t.g
	if g == nil {
		return
	}
	b := g.b
	if b.cur.Load() != g {
		return // its generation is over
	}
	if g.state == Closed {
		if o.Result == Nothing {
			return
		}
		slow := false
		if after := b.slow.Load(); after != 0 {
			slow = t.took(now, &o) >= after
		}
		if o.Result == Success && !slow {
			g.win.Load().Add(now, 0)
			g.succeed()
			return
		}
		b.endBadly(g, now, &o, slow)
	} else {
		b.endProbe(t, now, &o)
	}
	b.notify()
}

// took is how long the call took in nanoseconds, 0 if nobody knows.
func (t Token) took(now time.Time, o *Outcome) int64 {
	if o.Duration > 0 || t.at == 0 {
		return int64(o.Duration)
	}
	return t.g.b.offset(now) - t.at
}

// endBadly counts a failure or a slow success of a closed breaker, and opens it if a rule holds.
func (b *Breaker) endBadly(g *generation, now time.Time, o *Outcome, slow bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cur.Load() != g {
		return
	}
	kind, at, cfg := 0, b.offset(now), &b.cfg
	if slow {
		kind |= kindSlow
	}
	inRow := int64(0)
	if o.Result == Failure {
		kind |= kindFailure
		g.from.add(now, at, o, cfg.Window, cfg.Buckets)
		if !o.RatioOnly {
			inRow = g.failed(o)
		}
	} else {
		g.succeed()
	}
	w := g.win.Load()
	w.Add(now, kind)

	if cfg.ConsecutiveFailures > 0 && inRow >= int64(cfg.ConsecutiveFailures) && g.broad {
		b.open(now, ReasonConsecutive, o.Pushback)
		return
	}
	if cfg.FailureRatio < 0 && cfg.SlowRatio == 0 {
		return
	}
	calls, failures, slows := tally(w.Sum(now))
	if calls < int64(cfg.MinimumCalls) {
		return
	}
	worst := int64(0) // failures of a single endpoint, which are not the service's
	if cfg.FailureRatio > 0 && reached(failures, calls, cfg.FailureRatio) {
		worst = g.from.worst(now, at, cfg.Window)
	}
	switch {
	case cfg.FailureRatio > 0 && 2*(calls-worst) >= int64(cfg.MinimumCalls) && reached(failures-worst, calls-worst, cfg.FailureRatio):
		b.open(now, ReasonFailures, o.Pushback)
	case cfg.SlowRatio > 0 && reached(slows, calls, cfg.SlowRatio):
		b.open(now, ReasonSlow, o.Pushback)
	}
}

// reached compares by division, which rounds k/n to the very number that a user writes as that share.
func reached(n, of int64, share float64) bool { return n > 0 && float64(n)/float64(of) >= share }

// endProbe ends a call admitted while half-open. Once is enough: a token ended twice frees no second slot and
// counts no second time.
func (b *Breaker) endProbe(t Token, now time.Time, o *Outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := t.g
	if b.cur.Load() != g || !g.release(t.p, b.cfg.Probes) {
		return
	}
	after := b.slow.Load()
	switch {
	case o.Result == Nothing:
	case o.Result == Failure:
		b.reopen(now, ReasonProbeFailed, o.Pushback)
	case after != 0 && t.took(now, o) >= after:
		b.reopen(now, ReasonProbeSlow, o.Pushback)
	default:
		if g.successes++; g.successes >= b.cfg.Successes {
			b.change(now, Closed, ReasonRecovered, 0)
		}
	}
}

// Admit is Allow in the form of a gate: done takes the error that Done takes. Calling it again has no effect.
// The context is not used: whether a call is still wanted is not the breaker's business.
func (b *Breaker) Admit(context.Context) (done func(error), err error) {
	t, err := b.Allow()
	if err != nil {
		return nil, err
	}
	ended := new(atomic.Bool)
	return func(err error) {
		if !ended.Swap(true) {
			t.Done(err)
		}
	}, nil
}
