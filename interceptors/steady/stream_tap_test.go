package steady_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

type chat = grpc.BidiStreamingClient[echov1.EchoRequest, echov1.EchoResponse]

// cut is how a server ends one attempt of a stream.
type cut struct {
	after  int  // messages it takes first
	header bool // it sends a header before it fails
	hang   bool // it says nothing more
	err    error
}

// tap is an interceptor of servers that ends the attempts of streams as planned, and notes what they received.
type tap struct {
	mu       sync.Mutex
	plan     func(n int) *cut // of the nth attempt, from 1; nil: the handler answers
	received [][]string
	previous []string
	at       []time.Time // when each attempt came
	trailer  metadata.MD
}

// failFirst plans the same end for the first n attempts.
func failFirst(n int, c cut) *tap {
	return &tap{plan: func(i int) *cut {
		if i > n {
			return nil
		}
		return &c
	}}
}

func (t *tap) intercept(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	t.mu.Lock()
	n := len(t.received) + 1
	t.received = append(t.received, nil)
	t.at = append(t.at, time.Now())
	previous := ""
	if md, ok := metadata.FromIncomingContext(ss.Context()); ok {
		previous = strings.Join(md["grpc-previous-rpc-attempts"], ",")
	}
	t.previous = append(t.previous, previous)
	c := t.plan(n)
	t.mu.Unlock()
	tapped := &tapped{ServerStream: ss, tap: t, n: n}
	if t.trailer != nil {
		ss.SetTrailer(t.trailer)
	}
	if c == nil {
		ss.SetTrailer(metadata.Pairs("attempt", fmt.Sprint(n)))
		if err := ss.SetHeader(metadata.Pairs("attempt", fmt.Sprint(n))); err != nil {
			return err
		}
		return next(srv, tapped)
	}
	for range c.after {
		if err := tapped.RecvMsg(new(req)); err != nil {
			return err
		}
	}
	if c.header {
		if err := ss.SendHeader(metadata.Pairs("attempt", fmt.Sprint(n))); err != nil {
			return err
		}
	}
	if c.hang {
		<-ss.Context().Done()
	}
	return c.err
}

// texts returns what each attempt received.
func (t *tap) texts() [][]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([][]string, len(t.received))
	for i := range t.received {
		out[i] = append([]string{}, t.received[i]...)
	}
	return out
}

type tapped struct {
	grpc.ServerStream
	tap *tap
	n   int
}

func (s *tapped) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if r, ok := m.(*req); ok && err == nil {
		s.tap.mu.Lock()
		s.tap.received[s.n-1] = append(s.tap.received[s.n-1], r.GetText())
		s.tap.mu.Unlock()
	}
	return err
}

// streamRule retries every stream of the echo service.
func streamRule() []steady.Rule {
	return []steady.Rule{{
		Methods: []string{"/steady.echo.v1.Echo/"}, Idempotent: true,
		Retry: &retry.Config{InitialBackoff: 100 * time.Millisecond},
	}}
}

// tapFleet is a fleet of one whose streams go through the tap, and a client of it.
func tapFleet(t *testing.T, tp *tap, rules []steady.Rule, opts ...steady.Option) (*steadytest.Fleet, echov1.EchoClient) {
	t.Helper()
	fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(grpc.ChainStreamInterceptor(tp.intercept)))
	return fleet, echov1.NewEchoClient(dial(fleet, outbound(t, rules, append([]steady.Option{wide}, opts...)...)))
}

// talk opens a stream of one kind, plays it to its end, and returns the texts and the number of answers.
func talk(ctx context.Context, client echov1.EchoClient, kind string, opts ...grpc.CallOption) (string, error) {
	switch kind {
	case "server":
		s, err := client.List(ctx, &req{Text: "x", Count: 3}, opts...)
		if err != nil {
			return "", err
		}
		n, err := drain(s)
		return fmt.Sprint(n), err
	case "client":
		s, err := client.Collect(ctx, opts...)
		if err != nil {
			return "", err
		}
		for _, text := range []string{"x", "y", "z"} {
			if err := s.Send(&req{Text: text}); err != nil {
				break // the status comes with the answer
			}
		}
		out, err := s.CloseAndRecv()
		return out.GetText(), err
	default:
		s, err := client.Chat(ctx, opts...)
		if err != nil {
			return "", err
		}
		var texts []string
		for _, text := range []string{"x", "y", "z"} {
			if err := s.Send(&req{Text: text}); err != nil {
				break
			}
			in, err := s.Recv()
			if err != nil {
				return strings.Join(texts, " "), err
			}
			texts = append(texts, in.GetText())
		}
		if err := s.CloseSend(); err != nil {
			return "", err
		}
		if _, err = s.Recv(); err == io.EOF { //nolint:errorlint // bare, as gRPC promises
			err = nil
		}
		return strings.Join(texts, " "), err
	}
}

var kinds = map[string]string{"server": "3", "client": "x y z", "bidi": "x y z"}
