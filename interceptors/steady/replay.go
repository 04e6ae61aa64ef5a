package steady

import (
	"io"
	"reflect"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
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
		l := s.settle()
		_ = s.send(l)
		return s.unsent(l, l.SendMsg(m)) // gRPC says what is wrong
	}
	if s.final.Load() != nil || !s.keep(msg) {
		defer msg.data.Free()
		l := s.settle()
		if err := s.send(l); err != nil {
			return s.unsent(l, err)
		}
		return s.unsent(l, l.send(msg))
	}
	for {
		l := s.leg.Load()
		err := s.send(l)
		if err == nil {
			return nil
		}
		if s.final.Load() != nil || err != io.EOF { //nolint:errorlint // gRPC's word for a broken stream is this very value
			return s.unsent(l, err)
		}
		select {
		case s.reading <- struct{}{}:
		default: // whoever receives learns of it by himself
			return nil
		}
		if s.final.Load() == nil && s.leg.Load() == l {
			s.probe(l)
		}
		<-s.reading
	}
}

// unsent returns what the application gets of an error that a leg gave of a message.
func (s *stream) unsent(l *leg, err error) error {
	switch {
	case err == nil, !s.settleOn(l): // it is sent on the leg that has taken this one's place
		return nil
	case err != io.EOF: //nolint:errorlint // as above
		select {
		case <-l.finished: // and gRPC has ended the stream with it
			l.ended()
		default: // an interceptor below may go on
		}
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

// send sends what was kept and not yet sent on a leg. It returns what the last message sent was answered with.
// turn is held.
func (s *stream) send(l *leg) (err error) {
	for !l.broken && l.sent < len(s.kept.messages) {
		err = l.send(s.kept.messages[l.sent])
		l.sent++
		l.broken = err != nil
	}
	if l.broken && err == nil {
		err = io.EOF
	}
	if s.kept.closed && !l.closed && !l.broken {
		l.closed = true
		_ = l.CloseSend() // it has no error to tell
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
	return l.SendMsg(m.value)
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
	name     string
	current  atomic.Pointer[message] // being sent
	answered atomic.Bool             // a message of the server was decoded
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

// Unmarshal notes that there was an answer: an attempt that fails after one is not repeated.
func (c *replayCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if !c.answered.Load() {
		c.answered.Store(true)
	}
	return keepCodec{c.CodecV2}.Unmarshal(data, v)
}
