package steady

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/balancer/attempt"
	"github.com/grpcsteady/steady/interceptors/retry"
)

// record adds an attempt to the story of the call. An attempt that succeeds at once has no story, unless
// the caller asked for it.
func (c *call) record(t *try, wait time.Duration) {
	if c.story == nil {
		if t.err == nil && c.made == 1 || c.rule.mode != ModeEnforce {
			return
		}
		c.story = new([]AttemptReport)
	}
	*c.story = append(*c.story, AttemptReport{
		Number: t.att.Number, Endpoint: t.endpoint(), Code: t.end.code, Err: t.err,
		Start: t.start.Sub(c.start), Duration: t.took(), Wait: wait, Refused: t.gate,
	})
}

// end is the one way out of a call: it takes the reply, asks the fallback, hands over what the final
// attempt received, tells everybody, and returns what the caller gets. t is the attempt that decides; nil
// if none was made.
func (c *call) end(t *try, err error) error {
	if err == nil && c.overlap {
		err = c.take(t)
	}
	fellBack := false
	if err != nil {
		if fellBack = c.fallback(t, err); fellBack {
			err = nil
		} else {
			c.blame()
			err = c.wrap(err)
		}
	} else if c.m.success != nil && !c.stream {
		c.m.success(c.ctx, c.req, c.reply)
	}
	if c.asked != nil {
		c.handOver(t)
	}
	c.tellEnd(err, fellBack)
	if c.asked != nil {
		for _, f := range c.asked.finish {
			f.OnFinish(err)
		}
	}
	return err
}

// tellEnd tells the caller's report and the observers how the call ended.
func (c *call) tellEnd(err error, fellBack bool) {
	if c.asked != nil && c.asked.report != nil {
		*c.asked.report = c.report(err, fellBack)
	}
	o := c.ch.out.observers
	if !o.on() {
		return
	}
	e := callEvents.Get().(*CallEnded)
	*e = CallEnded{
		About: c.about(), Code: codeOf(err), Err: err, Attempts: c.made, Elsewhere: c.elsewhere(),
		Start: c.start, Duration: time.Since(c.start), Stop: c.stop, FellBack: fellBack,
	}
	o.tell(e)
	*e = CallEnded{}
	callEvents.Put(e)
}

// take decodes the winner's reply into the caller's message.
func (c *call) take(t *try) error {
	codec, err := codecOf(c.opts)
	if err == nil {
		err = codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(t.reply.data)}, c.reply)
	}
	if err != nil {
		return status.Errorf(codes.Internal, "grpc: failed to unmarshal the received message: %v", err)
	}
	return nil
}

// handOver gives the caller's header, trailer and peer options what the final attempt received. Where no
// attempt was made they stay as they are.
func (c *call) handOver(t *try) {
	if t == nil || t.gate != "" {
		return
	}
	var header metadata.MD
	if t.header != nil { // a fault may have struck before gRPC was asked
		header = *t.header
	}
	for _, o := range c.asked.header {
		*o.HeaderAddr = header
	}
	for _, o := range c.asked.trailer {
		*o.TrailerAddr = t.trailer
	}
	for _, o := range c.asked.peer {
		*o.PeerAddr = t.peer
	}
}

// blame tells the server call we work for that retrying it is of no use: its attempts, its budget or its
// breaker have been spent here, next to the failure.
func (c *call) blame() {
	if c.rule.mode != ModeEnforce || c.capped {
		return
	}
	switch {
	case c.open, c.stop == retry.StopBudget, c.stop == retry.StopPushback: // pushback: a layer below has spent its own
	case c.stop == retry.StopAttempts && c.made > 1:
	default:
		return
	}
	if h := hopFrom(c.ctx); h != nil {
		h.spent.Store(true)
	}
}

// fallback lets the user's function answer if the failure lies with the server, and reports whether it did.
func (c *call) fallback(t *try, cause error) (answered bool) {
	if c.m.answer == nil || c.stream || c.rule.mode != ModeEnforce || errors.Is(c.ctx.Err(), context.Canceled) {
		return false
	}
	if !c.refused && t != nil && t.verdict != VerdictFailure && t.verdict != VerdictSuspect && t.end.code != codes.DeadlineExceeded {
		return false
	}
	err := c.answer(cause)
	if o := c.ch.out.observers; o.on() {
		o.tell(&FellBack{About: c.about(), Cause: cause, Err: err})
	}
	return err == nil
}

// answer runs the user's fallback and turns a panic into an error: it is the last resort of a call that has
// failed already, and must not make things worse.
func (c *call) answer(cause error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("fallback of %s panicked: %v", c.name, p)
		}
	}()
	return c.m.answer(c.ctx, c.req, c.reply, cause)
}

// wrap gives an error its story, if there is one to tell: the rule retried, cut or stopped the call. The
// plain error of a single attempt stays what it is.
func (c *call) wrap(err error) error {
	var refused *RefusedError
	if c.rule.mode != ModeEnforce || c.made <= 1 && (c.stop == retry.Go || c.stop == retry.StopPermanent) || errors.As(err, &refused) {
		return err
	}
	return &CallError{Report: c.report(err, false), err: err}
}

// report tells the story of the call.
func (c *call) report(err error, fellBack bool) Report {
	r := Report{
		Channel: c.ch.name, Method: c.name, Rule: c.rule.Name, Where: c.rule.where, Code: codeOf(err), Duration: time.Since(c.start),
		Stop: c.stop, Detail: c.detail, FellBack: fellBack,
	}
	if c.story != nil {
		r.Attempts = *c.story
	}
	if !c.deadline.IsZero() {
		r.Limit = c.deadline.Sub(c.start)
	}
	return r
}

// elsewhere counts the attempts that went to an endpoint the call had not tried before.
func (c *call) elsewhere() int {
	if c.made < 2 {
		return 0
	}
	tried := c.tried.Tried()
	n := 0
	for i, name := range tried {
		fresh := i > 0
		for _, before := range tried[:i] {
			fresh = fresh && before != name
		}
		if fresh {
			n++
		}
	}
	return n
}

// earlierAttempts returns how many attempts a layer above has already made: the caller of the server call we
// work for, or another driver further up the same chain of interceptors.
func earlierAttempts(ctx context.Context) int {
	if above := attempt.From(ctx); above != nil {
		return max(above.Number, 1)
	}
	if h := hopFrom(ctx); h != nil {
		return h.earlier
	}
	return readAttempts(metadata.ValueFromIncomingContext(ctx, attemptsKey))
}
