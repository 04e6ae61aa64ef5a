package steady

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/retry"
)

// watch stands in for the deadline of an attempt whose rule only observes: at the instant at which the
// attempt would have been cut, its would-have end is accounted for, while the attempt goes on.
func (t *try) watch() (stop func()) {
	limit, own := t.limit, true
	if limit.IsZero() {
		if !t.c.derive {
			return nil
		}
		limit, own = t.c.deadline, false
	}
	timer := time.AfterFunc(time.Until(limit), func() { t.wouldCut(own, limit) })
	return func() { timer.Stop() }
}

// wouldCut runs on a goroutine of its own beside the attempt. Whoever settles the attempt first owns its
// token, its gates and the decision about a retry; what it reads of the call is not written meanwhile.
func (t *try) wouldCut(own bool, at time.Time) {
	if !t.claim() {
		return
	}
	c := t.c
	e := ending{code: codes.DeadlineExceeded, would: true, cut: own, own: own, enough: t.enough(at)}
	t.conclude(c.rule.judge(e), e, context.DeadlineExceeded, at)
	if o := c.ch.out.observers; o.on() {
		o.tell(t.cutEvent(own, at))
	}
	if !own || !c.retries() || t.wouldRefuse || c.oneOnly() {
		return
	}
	seq := c.seq // this goroutine's copy
	failed := c.failed(e, at)
	if wait, stop := seq.Next(failed); stop == retry.Go && c.ch.out.observers.on() {
		c.tellRetry(t.att.Number, e, nil, wait, at)
	}
}

func (t *try) cutEvent(own bool, at time.Time) *DeadlineCut {
	c := t.c
	e := &DeadlineCut{
		About: c.about(), Number: t.att.Number, Attempt: own, Origin: c.origin, Limit: c.deadline.Sub(c.start), At: at,
		WouldHave: c.rule.mode == ModeObserve,
	}
	if own {
		e.Limit = t.limit.Sub(t.start)
	}
	return e
}
