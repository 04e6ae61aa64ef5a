package steady_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/fault"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// TestAbandonedStreamsLeakNothing: whatever state they are in, the end of their context ends them, once.
func TestAbandonedStreamsLeakNothing(t *testing.T) {
	for name, c := range map[string]*cut{
		"open": nil, "broken": {after: 1, err: unavailable("gone")}, "waiting for a retry": {err: unavailable("gone")},
	} {
		t.Run(name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				open := 0
				gate := gateFunc(func(context.Context) (func(error), error) {
					open++
					return func(error) { open-- }, nil
				})
				tp := &tap{plan: func(int) *cut { return c }, trailer: pushback(5000)}
				rec := new(recorder)
				_, client := tapFleet(t, tp, streamRule(), steady.WithGate("count", gate), steady.WithObserver(rec))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				s, err := client.Chat(ctx)
				if err != nil {
					t.Fatal(err)
				}
				sendAll(t, s, &req{Text: "a"}, 1)
				received := make(chan error, 1)
				if strings.HasPrefix(name, "waiting") {
					go func() {
						_, err := s.Recv()
						received <- err
					}()
				}
				synctest.Wait()
				cancel()
				synctest.Wait()
				if strings.HasPrefix(name, "waiting") {
					wantCode(t, <-received, codes.Canceled)
				}
				if open != 0 || len(of[steady.CallEnded](rec)) != 1 {
					t.Errorf("%d slots taken, told %d times", open, len(of[steady.CallEnded](rec)))
				}
				if err := s.Send(&req{}); err != io.EOF { //nolint:errorlint // bare, as gRPC promises
					t.Errorf("send after the end: %v", err)
				}
			})
		})
	}
}

// TestStreamRetryRefused: a breaker that opens between two attempts ends the stream with the server's own error.
func TestStreamRetryRefused(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		rules := streamRule()
		rules[0].Breaker = &breaker.Config{ConsecutiveFailures: 2}
		tp := failFirst(99, cut{after: 1, err: unavailable("sick")})
		rec := new(recorder)
		_, client := tapFleet(t, tp, rules, steady.WithObserver(rec))
		_, err := talk(within(t, time.Minute), client, "bidi")
		wantCode(t, err, codes.Unavailable)
		if errors.Is(err, breaker.ErrOpen) || len(tp.texts()) != 2 {
			t.Errorf("%v after %d attempts, want the server's error after 2", err, len(tp.texts()))
		}
		if ended := of[steady.CallEnded](rec); len(ended) != 1 || ended[0].Stop != retry.StopRefused {
			t.Errorf("%+v", ended)
		}
	})
}

// TestStreamErrorOfAMessageIsOurFault: what gRPC refuses to send ends the stream, and is not retried.
func TestStreamErrorOfAMessageIsOurFault(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		rec := new(recorder)
		tp := failFirst(0, cut{})
		_, client := tapFleet(t, tp, streamRule(), steady.WithObserver(rec))
		s, err := client.Chat(within(t, time.Minute), grpc.MaxCallSendMsgSize(100))
		if err != nil {
			t.Fatal(err)
		}
		sendAll(t, s, &req{Text: "small"}, 1)
		wantCode(t, s.Send(&req{Payload: make([]byte, 200)}), codes.ResourceExhausted)
		if ended := of[steady.CallEnded](rec); len(ended) != 1 || ended[0].Code != codes.ResourceExhausted || ended[0].Attempts != 1 {
			t.Errorf("%+v", ended)
		}
		s, err = client.Chat(within(t, time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		wantCode(t, s.Send(&req{}), codes.Internal) // after CloseSend
	})
}

// TestFaultsStrikeAttemptsOfStreams: an injected failure is one attempt, and the next one may get through.
func TestFaultsStrikeAttemptsOfStreams(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		faults, err := fault.New(1, []fault.Rule{{
			Name: "first half second", Share: 1, Code: uint32(codes.Unavailable), Until: 150 * time.Millisecond,
		}}, fault.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		rules := streamRule()
		rules[0].Retry.Jitter = retry.NoJitter
		rec := new(recorder)
		tp := failFirst(0, cut{})
		_, client := tapFleet(t, tp, rules, steady.WithFaults(faults), steady.WithObserver(rec))
		faults.Enable()
		if got, err := talk(within(t, time.Minute), client, "bidi"); err != nil || got != kinds["bidi"] {
			t.Fatalf("%q, %v", got, err)
		}
		if n := len(of[steady.FaultInjected](rec)); n != 2 || len(tp.texts()) != 1 || len(of[steady.AttemptEnded](rec)) != 3 {
			t.Errorf("%d faults, %d attempts at the server, %d told", n, len(tp.texts()), len(of[steady.AttemptEnded](rec)))
		}
	})
}

