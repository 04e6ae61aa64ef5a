package steady

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/balancer/attempt"
	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
)

// call is one call under the driver. Everything in it belongs to the goroutine that makes the call (of a stream:
// to whoever has claimed the end of its attempt), and nothing of it is handed to anybody else, so that it can be used for another call afterwards: what gRPC and
// pickers may hold on to is in each attempt's wire.
type call struct {
	ch     *channel
	m      *method
	rule   *compiled
	name   string          // full method
	ctx    context.Context // the caller's
	cc     *grpc.ClientConn
	invoke grpc.UnaryInvoker
	req    any
	reply  any
	opts   []grpc.CallOption // for attempts, without ours
	asked  *asked            // nil: the caller asked for nothing special

	start    time.Time
	deadline time.Time // in force; zero: none
	origin   deadline.Origin
	derive   bool // the deadline in force is tighter than that of ctx
	stream   bool
	overlap  bool // attempts may run at once: each keeps its reply until one is taken

	tried   *attempt.Call // from the second attempt on
	seq     retry.Sequence
	would   bool // a rule that only observes would have made another attempt
	capped  bool // one attempt only, since an earlier hop is retrying already
	last    *try // the last attempt that was made
	story   *[]AttemptReport
	stop    retry.Stop
	detail  string
	refused bool // the call ended with a refusal by a gate
	open    bool // which was an open breaker
	made    int

	first try
}

// unary is the interceptor of a channel for unary calls.
func (b *binding) unary(ctx context.Context, name string, req, reply any, cc *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	ch := b.channel(cc)
	m := ch.method(name, false)
	if m.rule.mode == ModeOff || ch.idle(m, opts) {
		return invoke(ctx, name, req, reply, cc, opts...)
	}
	if m.plain && !special(opts, true) {
		return ch.quick(ctx, m, name, req, reply, cc, invoke, opts)
	}
	c := ch.newCall(ctx, m, name, req, reply, cc, invoke, opts, ch.now())
	c.begin(opts)
	return c.done(c.run())
}

// calls holds calls that are over. They are empty: no context, timer or channel outlives its call.
var calls = sync.Pool{New: func() any { return new(call) }}

// newCall makes a unary call.
func (ch *channel) newCall(ctx context.Context, m *method, name string, req, reply any, cc *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts []grpc.CallOption, start time.Time,
) *call {
	c := calls.Get().(*call)
	c.ch, c.m, c.rule, c.name, c.ctx, c.cc = ch, m, m.rule, name, ctx, cc
	c.invoke, c.req, c.reply, c.opts, c.start = invoke, req, reply, opts, start
	return c
}

// done gives a call back that has ended with err, and returns err.
func (c *call) done(err error) error {
	if c.rule.mode == ModeEnforce { // a would-have cut may still be looking at it otherwise
		*c = call{}
		calls.Put(c)
	}
	return err
}

// idle reports whether there is nothing to do for a call but to make it.
func (ch *channel) idle(m *method, opts []grpc.CallOption) bool {
	return m.idle && !slices.ContainsFunc(opts, ours)
}

// begin reads the options, settles the deadline, starts the sequence of attempts and counts the call.
func (c *call) begin(opts []grpc.CallOption) {
	c.terms(opts)
	if c.retries() {
		c.ch.budget.Deposit(c.start)
	}
}

// terms is begin without counting the call.
func (c *call) terms(opts []grpc.CallOption) {
	own := c.rule.mode == ModeEnforce || c.stream
	if special(opts, own) {
		c.asked = new(asked)
		c.asked.read(opts, own)
		c.opts = c.asked.rest
	}
	c.deadline, c.origin, c.derive = c.rule.budget(c.ctx, c.start, c.asked.within(), c.stream)
	if c.retries() {
		cfg := c.rule.Retry
		if cfg == nil {
			cfg = &defaultRetry
		}
		if n := c.asked.most(); n > 0 {
			own := *cfg
			own.MaxAttempts = n
			cfg = &own
		}
		c.seq = cfg.Start(c.start)
	}
	if c.asked != nil && c.asked.report != nil {
		c.story = new([]AttemptReport)
	}
}

var defaultRetry = retry.Config{}.WithDefaults()

// retries reports whether the call may make more than one attempt at all.
func (c *call) retries() bool { return c.rule.retries || c.asked.most() > 0 }

