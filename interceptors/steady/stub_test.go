package steady_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/steady"
)

const (
	get  = echov1.Echo_Get_FullMethodName  // NO_SIDE_EFFECTS
	put  = echov1.Echo_Put_FullMethodName  // IDEMPOTENT
	post = echov1.Echo_Post_FullMethodName // nobody said
	list = echov1.Echo_List_FullMethodName // a server stream
)

// answer is what a stub server does with one attempt.
type answer struct {
	err     error
	after   time.Duration // how long it takes; a context that ends first wins
	from    string        // address of the endpoint; "": no connection
	header  metadata.MD
	trailer metadata.MD
	do      func(ctx context.Context) // runs first, and may panic
}

// stub stands in for gRPC below the driver: it writes to the options of an attempt as gRPC does.
type stub struct {
	mu     sync.Mutex
	answer func(n int) answer // of the nth attempt, from 1
	seen   []seen
	start  time.Time
}

// seen is an attempt as the stub saw it.
type seen struct {
	at       time.Duration // since the first
	method   string
	deadline time.Duration // what was left; 0: none
	previous string        // grpc-previous-rpc-attempts
}

func newStub(f func(n int) answer) *stub { return &stub{answer: f, start: time.Now()} }

// always answers every attempt alike.
func always(a answer) *stub { return newStub(func(int) answer { return a }) }

// become changes what the stub answers from now on.
func (s *stub) become(f func(n int) answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

func (s *stub) attempts() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]seen(nil), s.seen...)
}

func (s *stub) invoke(ctx context.Context, method string, _, reply any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
	s.mu.Lock()
	row := seen{at: time.Since(s.start), method: method}
	if d, ok := ctx.Deadline(); ok {
		row.deadline = time.Until(d)
	}
	if md, ok := metadata.FromOutgoingContext(ctx); ok && len(md["grpc-previous-rpc-attempts"]) > 0 {
		row.previous = md["grpc-previous-rpc-attempts"][0]
	}
	s.seen = append(s.seen, row)
	n, script := len(s.seen), s.answer
	s.mu.Unlock()

	a := script(n)
	if a.do != nil {
		a.do(ctx)
	}
	err := a.err
	if a.after > 0 {
		timer := time.NewTimer(a.after)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			err = status.FromContextError(ctx.Err()).Err()
		}
	} else if ctx.Err() != nil {
		err = status.FromContextError(ctx.Err()).Err()
	}
	for _, o := range opts {
		if a.from == "" {
			break
		}
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			*o.HeaderAddr = a.header
		case grpc.TrailerCallOption:
			*o.TrailerAddr = a.trailer
		case grpc.PeerCallOption:
			o.PeerAddr.Addr = addr(a.from)
		}
	}
	if out, ok := reply.(*echov1.EchoResponse); ok && err == nil {
		out.Text, out.Number = a.from, int32(n)
	}
	return err
}

type addr string

func (addr) Network() string  { return "stub" }
func (a addr) String() string { return string(a) }

var _ net.Addr = addr("")

// client makes calls through the interceptor of one channel.
type client struct {
	out   *steady.Outbound
	unary grpc.UnaryClientInterceptor
	stub  *stub
}

func newClient(t *testing.T, s *stub, rules []steady.Rule, opts ...steady.Option) *client {
	t.Helper()
	out, err := steady.NewOutbound(rules, opts...)
	if err != nil {
		t.Fatal(err)
	}
	unary, _ := out.Interceptors()
	t.Cleanup(func() { runtime.KeepAlive(unary) }) // a channel lives as long as its interceptors
	return &client{out: out, unary: unary, stub: s}
}

func (c *client) call(ctx context.Context, method string, opts ...grpc.CallOption) (*echov1.EchoResponse, error) {
	reply := new(echov1.EchoResponse)
	err := c.unary(ctx, method, &echov1.EchoRequest{Text: "hello"}, reply, nil, c.stub.invoke, opts...)
	return reply, err
}

// recorder keeps copies of the events it is told.
type recorder struct {
	mu     sync.Mutex
	events []steady.Event
}

func (r *recorder) Observe(e steady.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e := e.(type) { // events are valid only until Observe returns
	case *steady.AttemptEnded:
		c := *e
		r.events = append(r.events, &c)
	case *steady.CallEnded:
		c := *e
		r.events = append(r.events, &c)
	case *steady.Refused:
		c := *e
		r.events = append(r.events, &c)
	case *steady.Retried:
		c := *e
		r.events = append(r.events, &c)
	case *steady.DeadlineCut:
		c := *e
		r.events = append(r.events, &c)
	case *steady.FellBack:
		c := *e
		r.events = append(r.events, &c)
	case *steady.BreakerChanged:
		c := *e
		r.events = append(r.events, &c)
	case *steady.FaultInjected:
		c := *e
		r.events = append(r.events, &c)
	case *steady.RetryLimited:
		c := *e
		r.events = append(r.events, &c)
	case *steady.Reloaded:
		c := *e
		r.events = append(r.events, &c)
	}
}

// of returns the recorded events of one type.
func of[T any](r *recorder) []*T {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*T
	for _, e := range r.events {
		if x, ok := any(e).(*T); ok {
			out = append(out, x)
		}
	}
	return out
}

func unavailable(text string) error { return status.Error(codes.Unavailable, text) }

func pushback(ms int) metadata.MD { return metadata.Pairs("grpc-retry-pushback-ms", strconv.Itoa(ms)) }

// wantCode fails the test unless err has the code.
func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Fatalf("code %v (%v), want %v", got, err, want)
	}
}

// middle makes jitter predictable: half of the range, so full jitter of 100 ms waits 50 ms.
func middle() float64 { return 0.5 }

func insecureCredentials() credentials.TransportCredentials { return insecure.NewCredentials() }

// noDialer refuses every connection.
func noDialer(context.Context, string) (net.Conn, error) {
	return nil, errors.New("connection refused")
}
