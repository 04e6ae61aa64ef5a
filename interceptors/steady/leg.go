package steady

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/grpcsteady/steady/interceptors/breaker"
)

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
		l.try.trailer, l.try.peer = l.trailer, l.peer
		if l.try.header != nil {
			*l.try.header = l.header
		}
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

// recv receives a message on a leg.
func (l *leg) recv(m any) (err error) {
	switch d := l.dog; {
	case d == nil:
		err = l.RecvMsg(m)
	case !l.try.began.Load():
		err = l.recvFirst(m)
	case d.idle > 0:
		err = l.recvNext(m)
	default:
		err = l.RecvMsg(m)
	}
	if err == io.EOF && !l.answered() { //nolint:errorlint // gRPC's word for success is this very value
		// Or that of a message which could not be sent when gRPC itself tried again: then it says the truth when it
		// is asked once more.
		if truth := l.RecvMsg(m); truth != nil {
			err = truth
		}
	}
	if err != nil {
		l.rethrow()
		err = l.explain(err)
	}
	return err
}

func (l *leg) recvFirst(m any) error {
	l.dog.enter()
	defer l.dog.leave()
	return l.RecvMsg(m)
}

func (l *leg) recvNext(m any) error {
	l.dog.receives.begin(l.dog.start)
	defer l.dog.receives.end()
	return l.RecvMsg(m)
}

// head reads the header of a leg.
func (l *leg) head() (md metadata.MD, err error) {
	if d := l.dog; d != nil && !l.try.began.Load() {
		d.enter()
		defer d.leave()
	}
	return l.Header()
}

// write sends a message on a leg.
func (l *leg) write(m any) error {
	d := l.dog
	if d == nil {
		return l.SendMsg(m)
	}
	if d.write > 0 {
		d.sends.begin(d.start)
		defer d.sends.end()
	}
	err := l.SendMsg(m)
	d.asked()
	return err
}

// closeSend ends the sending on a leg.
func (l *leg) closeSend() error {
	err := l.CloseSend()
	if l.dog != nil {
		l.dog.asked()
	}
	return err
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
