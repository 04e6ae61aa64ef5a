package steady

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/retry"
)

// stream is one stream under its rule. It is opened once; gates are asked before, and its outcome counts
// when it ends, once.
type stream struct {
	grpc.ClientStream
	call   call
	cancel context.CancelFunc
	single bool        // one response at most: the first message is the end
	began  atomic.Bool // a message has arrived
	over   sync.Once
}

// stream is the interceptor of a channel for streams.
func (b *binding) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, name string,
	open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	ch := b.channel(cc)
	m := ch.method(name, true)
	if m.rule.mode == ModeOff || ch.idle(m, opts) {
		return open(ctx, desc, cc, name, opts...)
	}
	s := &stream{call: call{ch: ch, m: m, rule: m.rule, name: name, ctx: ctx, cc: cc, opts: opts, start: time.Now()}}
	return s.open(desc, open, opts)
}

// open asks the gates and opens the stream.
func (s *stream) open(desc *grpc.StreamDesc, open grpc.Streamer, opts []grpc.CallOption) (grpc.ClientStream, error) {
	c := &s.call
	if special(opts, false) {
		c.asked = new(asked)
		c.asked.read(opts, false)
		c.opts = c.asked.rest
		if c.asked.report != nil {
			c.story = new([]AttemptReport)
		}
	}
	t := &c.first
	t.prepare(c.ctx, c, 1, c.start)
	t.att.Stream = true
	opened := false
	defer func() {
		if !opened {
			t.release() // refused, or code below panicked
			s.stop()
		}
	}()
	c.deadline, c.origin, c.derive = c.rule.budget(c.ctx, c.start, c.asked.within(), true)
	if c.derive && c.rule.mode == ModeEnforce {
		t.Context, s.cancel = context.WithDeadline(c.ctx, c.deadline)
	}
	if !t.admit() || !t.ask() {
		c.refused = true
		err := c.end(t, t.err)
		for _, o := range opts {
			if f, ok := o.(finishOption); ok {
				f.OnFinish(err)
			}
		}
		return nil, err
	}
	if f := c.ch.out.faults; f != nil {
		if err := injectFault(t.wire, f, c.about(), 1, false, c.ch.out.observers); err != nil {
			opened = true
			s.finish(err)
			return nil, err
		}
	}
	all := make([]grpc.CallOption, 0, len(c.opts)+3)
	all = append(all, c.opts...)
	all = append(all, grpc.Trailer(&t.trailer), grpc.Peer(&t.peer), onFinish(s.finish))
	inner, err := open(t.wire, desc, c.cc, c.name, all...)
	opened = true
	if err != nil {
		s.finish(err)
		return nil, err
	}
	s.ClientStream, s.single = inner, !desc.ServerStreams
	return s, nil
}

func (s *stream) stop() {
	if s.cancel != nil {
		s.cancel()
	}
}

// RecvMsg notes the first message: it decides a half-open probe, which must not hold its slot for as long as
// a stream may live.
func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil && !s.began.Load() {
		s.firstMessage()
	}
	if err != nil || s.single {
		s.finish(err) // gRPC has told already, or is telling on another goroutine: then this waits for it
	}
	return err
}

func (s *stream) firstMessage() {
	if !s.began.CompareAndSwap(false, true) {
		return
	}
	t := &s.call.first
	if t.token.Probe() && t.counted.CompareAndSwap(false, true) {
		now := time.Now()
		t.token.End(now, breaker.Outcome{Result: breaker.Success, Duration: now.Sub(t.start)})
	}
}

// finish accounts for the end of the stream, once. gRPC calls it on whatever goroutine the stream ends; a
// stream that could not be opened, and one whose end is read, come here as well.
func (s *stream) finish(err error) { s.over.Do(func() { s.account(err) }) }

func (s *stream) account(err error) {
	defer s.stop()
	if err == io.EOF { //nolint:errorlint // gRPC's word for success is this very value
		err = nil
	}
	c := &s.call
	t := &c.first
	t.err, t.ended = err, time.Now()
	t.end = t.ending()
	t.end.began = s.began.Load()
	if err != nil && t.end.code == codes.Canceled {
		t.end.canceled = true
	}
	t.verdict = t.judge()
	if t.claim() {
		t.conclude(t.verdict, t.end, err, t.ended)
	}
	c.made, c.last, c.stop = 1, t, retry.Go
	t.tellEnd()
	c.record(t, 0)
	c.tellEnd(err, false)
}
