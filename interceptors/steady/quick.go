package steady

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/balancer/attempt"
	"github.com/grpcsteady/steady/interceptors/breaker"
)

// quick makes a unary call whose first attempt succeeds, as nearly all do, with what fits on the stack: there is
// no call or try to fill, to clear and to give back, while the garbage collector watches every pointer. It does what
// they do, in their order, as far as a plain method needs it: an enforced rule without gates of the user's, faults, a
// classifier and feasibility of first attempts, and no options that the driver reads. What does not end well becomes a
// call, with the attempt that has just ended as its first.
//
// The deadline is the standard library's, although that is two thirds of what is left. A context of our own, in one
// object with the wire, with a timer and a channel made when somebody asks for Done, took 0.2 of its time with nobody
// asking; but gRPC asks, and derives a context for every attempt: then it took 0.8 of the time below a context that is
// never cancelled, and as long (1.0) below one that is, with two objects more, since only the library's contexts
// can be told of each other without a goroutine or three objects.
func (ch *channel) quick(ctx context.Context, m *method, name string, req, reply any, cc *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts []grpc.CallOption,
) error {
	f := first{start: ch.now()}
	if m.rule.retries {
		ch.budget.Deposit(f.start)
	}
	var err, refused error
	if m.breaker != nil {
		f.token, refused = m.breaker.AllowAt(f.start)
	}
	if refused == nil {
		if err = f.run(ctx, ch, m, name, req, reply, cc, invoke, opts); err == nil {
			f.tell(ctx, ch, m, name, req, reply)
			return nil
		}
	}
	c := ch.newCall(ctx, m, name, req, reply, cc, invoke, opts, f.start)
	c.terms(opts)
	t := &c.first
	if refused != nil {
		t.prepare(ctx, c, 1, f.start)
		t.refuse("breaker", refused, m.breaker.RetryAfter(f.start))
	} else {
		t.c, t.start, t.wire, t.token, t.err = c, f.start, f.wire, f.token, err
		t.setLimit()
		t.fail()
	}
	return c.done(c.rest(t))
}

// fail accounts for the end of an attempt that was made elsewhere.
func (t *try) fail() {
	defer t.release() // nobody else gives back what it holds
	t.settle()
}

// first is the first attempt of a call, as long as it is not known to have failed.
type first struct {
	wire  *wire
	token breaker.Token
	start time.Time
	took  time.Duration // of a success, if somebody needs to know
	over  bool          // the token was ended, or is another's now
}

// run makes the attempt, and accounts for its end if that is a success.
func (f *first) run(ctx context.Context, ch *channel, m *method, name string, req, reply any, cc *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts []grpc.CallOption,
) error {
	defer f.release() // a panic or Goexit below is not ours, but no slot is lost by it
	w := &wire{Context: ctx}
	w.att.Channel, w.att.Method, w.att.Number, w.att.Judged = ch.name, name, 1, true
	f.wire = w
	if m.rule.deadline {
		if limit := m.rule.cutAt(ctx, f.start); !limit.IsZero() {
			derived, cancel := context.WithDeadline(ctx, limit)
			defer cancel()
			w.Context = derived
		}
	}
	own := w.options[:0]
	if n := len(opts) + 2; n > len(w.options) {
		own = make([]grpc.CallOption, 0, n)
	}
	own = append(own, opts...)
	own = append(own, grpc.Trailer(&w.trailer), grpc.Peer(&w.peer))
	err := honest(invoke(w, name, req, reply, cc, own...))
	f.over = true
	if err != nil {
		return err
	}
	learns := m.breaker != nil || m.rule.deadline
	if !learns && !ch.out.observers.on() {
		w.att.Tell(attempt.Outcome{Result: attempt.Success})
		return nil
	}
	f.took = time.Since(f.start)
	ended := f.start.Add(f.took)
	w.att.Tell(attempt.Outcome{Result: attempt.Success, At: ended})
	if !learns {
		return nil
	}
	if m.breaker != nil {
		if w.peer.Addr != nil && w.att.Endpoints() == 0 {
			ch.seen.success(ended, w.peer.Addr)
		}
		f.token.End(ended, breaker.Outcome{Result: breaker.Success, Duration: f.took})
	}
	m.memory.learned.Observe(ended, f.took)
	return nil
}

// cutAt returns the deadline that the first attempt of a call that begins at start needs; zero: the caller's own
// is tight enough.
func (r *compiled) cutAt(ctx context.Context, start time.Time) time.Time {
	limit, _, derive := r.budget(ctx, start, 0, false)
	if r.limits {
		if own, tighter := r.Deadline.Attempt(start, limit); tighter {
			return own
		}
	}
	if derive {
		return limit
	}
	return time.Time{}
}

// release gives back what an attempt holds that did not come to its end in order.
func (f *first) release() {
	if !f.over {
		f.token.End(time.Now(), breaker.Outcome{Result: breaker.Nothing})
	}
}

// tell tells observers and the function for successes that the call has succeeded.
func (f *first) tell(ctx context.Context, ch *channel, m *method, name string, req, reply any) {
	o := ch.out.observers
	if !o.on() {
		if m.success != nil {
			m.success(ctx, req, reply)
		}
		return
	}
	took := f.took
	e := successes.Get().(*successEvents)
	a := &e.attempt
	a.About, a.Number, a.Picked, a.Addr = m.about, 1, f.wire.att.Picked(), f.wire.peer.Addr
	if a.Method == "" { // of methods that share their state
		a.Method = name
	}
	a.Code, a.Err, a.Verdict, a.Start, a.Duration = codes.OK, nil, VerdictSuccess, f.start, took
	o.tell(a)
	a.Picked, a.Addr = "", nil
	if m.success != nil {
		m.success(ctx, req, reply)
		took = time.Since(f.start) // its time is the caller's
	}
	c := &e.call
	c.About, c.Code, c.Err, c.Attempts, c.Elsewhere = m.about, codes.OK, nil, 1, 0
	if c.Method == "" {
		c.Method = name
	}
	c.Start, c.Duration, c.Stop, c.FellBack = f.start, took, 0, false
	o.tell(c)
	successes.Put(e)
}

// successEvents are the two events of a call that succeeded at once.
type successEvents struct {
	attempt AttemptEnded
	call    CallEnded
}

// successes holds events that were told, without what belongs to a connection.
var successes = sync.Pool{New: func() any { return new(successEvents) }}