// budget returns the deadline in force for a call, where it came from, and whether it is tighter than the
// context's. A stream gets neither a default nor a cap.
func (r *compiled) budget(ctx context.Context, now time.Time, within time.Duration, stream bool) (time.Time, deadline.Origin, bool) {
	caller, has := ctx.Deadline()
	if !r.deadline && within == 0 {
		return caller, deadline.OriginCaller, false
	}
	limit, origin := caller, deadline.OriginCaller
	if r.deadline {
		cfg := r.Deadline
		if within > 0 || stream { // the call's own wish stands above default and cap, not above the reserve
			cfg = r.reserveOnly
		}
		kept, reserved := caller, false
		if has {
			kept, reserved = r.keepBack(ctx, now, caller)
		}
		if limit, origin = cfg.Call(now, kept, false); reserved && origin == deadline.OriginCaller {
			origin = deadline.OriginReserve
		}
	}
	if within > 0 {
		if d := now.Add(within); limit.IsZero() || d.Before(limit) {
			limit, origin = d, deadline.OriginCaller
		}
	}
	return limit, origin, !limit.IsZero() && (!has || limit.Before(caller))
}

// keepBack keeps this hop's reserve back from the deadline that came in with the server call we work for. A
// tighter one that the handler gave the call itself leaves more than that already; a later one has nothing to do
// with what came in.
func (r *compiled) keepBack(ctx context.Context, now, caller time.Time) (time.Time, bool) {
	h := hopFrom(ctx)
	if h == nil || h.deadline.IsZero() || caller.After(h.deadline) {
		return caller, false
	}
	if kept, _ := r.reserveOnly.Call(now, h.deadline, true); kept.Before(caller) {
		return kept, true
	}
	return caller, false
}

// run is the driver: it makes attempts until one succeeds or there is a reason to stop.
func (c *call) run() error {
	if err := c.feasible(); err != nil {
		return c.end(nil, err)
	}
	t := &c.first
	t.prepare(c.ctx, c, 1, c.start)
	t.run()
	return c.rest(t)
}

// rest makes what attempts must follow one that has ended, and ends the call.
func (c *call) rest(t *try) error {
	for {
		next, last, err := c.after(t)
		if next == nil {
			return c.end(last, err)
		}
		t = next
		t.run()
	}
}

// after decides what follows an attempt that has ended: another one, when its wait is over, or else the end of
// the call, with the attempt that decides it.
func (c *call) after(t *try) (next, last *try, err error) {
	if t.gate != "" {
		c.record(t, 0)
		c.refused, c.open = true, errors.Is(t.err, breaker.ErrOpen)
		if c.last != nil { // a real answer of the server says more than our refusal
			c.stop, c.detail = retry.StopRefused, "by "+t.gate
			return nil, c.last, c.last.err
		}
		return nil, t, t.err
	}
	c.made++
	c.last = t
	if t.err == nil {
		c.record(t, 0)
		return nil, t, nil
	}
	wait, stop := c.decide(t)
	if c.would {
		wait = 0
	}
	c.record(t, wait)
	if stop != retry.Go || c.would {
		c.stop = stop
		return nil, t, t.err
	}
	if !c.pause(wait) {
		c.stop = retry.StopCanceled
		return nil, t, contextError(c.ctx, t.err)
	}
	return c.another(), nil, nil
}

// feasible refuses a call whose time is too short to be worth sending, if the rule wants that.
func (c *call) feasible() error {
	if !c.rule.deadline || c.rule.Deadline.Feasibility != deadline.FeasibilityAll || c.deadline.IsZero() {
		return nil
	}
	err := c.m.memory.feasible.Check(c.start, c.deadline.Sub(c.start), &c.m.memory.learned)
	if err == nil {
		return nil
	}
	refusal := c.refusal(1, "deadline", err, 0, c.start)
	if c.rule.mode == ModeObserve {
		return nil
	}
	c.refused = true
	return refusal
}

// refusal makes the error of a refused attempt and tells observers of it.
func (c *call) refusal(number int, gate string, err error, after time.Duration, now time.Time) *RefusedError {
	r := &RefusedError{Gate: gate, Method: c.name, RetryAfter: min(after, maxRetryAfter), Err: err}
	if o := c.ch.out.observers; o.on() {
		o.tell(&Refused{
			About: c.about(), Number: number, Gate: gate, Err: err, RetryAfter: r.RetryAfter, At: now,
			WouldHave: c.rule.mode == ModeObserve,
		})
	}
	return r
}

// about returns what events say about the call. Methods that share their state keep their own name.
func (c *call) about() About {
	a := c.m.about
	a.Method = c.name
	return a
}

