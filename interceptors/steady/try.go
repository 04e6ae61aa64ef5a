package steady

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/grpcsteady/steady/balancer/attempt"
	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
)

// wire is what gRPC gets of an attempt: its context, and what the attempt writes to. It is never reused, for
// a picker, a stats handler or an interceptor may hold on to it when the call is long over; and two attempts
// may run at once, each with its own.
type wire struct {
	context.Context // the caller's, or one derived from it with a deadline

	att     attempt.Attempt
	trailer metadata.MD
	peer    peer.Peer
	options [3]grpc.CallOption // ours, and the one that generated code passes
}

// Value makes the attempt part of its context without a further object.
func (w *wire) Value(k any) any {
	if attempt.IsKey(k) {
		return &w.att
	}
	return w.Context.Value(k)
}

// try is the driver's account of one attempt. It belongs to the goroutine that runs the attempt.
type try struct {
	*wire

	c     *call
	token breaker.Token
	gates []func(error) // done functions of the user's gates
	reply *kept         // set if attempts of the call may run at once

	header *metadata.MD // set if the caller asked for it; like wire it is never reused

	start time.Time
	limit time.Time // its own timeout, tighter than the call's; zero: none

	// Written when it ends.
	ended       time.Time
	err         error
	gate        string // the gate that refused it; "" if it was made
	end         ending
	verdict     Verdict
	wouldRefuse bool        // a gate would have refused it if the rule were enforced
	wasCut      bool        // its would-have cut, and what follows from it, came before its end
	over        bool        // settled, where nobody else could have done it
	settled     atomic.Bool // settled, in observe mode and for streams
	counted     atomic.Bool // a stream's breaker has its result
	began       atomic.Bool // a message of the stream was delivered
	committed   bool        // the stream belongs to the application: no other attempt may take its place
	cut         *cut        // why a stream was ended here
}

// claim reports whether the end of the attempt is still to be accounted for. Whoever gets true owns token
// and gates. Only a would-have cut and a stream's end come from other goroutines.
func (t *try) claim() bool {
	if t.c.rule.mode == ModeObserve || t.att.Stream {
		return t.settled.CompareAndSwap(false, true)
	}
	was := t.over
	t.over = true
	return !was
}

// count reports whether the breaker is still to be told. The first message of a probe stream may have.
func (t *try) count() bool {
	return t.c.m.breaker != nil && (!t.att.Stream || t.counted.CompareAndSwap(false, true))
}

// prepare makes an attempt ready to run in a context.
func (t *try) prepare(ctx context.Context, c *call, number int, start time.Time) {
	t.c, t.start = c, start
	t.wire = &wire{Context: ctx}
	if c.overlap {
		t.reply = new(kept)
		if c.tried == nil {
			c.tried = new(attempt.Call)
		}
	}
	t.att.Call, t.att.Channel, t.att.Method, t.att.Number = c.tried, c.ch.name, c.name, number
	t.att.Stream, t.att.Judged = c.stream, true
}

// run makes the attempt: gates, deadline, gRPC, and the account of its end.
func (t *try) run() {
	defer t.release() // a panic or Goexit below is not ours, but no slot is lost by it
	if !t.admit() {
		return
	}
	c := t.c
	t.setLimit()
	if limit := t.cutAt(); !limit.IsZero() && c.rule.mode == ModeEnforce {
		ctx, cancel := context.WithDeadline(t.Context, limit)
		defer cancel()
		t.Context = ctx
	}
	if !t.ask() { // from here on the context is in other hands, and does not change
		return
	}
	if c.rule.mode == ModeObserve {
		if stop := t.watch(); stop != nil { // only now: the gates are all there
			defer stop()
		}
	}
	t.err = honest(t.invoke())
	t.settle()
}

// setLimit gives the attempt the timeout of its own that the rule has for it.
func (t *try) setLimit() {
	c := t.c
	if c.rule.limits {
		if limit, tighter := c.rule.Deadline.Attempt(t.start, c.deadline); tighter {
			t.limit = limit
		}
	}
}

// cutAt returns the deadline that the attempt's context needs; zero: the caller's own is tight enough.
func (t *try) cutAt() time.Time {
	if !t.limit.IsZero() {
		return t.limit
	}
	if t.c.derive {
		return t.c.deadline
	}
	return time.Time{}
}

// invoke hands the attempt to gRPC.
func (t *try) invoke() error {
	c := t.c
	if f := c.ch.out.faults; f != nil {
		if err := injectFault(t.wire, f, c.about(), t.att.Number, false, c.ch.out.observers); err != nil {
			t.att.SetSent(true) // it stands for an error of the server
			return err
		}
	}
	opts := t.options[:0]
	if n := len(c.opts) + 2; n > len(t.options) {
		opts = make([]grpc.CallOption, 0, n+2) // two more: a header, a codec
	}
	opts = t.own(opts)
	reply := c.reply
	if t.reply != nil {
		codec, err := codecOf(c.opts)
		if err != nil {
			return err
		}
		opts, reply = append(opts, grpc.ForceCodecV2(keepCodec{codec})), t.reply
	}
	return c.invoke(t.wire, c.name, c.req, reply, c.cc, opts...)
}

