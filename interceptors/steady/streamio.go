package steady

import (
	"context"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// This file is what the application calls. One goroutine may send while another one receives, as gRPC allows.

// SendMsg sends a message. Before the stream is committed a message that the server could not take any more is
// kept for the next attempt.
func (s *stream) SendMsg(m any) error {
	if l := s.live.Load(); l != nil {
		err := l.write(m)
		if err != nil && err != io.EOF { //nolint:errorlint // gRPC's word for a broken stream is this very value
			l.noticed()
		}
		return err
	}
	return s.keepAndSend(m)
}

// CloseSend ends the sending, on this attempt and on those that may follow.
func (s *stream) CloseSend() error {
	if l := s.live.Load(); l != nil {
		return l.closeSend()
	}
	s.turn <- struct{}{}
	defer s.yield()
	if l := s.live.Load(); l != nil {
		return l.closeSend()
	}
	s.kept.closed = true
	_ = s.send(s.leg.Load(), false) // RecvMsg tells what became of it
	return nil
}

// RecvMsg receives a message. The first one commits the stream; a failure before it may be followed by other
// attempts, which are made here.
func (s *stream) RecvMsg(m any) error {
	l := s.final.Load()
	if l == nil {
		var told bool
		var err error
		if l, told, err = s.receiveFirst(m); told {
			return s.answer(l, err)
		}
	}
	if early := s.early.Load(); early != nil { // looked at after final, which is set after it
		return s.answer(l, s.give(early, m))
	}
	return s.answer(l, l.recv(m))
}

// receiveFirst receives before the stream is committed. It reports false if it was committed by something else,
// before anything was received.
func (s *stream) receiveFirst(m any) (l *leg, told bool, err error) {
	s.reading <- struct{}{}
	defer func() { <-s.reading }()
	for {
		if l := s.final.Load(); l != nil {
			return l, false, nil
		}
		l := s.leg.Load()
		if err := l.recv(m); s.received(l, err) {
			return l, true, err
		}
	}
}

// received deals with what an uncommitted leg gave, and reports whether it is for the application: a message, or an
// end that no other attempt follows. reading is held.
func (s *stream) received(l *leg, err error) bool {
	switch err {
	case nil:
		return s.settleOn(l) // or else it failed for another call, and another one took its place
	case io.EOF: //nolint:errorlint // gRPC's word for success is this very value
		_ = l.over(nil)
		return true
	default:
		return !s.again(l, err)
	}
}

// answer notes what the final leg gave the application.
func (s *stream) answer(l *leg, err error) error {
	switch {
	case err == nil && s.desc.ServerStreams:
		if !l.try.began.Load() {
			l.firstMessage()
		}
		return nil
	case err == nil: // one response at most: it is the end
		l.firstMessage()
		_ = l.over(nil)
		return nil
	case err == io.EOF: //nolint:errorlint // gRPC's word for success is this very value
		_ = l.over(nil)
		return err
	default:
		return s.failed(l, err)
	}
}

// probe learns why a leg that is not committed takes no more messages, in place of an application that does not
// receive yet: so that a long upload is tried again before it has outgrown what is kept. turn and reading are
// held.
func (s *stream) probe(l *leg) {
	e := new(early)
	e.err = l.recv(&e.kept)
	if e.err == nil {
		l.firstMessage() // the server answered before it had everything
		s.early.Store(e)
	}
	if s.received(l, e.err) {
		s.early.Store(e)
	}
}

// early is what a probe received, for the application.
type early struct {
	kept
	err error
}

// give hands over what a probe has received. An end stays, a message is given once.
func (s *stream) give(e *early, m any) error {
	if e.err != nil {
		return e.err
	}
	s.early.Store(nil)
	if err := s.codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(e.data)}, m); err != nil {
		return status.Errorf(codes.Internal, "grpc: failed to unmarshal the received message: %v", err)
	}
	return nil
}

// Header returns the header of the server. Metadata commits the stream.
func (s *stream) Header() (metadata.MD, error) {
	for {
		l := s.final.Load()
		committed := l != nil
		if !committed {
			l = s.leg.Load()
		}
		md, err := l.head()
		if committed {
			if md == nil {
				l.noticed()
			}
			return md, err
		}
		if md != nil && err == nil {
			if !s.settleOn(l) {
				continue // it failed meanwhile, and another one took its place
			}
			return md, nil
		}
		if err == nil { // it ended without a header; gRPC has told how, or is telling
			select {
			case <-l.finished:
				err = l.result
			case <-l.try.wire.Done():
				err = status.FromContextError(l.try.wire.Err()).Err()
			}
		}
		if err == nil {
			if err = s.readEnd(l); err == nil {
				return nil, nil //nolint:nilnil // as gRPC: the end is read with RecvMsg
			}
		}
		if !s.again(l, err) {
			return nil, nil //nolint:nilnil // as gRPC: the error is read with RecvMsg
		}
	}
}

// readEnd reads the end of a leg that gRPC calls a success and that had no header, unless somebody receives: he
// learns of it by himself.
func (s *stream) readEnd(l *leg) error {
	select {
	case s.reading <- struct{}{}:
	default:
		return nil
	}
	defer func() { <-s.reading }()
	err := l.recv(new(kept))
	if err == nil || err == io.EOF { //nolint:errorlint // as below
		_ = l.over(nil)
		return nil
	}
	return err
}

// Trailer returns the trailer of the server. It commits the stream.
func (s *stream) Trailer() metadata.MD { return s.settle().Trailer() }

// Context returns the context of the stream. It commits the stream.
func (s *stream) Context() context.Context { return s.settle().Context() }

// failed ends the call with an error that a committed leg gave, and returns what the application gets.
func (s *stream) failed(l *leg, err error) error {
	if told := l.over(err); told != nil {
		return told
	}
	return err
}

// canceled reports whether the caller ended the stream, or the connection was closed.
func canceled(err error) bool { return codeOf(err) == codes.Canceled }

// ended answers for a call whose last attempt could not be opened.
type ended struct {
	s       *stream
	ctx     context.Context
	trailer metadata.MD // of the attempt that decided
}

func (e ended) Header() (metadata.MD, error) { return nil, nil } //nolint:nilnil // as gRPC for a stream without a header
func (e ended) Trailer() metadata.MD         { return e.trailer }
func (e ended) CloseSend() error             { return nil }
func (e ended) Context() context.Context     { return e.ctx }

func (e ended) RecvMsg(any) error {
	<-e.s.done
	return e.s.err
}

func (e ended) SendMsg(any) error {
	if !e.s.desc.ClientStreams {
		return nil
	}
	return io.EOF
}
