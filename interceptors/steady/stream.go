package steady

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// stream is one stream under its rule: a call whose attempts are streams of gRPC's. Until it is committed, what
// the application sends is kept and sent again on the next attempt; from then on it is the stream of the final
// attempt, with nothing in between but what counts its end.
//
// Order of locks: turn or reading, then drive; who holds drive never waits for the others, and who holds turn does
// not wait for reading. They are channels, since they are held over waits, and a wait for a mutex would stop the
// clock of a bubble.
type stream struct {
	call   call
	desc   *grpc.StreamDesc
	opener grpc.Streamer
	keeps  bool             // what is sent is kept for another attempt
	codec  encoding.CodecV2 // the call's, if keeps
	name   string           // what the content type is made of

	final atomic.Pointer[leg] // set when the stream is committed: no attempt will take this one's place
	live  atomic.Pointer[leg] // final, when everything that was kept has been sent on it
	leg   atomic.Pointer[leg] // of the last attempt that was opened

	drive chan struct{} // held by whoever makes attempts or commits
	turn  chan struct{} // held by whoever sends
	kept  replay        // guarded by turn

	reading chan struct{}         // held by whoever receives before the stream is committed
	early   atomic.Pointer[early] // what came while only sending was going on

	done chan struct{} // closed when the call is over
	err  error         // what it ended with; written before done is closed
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
	s := &stream{
		call:   call{ch: ch, m: m, rule: m.rule, name: name, ctx: ctx, cc: cc, opts: opts, start: ch.now(), stream: true},
		desc:   desc,
		opener: open,
		done:   make(chan struct{}),
	}
	s.call.begin(opts)
	if s.keeps = s.call.replays() && s.chooseCodec(); s.keeps {
		s.drive, s.turn, s.reading = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	}
	t := &s.call.first
	t.prepare(ctx, &s.call, 1, s.call.start)
	if !s.advance(t) {
		return nil, s.err
	}
	return s, nil
}

// replays reports whether an attempt that a server may have seen could be followed by another one, so that it is
// worth keeping what is sent.
func (c *call) replays() bool {
	if c.rule.mode != ModeEnforce || !c.retries() || !c.permitted() {
		return false
	}
	if most := c.asked.most(); most > 0 {
		return most > 1
	}
	return c.rule.Retry.MaxAttempts > 1 && earlierAttempts(c.ctx) == 0
}

// advance makes attempts until one of them is open, and reports whether one is; otherwise the call is over.
// drive is held, but for the first attempt, when nobody knows of the stream yet.
func (s *stream) advance(t *try) bool {
	for {
		if l := s.attempt(t); l != nil {
			s.start(l)
			return true
		}
		next, last, err := s.call.after(t)
		if next == nil {
			_ = s.end(nil, last, err)
			return false
		}
		t = next
	}
}

// attempt asks the gates and opens a stream of gRPC's. nil: it was refused, or failed at once.
func (s *stream) attempt(t *try) (l *leg) {
	c := &s.call
	defer func() {
		if l == nil { // refused, or the end of a panic below: no slot is lost by it
			t.release()
		}
	}()
	if !t.admit() {
		return nil
	}
	opening := &leg{s: s, try: t, finished: make(chan struct{})}
	if c.derive && c.rule.mode == ModeEnforce {
		t.Context, opening.cancel = context.WithDeadline(t.Context, c.deadline)
	}
	defer func() {
		if l == nil {
			opening.stop()
		}
	}()
	if !t.ask() {
		return nil
	}
	if t.err = s.open(opening); t.err != nil {
		t.err, t.cut = opening.explain(t.err), opening.cut.Load()
		opening.receive()
		t.settle()
		return nil
	}
	return opening
}

