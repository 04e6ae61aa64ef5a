package steady

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/balancer/attempt"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
)

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
