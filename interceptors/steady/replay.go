package steady

import (
	"errors"
	"io"
	"reflect"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// What is kept for another attempt: of a stream, and of all streams of a channel together. A stream that would
// keep more is committed.
const (
	maxReplayBytes    = 256 << 10
	maxReplayMessages = 1000
	maxChannelReplay  = 64 << 20
)

// replay is what a stream has sent so far, and will send again on another attempt.
type replay struct {
	messages []*message
	size     int
	closed   bool // and then the sending was ended
}

// message is a message that was sent: encoded once, and sent again as the same bytes. The value goes down the
// chain each time, as gRPC's own retries do, for interceptors and stats handlers want to see it.
type message struct {
	value any // what goes down the chain; the message itself where v cannot be told from others by its address
	data  mem.BufferSlice
}

// chooseCodec finds the codec that the options of the call choose, and reports whether there is one: if not, gRPC
// says so. The name is empty unless the caller forced a codec, so that the content type on the wire stays what it
// would be without us.
func (s *stream) chooseCodec() bool {
	codec, err := codecOf(s.call.opts)
	if err != nil {
		return false
	}
	s.codec = codec
	for _, o := range s.call.opts {
		switch o.(type) {
		case grpc.ForceCodecV2CallOption, grpc.ForceCodecCallOption:
			s.name = codec.Name()
		}
	}
	return true
}

// encode makes a message that can be sent more than once. A prepared one is encoded already; its size is known
// to gRPC only, and its memory is the application's.
func encode(codec encoding.CodecV2, v any) (*message, error) {
	m := &message{value: v}
	if _, ok := v.(*preparedMsg); ok || v == nil {
		return m, nil
	}
	if reflect.TypeOf(v).Kind() != reflect.Pointer {
		m.value = m
	}
	var err error
	m.data, err = codec.Marshal(v)
	return m, err
}

// keepAndSend sends a message as long as not all that was kept has been sent on the final leg.
func (s *stream) keepAndSend(m any) error {
	s.turn <- struct{}{}
	defer s.yield()
	if s.live.Load() != nil {
		return s.SendMsg(m)
	}
	msg, err := encode(s.codec, m)
	if err != nil || s.kept.closed {
		msg.data.Free()
		l := s.settle()
		_ = s.send(l, false)
		return s.unsent(l, l.write(m)) // gRPC says what is wrong
	}
	if s.final.Load() != nil || !s.keep(msg) {
		defer msg.data.Free()
		l := s.settle()
		if err := s.send(l, false); err != nil {
			return s.unsent(l, err)
		}
		return s.unsent(l, l.send(msg))
	}
	for {
		l := s.leg.Load()
		err := s.send(l, true)
		if err == nil {
			return nil
		}
		if s.final.Load() != nil || err != io.EOF { //nolint:errorlint // gRPC's word for a broken stream is this very value
			return s.unsent(l, err)
		}
		if !s.probeIfIdle(l) {
			return nil
		}
	}
}

// probeIfIdle probes a leg unless somebody receives: he learns of its end by himself. turn is held.
func (s *stream) probeIfIdle(l *leg) bool {
	select {
	case s.reading <- struct{}{}:
	default:
		return false
	}
	defer func() { <-s.reading }()
	if s.final.Load() == nil && s.leg.Load() == l {
		s.probe(l)
	}
	return true
}

// replay sends on the newest leg what was kept. It runs on a goroutine of its own, beside the application. A panic
// of an interceptor below is for the application's goroutine, as it is when messages are sent for the first time.
func (s *stream) replay() {
	s.turn <- struct{}{}
	defer s.yield()
	l := s.leg.Load()
	orderly := false
	defer func() {
		if orderly {
			return
		}
		l.broken = true
		if p := recover(); p != nil {
			l.thrown.Store(&thrown{p})
		}
		l.abort(status.Error(codes.Internal, "steady: an interceptor panicked when messages were sent again"))
	}()
	_ = s.send(l, false) // whoever receives learns of its end
	orderly = true
}

// thrown is a panic on its way to the application.
type thrown struct{ value any }

// rethrow panics with what an interceptor threw on a goroutine of ours, after the end of the call was told.
func (l *leg) rethrow() {
	if p := l.thrown.Swap(nil); p != nil {
		defer panic(p.value)
		_ = l.over(l.cut.Load().err)
	}
}

// unsent returns what the application gets of an error that a leg gave of a message.
func (s *stream) unsent(l *leg, err error) error {
	switch {
	case err == nil, !s.settleOn(l): // it is sent on the leg that has taken this one's place
		return nil
	case err != io.EOF: //nolint:errorlint // as above
		l.noticed()
		return err
	case s.desc.ClientStreams:
		return err
	default:
		return nil // as gRPC where there is but one message to send
	}
}

// keep adds a message to what is kept, if there is room. turn is held.
func (s *stream) keep(m *message) bool {
	size := m.data.Len()
	if len(s.kept.messages) >= maxReplayMessages || s.kept.size+size > maxReplayBytes {
		return false
	}
	ch := s.call.ch
	if ch.replay.Add(int64(size)) > maxChannelReplay {
		ch.replay.Add(-int64(size))
		return false
	}
	s.kept.messages = append(s.kept.messages, m)
	s.kept.size += size
	return true
}

// send sends what was kept and not yet sent on a leg. With own, the last message is one that the application is
// just sending, and its error is the application's. A leg that takes none of a message it was to be sent again is
// ended: it must not get those that follow. turn is held.
func (s *stream) send(l *leg, own bool) (err error) {
	for !l.broken && l.sent < len(s.kept.messages) {
		err = l.send(s.kept.messages[l.sent])
		l.sent++
		if err == nil {
			continue
		}
		l.broken = true
		if err != io.EOF && (!own || l.sent < len(s.kept.messages)) { //nolint:errorlint // gRPC's word for a broken stream is this very value
			l.abort(err)
			err = io.EOF
		}
	}
	if l.broken && err == nil {
		err = io.EOF
	}
	if s.kept.closed && !l.closed && !l.broken {
		l.closed = true
		_ = l.closeSend() // it has no error to tell
	}
	return err
}

// send sends a message that was encoded already.
func (l *leg) send(m *message) error {
	if l.codec == nil { // of a call that is over
		return l.SendMsg(m.value)
	}
	l.codec.current.Store(m)
	defer l.codec.current.Store(nil)
	return l.write(m.value)
}

// yield gives the turn back. If the stream is committed and everything has been sent, nothing is kept any more
// and the application sends directly from now on.
func (s *stream) yield() {
	for {
		l := s.final.Load()
		if l != nil && s.live.Load() == nil && (l.broken || l.claimed.Load() || l.sent >= len(s.kept.messages) && (l.closed || !s.kept.closed)) {
			for _, m := range s.kept.messages {
				m.data.Free()
			}
			s.call.ch.replay.Add(-int64(s.kept.size))
			s.kept = replay{}
			s.live.Store(l)
		}
		<-s.turn
		if l != nil || s.final.Load() == nil {
			return
		}
		select { // it was committed in between, by somebody who found the turn taken
		case s.turn <- struct{}{}:
		default:
			return
		}
	}
}

// replayCodec is the codec of one leg: it answers for a message that was encoded already with those bytes.
type replayCodec struct {
	encoding.CodecV2
	name    string
	leg     *leg
	current atomic.Pointer[message] // being sent
}

// Name is what the content type is made of.
func (c *replayCodec) Name() string { return c.name }

// Marshal returns the bytes of the message being sent, and encodes whatever else it is given: what an interceptor
// below made of the message, or one that the application prepares meanwhile.
func (c *replayCodec) Marshal(v any) (mem.BufferSlice, error) {
	if m := c.current.Load(); m != nil && m.value == v {
		m.data.Ref()
		return m.data, nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal notes that there was an answer: an attempt that fails after one is not repeated. One that came too
// late, when the leg's time was up or another one had taken its place, is not delivered.
func (c *replayCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if state := &c.leg.state; state.Load() != legAnswered && !state.CompareAndSwap(legOpen, legAnswered) && state.Load() != legAnswered {
		return errors.New("steady: the attempt was over")
	}
	return keepCodec{c.CodecV2}.Unmarshal(data, v)
}