// open hands the attempt to gRPC, or to a fault in its place.
func (s *stream) open(l *leg) (err error) {
	c, t := &s.call, l.try
	if f := c.ch.out.faults; f != nil {
		if err := injectFault(t.wire, f, c.about(), t.att.Number, false, c.ch.out.observers); err != nil {
			t.att.SetSent(true) // it stands for an error of the server
			return err
		}
	}
	opts := append(make([]grpc.CallOption, 0, len(c.opts)+5), c.opts...)
	opts = append(opts, grpc.Trailer(&l.trailer), grpc.Peer(&l.peer), onFinish(l.finish))
	if c.asked != nil && len(c.asked.header) > 0 {
		t.header = new(metadata.MD)
		opts = append(opts, grpc.Header(&l.header))
	}
	if s.keeps {
		l.codec = &replayCodec{CodecV2: s.codec, name: s.name, leg: l}
		opts = append(opts, grpc.ForceCodecV2(l.codec))
	}
	l.ClientStream, err = s.opener(l.guard(), s.desc, c.cc, c.name, opts...)
	if l.dog != nil {
		l.dog.opened()
	}
	return err
}

// start makes a leg the current one. What was kept is sent on it beside the application, which may have to
// receive before the server takes more.
func (s *stream) start(l *leg) {
	s.leg.Store(l)
	if !s.keeps {
		s.final.Store(l)
		s.live.Store(l)
	}
	l.opened.Store(true)
	select {
	case <-l.finished:
		l.ended(l.result)
	default:
	}
	if s.keeps && l.try.att.Number > 1 {
		go s.replay()
	}
}

// end ends the call. Without a leg that could answer the application, none was opened at last. The stream is
// committed first: what is told of the end may ask it for its trailer.
func (s *stream) end(l *leg, last *try, err error) error {
	defer close(s.done)
	if l == nil {
		l = &leg{s: s, try: last, broken: true}
		l.ClientStream = ended{s: s, ctx: s.call.ctx, trailer: last.trailer}
		l.claimed.Store(true)
		s.leg.Store(l)
	}
	s.commit(l)
	s.err = err // if somebody below throws
	s.err = s.call.end(last, err)
	return s.err
}

// broke ends a call in whose account code of somebody else's panicked, or left the goroutine: nothing waits for
// it any more, and it is told as far as it can be.
func (s *stream) broke(l *leg) {
	select {
	case <-s.done:
		return
	default:
	}
	last := s.call.last
	if last == nil {
		last = l.try
	}
	err := last.err
	if err == nil {
		err = status.Error(codes.Internal, "steady: a panic ended the stream")
	}
	_ = s.end(l, last, err)
}

// again decides what follows a leg that failed before the stream was committed, and reports whether there is
// another one now, or will be none.
func (s *stream) again(l *leg, err error) (more bool) {
	s.drive <- struct{}{}
	defer func() { <-s.drive }()
	if s.leg.Load() != l {
		return true // another call of the application's has done so
	}
	if s.final.Load() != nil || !l.claimed.CompareAndSwap(false, true) {
		_ = l.over(err)
		return false
	}
	orderly := false
	defer func() {
		if !orderly {
			s.broke(l)
		}
	}()
	l.state.CompareAndSwap(legOpen, legOver) // it delivers nothing from now on, if it has not already
	l.conclude(err, l.answered())
	next, last, err := s.call.after(l.try)
	if next == nil {
		_ = s.end(l, last, err)
	} else {
		more = s.advance(next)
	}
	orderly = true
	return more
}

// commit gives the stream of a leg to the application for good. drive is held, or the call is over.
func (s *stream) commit(l *leg) {
	if !s.final.CompareAndSwap(nil, l) || !s.keeps {
		return
	}
	select {
	case s.turn <- struct{}{}:
		s.yield()
	default: // whoever has the turn does the rest when he is done
	}
}

// settle commits the stream, if it is not, and returns its leg. It waits while attempts are being made.
func (s *stream) settle() *leg {
	if l := s.final.Load(); l != nil {
		return l
	}
	s.drive <- struct{}{}
	s.commit(s.leg.Load())
	<-s.drive
	return s.final.Load()
}

// settleOn is settle for one leg: it reports false if another one has taken that one's place.
func (s *stream) settleOn(l *leg) bool {
	if s.final.Load() == nil {
		s.drive <- struct{}{}
		if s.leg.Load() == l {
			s.commit(l)
		}
		<-s.drive
	}
	return s.final.Load() == l
}
