package steady

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/interceptors/breaker"
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

// leg is one attempt of a stream that gRPC has opened.
type leg struct {
	grpc.ClientStream
	s      *stream
	try    *try
	codec  *replayCodec       // nil: nothing is kept
	ctx    *legContext        // nil: nobody but the caller can end it
	cancel context.CancelFunc // of the call's deadline
	dog    *watchdog          // nil: its rule has no limits for it

	state    atomic.Uint32          // legOpen, legAnswered or legOver
	cut      atomic.Pointer[cut]    // why it was ended here
	thrown   atomic.Pointer[thrown] // what an interceptor below threw while messages were sent again
	claimed  atomic.Bool            // somebody accounts for its end
	opened   atomic.Bool            // its end is told through ended
	told     atomic.Bool            // gRPC has told an end; where something below opens several streams, the first one
	finished chan struct{}          // closed when gRPC has told its end
	result   error                  // which it was

	// Written by gRPC until finished is closed.
	header  metadata.MD
	trailer metadata.MD
	peer    peer.Peer

	mu      sync.Mutex  // guards what follows
	gone    bool        // its end is accounted for
	unwatch func() bool // ends the watch over the caller's context

	// Guarded by turn.
	sent   int // messages of those kept that were sent on it
	closed bool
	broken bool // it takes no more messages
}

// What has become of a leg: it has answered, and then no other may take its place; or its time is up or another
// one takes its place, and then nothing it says counts any more. One of the two comes first.
const (
	legOpen uint32 = iota
	legAnswered
	legOver
)

// answered reports whether a message of the server was delivered.
func (l *leg) answered() bool { return l.state.Load() == legAnswered || l.try.began.Load() }

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

// finish is told the end of a leg by gRPC, on whatever goroutine it ends. An interceptor below may open several
// streams for one leg, and then it is told several ends, of which only the caller's own is sure to be the last.
func (l *leg) finish(err error) {
	if l.told.CompareAndSwap(false, true) {
		l.result = err
		close(l.finished)
	}
	if l.opened.Load() {
		l.ended(err)
	}
}

// ended accounts for the end of a leg that came beside the application: gRPC ends a stream so when its context or
// its connection ends. Any other end is one that a call of the application's is about to learn of, which may make
// another attempt; if there is no such call, it is accounted for when the caller's context ends.
func (l *leg) ended(err error) {
	if l.try.wire.Err() != nil || canceled(err) && closed(l.s.call.cc) {
		if l.claimed.CompareAndSwap(false, true) {
			_ = l.last(err)
		}
		return
	}
	if err != nil { // otherwise a message or an end of the stream is on its way to the application
		l.later(err)
	}
}

// later accounts for an end when the caller's context ends, unless the application learns of it before.
func (l *leg) later(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone || l.unwatch != nil {
		return
	}
	l.unwatch = context.AfterFunc(l.try.wire, func() {
		if l.claimed.CompareAndSwap(false, true) {
			_ = l.last(err)
		}
	})
}

// noticed accounts for the end of a committed leg that gRPC has told, when a call of the application's has met it.
func (l *leg) noticed() {
	select {
	case <-l.finished:
		switch {
		case l.result == nil: // Recv may know better
			l.later(nil)
		case l.claimed.CompareAndSwap(false, true):
			_ = l.last(l.result)
		}
	default: // an interceptor below may go on
	}
}

// over accounts for the end of a leg that no other may follow, once. It returns when that is done, with what the
// application gets.
func (l *leg) over(err error) error {
	s := l.s
	if !l.claimed.CompareAndSwap(false, true) {
		<-s.done
		return s.err
	}
	return l.last(err)
}

// last accounts for the end of a leg and of the call. The caller has claimed it.
func (l *leg) last(err error) error {
	s := l.s
	orderly := false
	defer func() {
		if !orderly {
			s.broke(l)
		}
	}()
	l.conclude(err, s.call.rule.mode == ModeEnforce)
	_, last, err := s.call.after(l.try) // a committed attempt is the last
	err = s.end(l, last, err)
	orderly = true
	return err
}

// conclude makes the account of the attempt.
func (l *leg) conclude(err error, committed bool) {
	t := l.try
	if err == io.EOF { //nolint:errorlint // gRPC's word for success is this very value
		err = nil
	}
	err = l.explain(err)
	t.err, t.committed = err, committed || t.began.Load()
	if err != nil {
		t.cut = l.cut.Load()
	}
	l.receive()
	l.stop()
	t.settle()
}

// explain returns an error of a leg as the application gets it: where the leg was ended here, with the reason.
func (l *leg) explain(err error) error {
	if c := l.cut.Load(); c != nil && err != nil && err != io.EOF { //nolint:errorlint // as above
		return c.err
	}
	return err
}

// receive takes over what gRPC has received besides messages. It may still be writing if it has not told the end,
// since something below ended the leg in its place.
func (l *leg) receive() {
	select {
	case <-l.finished:
		l.try.header, l.try.trailer, l.try.peer = l.header, l.trailer, l.peer
	default:
	}
}

// stop ends what a leg still has going, among it the stream of gRPC's if something below has made an end of its own.
func (l *leg) stop() {
	l.mu.Lock()
	l.gone = true
	if l.unwatch != nil {
		l.unwatch()
	}
	l.mu.Unlock()
	if l.dog != nil {
		l.dog.stop()
	}
	if l.ctx != nil {
		l.ctx.cancel(context.Canceled)
	}
	if l.cancel != nil {
		l.cancel()
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

// firstMessage notes that a message has arrived: it decides a half-open probe, which must not hold its slot for
// as long as a stream may live.
func (l *leg) firstMessage() {
	t := l.try
	if !t.began.CompareAndSwap(false, true) {
		return
	}
	if t.token.Probe() && t.counted.CompareAndSwap(false, true) {
		now := time.Now()
		t.token.End(now, breaker.Outcome{Result: breaker.Success, Duration: now.Sub(t.start)})
	}
}