// another makes the next attempt.
func (c *call) another() *try {
	if c.tried == nil {
		c.tried = new(attempt.Call)
		c.tried.Adopt(&c.first.att)
	}
	t := new(try)
	t.prepare(previousAttempts(c.ctx, c.made), c, c.made+1, time.Now())
	return t
}

// previousAttempts sets the header that gRPC demands of retries, in place of one that the caller may have
// passed on by accident.
func previousAttempts(ctx context.Context, n int) context.Context {
	md, ok := metadata.FromOutgoingContext(ctx)
	if !ok {
		md = metadata.MD{}
	}
	md.Set(attemptsKey, strconv.Itoa(n))
	return metadata.NewOutgoingContext(ctx, md)
}

// decide asks whether, and after what wait, another attempt follows. In observe mode the answer is told and
// then ignored.
func (c *call) decide(t *try) (time.Duration, retry.Stop) {
	if !c.retries() || t.wouldRefuse || t.wasCut {
		return 0, retry.StopPermanent
	}
	failed := c.failed(t.end, t.ended)
	if failed.Retryable && c.made == 1 && c.oneOnly() {
		c.capped = true
		return 0, retry.StopAttempts
	}
	if t.committed {
		return 0, retry.StopPermanent
	}
	wait, stop := c.seq.Next(failed)
	if stop == retry.StopBudget && c.observed() {
		s := c.ch.budget.Snapshot(t.ended)
		c.detail = fmt.Sprintf("%d of %d", s.Left, s.Capacity)
	}
	if stop != retry.Go {
		return 0, stop
	}
	if c.ch.out.observers.on() {
		c.tellRetry(t.att.Number, t.end, t.err, wait, t.ended)
	}
	if c.rule.mode == ModeObserve {
		c.would = true
	}
	return wait, retry.Go
}

// oneOnly reports whether a layer above is retrying already: then one attempt is made here.
func (c *call) oneOnly() bool { return c.asked.most() == 0 && earlierAttempts(c.ctx) > 0 }

// failed describes the end of an attempt to the sequence of attempts.
func (c *call) failed(e ending, at time.Time) retry.Failed {
	f := retry.Failed{
		Now: at, Deadline: c.deadline, Retryable: c.retryable(e), Pushback: e.pushback,
		Budget: c.ch.budget, Random: c.ch.out.random,
	}
	if c.rule.deadline && c.rule.Deadline.Feasibility != deadline.FeasibilityOff {
		f.Need, _ = c.m.memory.learned.Median(at)
	}
	return f
}

func (c *call) tellRetry(number int, e ending, err error, wait time.Duration, at time.Time) {
	c.ch.out.observers.tell(&Retried{
		About: c.about(), Number: number, Code: e.code, Err: err, Wait: wait, Pushback: e.pushback.Set, At: at,
		WouldHave: c.rule.mode == ModeObserve,
	})
}

// observed reports whether somebody will read the story of the call.
func (c *call) observed() bool { return c.rule.mode == ModeEnforce || c.story != nil }

// retryable reports whether another attempt may follow the error: its code must be one to retry on, and
// somebody must have said that the method may be repeated, unless nothing has left the client.
func (c *call) retryable(e ending) bool {
	if e.local || e.canceled {
		return false
	}
	wanted := false
	switch set := c.rule.retryOn; {
	case set != 0:
		wanted = set.has(e.code)
	case e.code == codes.Unavailable:
		wanted = true
	case e.code == codes.ResourceExhausted:
		wanted = e.pushback.Set
	case e.code == codes.DeadlineExceeded:
		wanted = e.own // of the attempt, here or a little earlier at a server that kept a reserve; never of the call
	}
	if !wanted {
		return false
	}
	return c.permitted() || e.unsent
}

// permitted reports whether somebody has said that the method may be repeated.
func (c *call) permitted() bool {
	return c.rule.Idempotent || c.rule.named || c.m.repeats || c.asked.safe()
}

// pause waits before the next attempt. It reports false if the caller went away meanwhile.
func (c *call) pause(wait time.Duration) bool {
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.ctx.Done():
		}
	}
	return c.ctx.Err() == nil
}

// contextError returns what a call whose caller went away between two attempts ends with: the cancel is the
// caller's own, but a deadline that ran out says less than the server's last word.
func contextError(ctx context.Context, last error) error {
	if ctx.Err() == context.Canceled {
		return status.FromContextError(ctx.Err()).Err()
	}
	return last
}
