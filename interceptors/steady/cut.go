package steady

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
)

// cut says why a leg was ended here.
type cut struct {
	err    error
	local  bool            // it says nothing about the server, and another attempt would fare no better
	origin deadline.Origin // which of the rule's times ran out; none: it was something else
	limit  time.Duration
}

func newCut(origin deadline.Origin, limit time.Duration, what string) *cut {
	return &cut{
		origin: origin, limit: limit,
		err: status.Error(codes.DeadlineExceeded, fmt.Sprintf("steady: %s within %v", what, limit)),
	}
}

// outOfTime ends a leg whose time has run out, or tells that it would have been ended.
func (l *leg) outOfTime(r *cut, at time.Time) {
	if l.s.call.rule.mode == ModeObserve {
		l.wouldCut(r, at)
		return
	}
	if r.origin == deadline.OriginFirstMessage && !l.state.CompareAndSwap(legOpen, legOver) {
		return // it came after all
	}
	if l.cut.CompareAndSwap(nil, r) {
		l.ctx.cancel(context.DeadlineExceeded)
	}
}

// abort ends a leg for a reason of our own, which the application gets in place of what gRPC makes of it.
func (l *leg) abort(err error) {
	if l.cut.CompareAndSwap(nil, &cut{err: err, local: true}) && l.ctx != nil {
		l.ctx.cancel(context.Canceled)
	}
}

// wouldCut accounts for the would-have end of a leg whose rule only observes, while the leg goes on. See
// [try.wouldCut]: whoever claims the attempt owns its token and its gates.
func (l *leg) wouldCut(r *cut, at time.Time) {
	t, c := l.try, &l.s.call
	if !t.claim() {
		return
	}
	e := ending{code: codes.DeadlineExceeded, would: true, cut: true, own: true, enough: true, began: t.began.Load()}
	t.conclude(c.rule.judge(e), e, context.DeadlineExceeded, at)
	if o := c.ch.out.observers; o.on() {
		o.tell(t.cutByRule(r, at))
	}
	if e.began || !c.retries() || t.wouldRefuse || c.oneOnly() {
		return
	}
	seq := c.seq // this goroutine's copy
	if wait, stop := seq.Next(c.failed(e, at)); stop == retry.Go && c.ch.out.observers.on() {
		c.tellRetry(t.att.Number, e, nil, wait, at)
	}
}

// cutByRule is the event of a cut.
func (t *try) cutByRule(r *cut, at time.Time) *DeadlineCut {
	return &DeadlineCut{
		About: t.c.about(), Number: t.att.Number, Attempt: true, Origin: r.origin, Limit: r.limit, At: at,
		WouldHave: t.c.rule.mode == ModeObserve,
	}
}

// endingOf is what is known of the end of a leg that was ended here.
func (t *try) endingOf(r *cut, e ending) ending {
	e.local = e.local || r.local
	if r.origin != deadline.OriginNone { // the server had its time
		e.cut, e.enough = true, true
		e.own = t.c.ctx.Err() == nil && (t.c.deadline.IsZero() || t.ended.Before(t.c.deadline))
	}
	return e
}