// TestStreamWithoutConnection: nothing has left the client, so that a method nobody has described is tried again
// as well; and the stream that could not be opened tells its story.
func TestStreamWithoutConnection(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		rec := new(recorder)
		out := outbound(t, []steady.Rule{{Methods: []string{""}, Retry: &retry.Config{}}}, wide, steady.WithObserver(rec))
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		fleet.Replica("a").Crash()
		finished := 0
		_, err := echov1.NewEchoClient(dial(fleet, out)).Chat(within(t, time.Minute), grpc.OnFinish(func(err error) {
			finished++
			wantCode(t, err, codes.Unavailable)
		}))
		wantCode(t, err, codes.Unavailable)
		ended := of[steady.CallEnded](rec)
		if len(ended) != 1 || ended[0].Attempts != 3 || finished != 1 || !strings.Contains(steady.Explain(err), "3 attempts") {
			t.Errorf("told %d ends, OnFinish %d times; %s", len(ended), finished, steady.Explain(err))
		}
	})
}

// TestStreamIsBlamedNextToTheFailure: a stream that has spent its attempts inside a server call tells the layer
// above not to try again.
func TestStreamIsBlamedNextToTheFailure(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		net := steadytest.NewNetwork()
		t.Cleanup(net.Close)
		backend := steadytest.NewFleet(t, steadytest.OnNetwork(net), steadytest.Replicas("backend"))
		backend.Behave(steadytest.Failing(codes.Unavailable, 1))
		inner := echov1.NewEchoClient(dial(backend, outbound(t, streamRule(), wide)))
		in, err := steady.NewInbound(nil)
		if err != nil {
			t.Fatal(err)
		}
		front := steadytest.NewFleet(t, steadytest.OnNetwork(net), steadytest.Replicas("front"), steadytest.ServerOptions(in.ServerOptions()...))
		front.Behave(func(ctx context.Context, _ steadytest.Call) error {
			_, err := talk(ctx, inner, "server")
			return err
		})
		outer := echov1.NewEchoClient(dial(front, outbound(t, streamRule(), wide)))
		_, err = talk(within(t, time.Minute), outer, "bidi")
		wantCode(t, err, codes.Unavailable)
		if front.Count()["front"] != 1 || backend.Count()["backend"] != 3 {
			t.Errorf("the front saw %v, the backend %v, want 1 and 3", front.Count(), backend.Count())
		}
	})
}

// TestInterceptorBelowRefusesAMessage: the stream is not at its end for that, and the next message gets through.
func TestInterceptorBelowRefusesAMessage(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		rec := new(recorder)
		conn := dial(fleet, outbound(t, streamRule(), steady.WithObserver(rec)), grpc.WithChainStreamInterceptor(
			func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, name string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
				s, err := open(ctx, desc, cc, name, opts...)
				return picky{s}, err
			}))
		s, err := echov1.NewEchoClient(conn).Chat(within(t, time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // before and after the first answer
			wantCode(t, s.Send(&req{Text: "bad"}), codes.InvalidArgument)
			sendAll(t, s, &req{Text: "good"}, 1)
			if in, err := s.Recv(); err != nil || in.GetText() != "good" {
				t.Fatalf("%v, %v", in, err)
			}
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err != io.EOF { //nolint:errorlint // bare, as gRPC promises
			t.Fatal(err)
		}
		if ended := of[steady.CallEnded](rec); len(ended) != 1 || ended[0].Code != codes.OK {
			t.Errorf("told %d ends", len(ended))
		}
	})
}

// picky refuses some messages, as validation does.
type picky struct{ grpc.ClientStream }

func (p picky) SendMsg(m any) error {
	if r, ok := m.(*req); ok && r.GetText() == "bad" {
		return status.Error(codes.InvalidArgument, "bad")
	}
	return p.ClientStream.SendMsg(m)
}

// TestFaultsAndTheHeaderOfTheCaller: an attempt that a fault has struck has received nothing.
func TestFaultsAndTheHeaderOfTheCaller(t *testing.T) {
	for _, kind := range []string{"unary", "server", "client", "bidi"} {
		t.Run(kind, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				faults, err := fault.New(1, []fault.Rule{{Name: "all", Share: 1, Code: uint32(codes.Unavailable)}},
					fault.WithLogger(slog.New(slog.DiscardHandler)))
				if err != nil {
					t.Fatal(err)
				}
				faults.Enable()
				_, client := tapFleet(t, failFirst(0, cut{}), nil, steady.WithFaults(faults))
				header := metadata.Pairs("old", "1")
				if kind == "unary" {
					_, err = client.Get(within(t, time.Minute), &req{}, grpc.Header(&header))
				} else {
					_, err = talk(within(t, time.Minute), client, kind, grpc.Header(&header))
				}
				wantCode(t, err, codes.Unavailable)
				if len(header) != 0 {
					t.Errorf("header %v", header)
				}
			})
		})
	}
}
