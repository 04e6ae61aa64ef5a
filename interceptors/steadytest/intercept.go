package steadytest

import (
	"context"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// liveCall is a call under way: what the outer interceptor hands to the inner one.
type liveCall struct {
	call   Call
	record *Record // Replica.mu guards what end writes

	mu   sync.Mutex // guards the rest: a handler may send from any goroutine
	left int
	err  error // with left: the answer after so many messages; nil: the stream is not to break
}

func (l *liveCall) breakAfter(n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left, l.err = n, err
}

// broken tells whether the stream has ended by script, before so many further messages are sent.
func (l *liveCall) broken(further int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		return nil
	}
	if l.left == 0 {
		return l.err
	}
	l.left -= further
	return nil
}

type liveKey struct{}

// serverOptions puts the recorder around the user's interceptors and the script inside them: an inbound
// interceptor under test sees a script's failure as a handler's, and the record shows what it made of it.
func (r *Replica) serverOptions() []grpc.ServerOption {
	opts := []grpc.ServerOption{grpc.ChainUnaryInterceptor(r.recordUnary), grpc.ChainStreamInterceptor(r.recordStream)}
	opts = append(opts, r.fleet.serverOptions(r.name)...)
	return append(opts, grpc.ChainUnaryInterceptor(r.scriptUnary), grpc.ChainStreamInterceptor(r.scriptStream))
}

// exempt tells whether a method belongs to gRPC itself and is to work undisturbed.
func (r *Replica) exempt(method string) bool {
	return !r.fleet.allMethods && (strings.HasPrefix(method, "/grpc.") || strings.HasPrefix(method, "/xds."))
}

func (r *Replica) begin(ctx context.Context, method string, stream bool) (context.Context, *liveCall) {
	c := Call{Replica: r.name, Method: method, Stream: stream, Arrived: time.Now()}
	c.Metadata, _ = metadata.FromIncomingContext(ctx)
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		c.Client = p.Addr.String()
	}
	if d, ok := ctx.Deadline(); ok {
		c.HasDeadline, c.Remaining = true, d.Sub(c.Arrived)
	}
	live := r.arrive(c)
	return context.WithValue(ctx, liveKey{}, live), live
}

func (r *Replica) recordUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (reply any, err error) {
	if r.exempt(info.FullMethod) {
		return next(ctx, req)
	}
	ctx, live := r.begin(ctx, info.FullMethod, false)
	err = errUnwound
	defer func() { r.end(live, err) }() // also when a handler calls Goexit
	reply, err = next(ctx, req)
	return reply, err
}

func (r *Replica) recordStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	if r.exempt(info.FullMethod) {
		return next(srv, ss)
	}
	ctx, live := r.begin(ss.Context(), info.FullMethod, true)
	err = errUnwound
	defer func() { r.end(live, err) }()
	err = next(srv, &scriptedStream{ServerStream: ss, ctx: ctx})
	return err
}

func (r *Replica) scriptUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if r.exempt(info.FullMethod) {
		return next(ctx, req)
	}
	live, ok := ctx.Value(liveKey{}).(*liveCall)
	if !ok {
		return nil, errContext
	}
	call := live.call
	call.Request = req
	if err := r.follow(ctx, call); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (r *Replica) scriptStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if r.exempt(info.FullMethod) {
		return next(srv, ss)
	}
	live, ok := ss.Context().Value(liveKey{}).(*liveCall)
	if !ok {
		return errContext
	}
	if err := r.follow(ss.Context(), live.call); err != nil {
		return err
	}
	err := next(srv, &scriptedStream{ServerStream: ss, ctx: ss.Context(), live: live})
	if broken := live.broken(0); broken != nil {
		return broken // whatever the handler made of it
	}
	return err
}

func (r *Replica) follow(ctx context.Context, call Call) error {
	s := r.script.Load()
	if s == nil {
		return nil
	}
	return s.run(ctx, call)
}

var (
	// errUnwound stands in the record of a call whose handler never returned: it panicked or called Goexit.
	errUnwound = status.Error(codes.Unknown, "steadytest: the handler did not return")
	// errContext is loud because a script that is silently not followed makes a test pass for nothing.
	errContext = status.Error(codes.Internal, "steadytest: a server interceptor replaced the context instead of deriving from it")
)

// scriptedStream carries the call in its context and, inside, breaks off when the script says so.
type scriptedStream struct {
	grpc.ServerStream
	ctx  context.Context
	live *liveCall // nil in the outer one
}

func (s *scriptedStream) Context() context.Context { return s.ctx }

func (s *scriptedStream) SendMsg(m any) error {
	if s.live != nil {
		if err := s.live.broken(1); err != nil {
			return err
		}
	}
	return s.ServerStream.SendMsg(m)
}

// RecvMsg breaks off as well, for a handler that answers only when it is asked.
func (s *scriptedStream) RecvMsg(m any) error {
	if s.live != nil {
		if err := s.live.broken(0); err != nil {
			return err
		}
	}
	return s.ServerStream.RecvMsg(m)
}