// settle accounts for the end of the attempt: verdict, breaker, gates, learned duration, events. In observe
// mode the instant at which the attempt would have been cut may have come before and settled it.
func (t *try) settle() {
	if t.needsClock() {
		t.ended = t.start.Add(time.Since(t.start))
	}
	t.end = t.ending()
	t.verdict = t.judge()
	if t.claim() {
		t.conclude(t.verdict, t.end, t.err, t.ended)
		t.tellCut()
	} else {
		t.wasCut = true
	}
	t.tellEnd()
}

// tellEnd tells observers how the attempt ended.
func (t *try) tellEnd() {
	c := t.c
	o := c.ch.out.observers
	if !o.on() {
		return
	}
	e := attemptEvents.Get().(*AttemptEnded)
	*e = AttemptEnded{
		About: c.about(), Number: t.att.Number, Picked: t.att.Picked(), Addr: t.peer.Addr, Code: t.end.code, Err: t.err,
		Verdict: t.verdict, Start: t.start, Duration: t.took(),
	}
	o.tell(e)
	*e = AttemptEnded{}
	attemptEvents.Put(e)
}

// The two events of every call are used again, so that telling them costs no object.
var (
	attemptEvents = sync.Pool{New: func() any { return new(AttemptEnded) }}
	callEvents    = sync.Pool{New: func() any { return new(CallEnded) }}
)

// needsClock reports whether somebody wants to know when the attempt ended.
func (t *try) needsClock() bool {
	c := t.c
	return t.err != nil || c.m.breaker != nil || c.rule.deadline || c.story != nil || c.ch.out.observers.on()
}

// took returns how long the attempt ran.
func (t *try) took() time.Duration { return t.ended.Sub(t.start) }

// ending collects what is known of the end.
func (t *try) ending() ending {
	if t.err == nil {
		return ending{}
	}
	c := t.c
	e := ending{code: codeOf(t.err)}
	e.local = isLocal(e.code, t.err)
	e.unsent = t.unsent(e.code)
	e.pushback = pushbackOf(t.err, t.trailer)
	callerErr := c.ctx.Err()
	e.canceled = errors.Is(callerErr, context.Canceled) || c.stream && e.code == codes.Canceled
	e.began = t.began.Load()
	if t.cut != nil {
		return t.endingOf(t.cut, e)
	}
	if e.code != codes.DeadlineExceeded {
		return e
	}
	e.cut = !t.limit.IsZero() && !t.ended.Before(t.limit)
	e.own = !t.limit.IsZero() && callerErr == nil && (c.deadline.IsZero() || t.ended.Before(c.deadline))
	e.enough = t.enough(t.ended)
	return e
}

// enough reports whether the attempt had time enough by then to say something about the server: its whole
// attempt timeout, what the rule itself gave the call, or the method's learned median. What the caller gave, or a
// share of it, or what earlier attempts left over, says nothing.
func (t *try) enough(at time.Time) bool {
	c := t.c
	took := at.Sub(t.start)
	if c.rule.limits && c.rule.Deadline.AttemptTimeout > 0 && took >= c.rule.Deadline.AttemptTimeout {
		return true
	}
	if t.att.Number == 1 && c.derive && (c.origin == deadline.OriginDefault || c.origin == deadline.OriginCap) {
		limit := c.deadline
		if !t.limit.IsZero() {
			limit = t.limit
		}
		if !at.Before(limit) {
			return true
		}
	}
	median, ok := c.m.memory.learned.Median(at)
	return ok && took >= median
}

// judge gives the verdict: the user's classifier first, then the rule.
func (t *try) judge() Verdict {
	c := t.c
	if f := c.ch.out.classifier; f != nil {
		reply := c.reply
		if t.err != nil || t.reply != nil {
			reply = nil
		}
		if v := f(c.name, reply, t.err); v != VerdictDefault {
			return v
		}
	}
	return c.rule.judge(t.end)
}

// endpoint returns where the attempt was sent: what the picker told, or else what the connection says.
func (t *try) endpoint() string {
	if name := t.att.Picked(); name != "" || t.peer.Addr == nil {
		return name
	}
	name := t.peer.Addr.String()
	t.att.SetPicked(&name) // a foreign balancer does not read it, but the story does
	return name
}

// unsent reports whether the attempt provably never left the client: the picker says so, or there was no
// connection to send it on.
func (t *try) unsent(code codes.Code) bool {
	switch t.att.Sent() {
	case attempt.SentNo:
		return true
	case attempt.SentYes:
		return false
	default:
		return t.peer.Addr == nil && code == codes.Unavailable && len(t.trailer) == 0
	}
}

// tellCut tells that a rule's deadline ended the attempt.
func (t *try) tellCut() {
	c := t.c
	if t.end.code != codes.DeadlineExceeded || !c.ch.out.observers.on() || c.rule.mode != ModeEnforce {
		return
	}
	if t.cut != nil && t.cut.origin != deadline.OriginNone {
		c.ch.out.observers.tell(t.cutByRule(t.cut, t.ended))
		return
	}
	ruled := c.derive && c.origin != deadline.OriginCaller && !t.ended.Before(c.deadline)
	if t.end.cut || ruled {
		c.ch.out.observers.tell(t.cutEvent(t.end.cut, t.ended))
	}
}
