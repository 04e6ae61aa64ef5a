package steady

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

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
