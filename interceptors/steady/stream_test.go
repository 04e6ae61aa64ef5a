package steady_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// drain reads a server stream to its end and returns how many messages came before.
func drain(s grpc.ServerStreamingClient[echov1.EchoResponse]) (int, error) {
	for n := 0; ; n++ {
		if _, err := s.Recv(); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}

func TestStreamOutcomeCountsOnceAtItsEnd(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		rec := new(recorder)
		conn := dial(fleet, outbound(t, breakerRule(countOnly), steady.WithObserver(rec)))
		client := echov1.NewEchoClient(conn)
		for _, kind := range []string{"server", "client", "bidi"} {
			before := len(of[steady.CallEnded](rec))
			ctx := within(t, 10*time.Second)
			switch kind {
			case "server":
				s, err := client.List(ctx, &req{Count: 3})
				if err != nil {
					t.Fatal(err)
				}
				if n, err := drain(s); n != 3 || err != nil {
					t.Fatalf("%d messages, %v", n, err)
				}
			case "client":
				s, err := client.Collect(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Send(&req{}); err != nil {
					t.Fatal(err)
				}
				if _, err := s.CloseAndRecv(); err != nil {
					t.Fatal(err)
				}
			case "bidi":
				s, err := client.Chat(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Send(&req{Text: "x"}); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Recv(); err != nil {
					t.Fatal(err)
				}
				if len(of[steady.CallEnded](rec)) != before {
					t.Error("bidi: counted while it is open")
				}
				if err := s.CloseSend(); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Recv(); err != io.EOF { //nolint:errorlint // bare, as gRPC promises
					t.Fatalf("%v, want a bare io.EOF", err)
				}
			}
			ended := of[steady.CallEnded](rec)[before:]
			if len(ended) != 1 || ended[0].Code != codes.OK || !ended[0].Stream || ended[0].Attempts != 1 {
				t.Errorf("%s: %d ends, %+v", kind, len(ended), ended)
			}
		}
	})
}

func TestStreamsTripAndRespectTheBreaker(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		fleet.Behave(steadytest.Failing(codes.Unavailable, 1))
		out := outbound(t, breakerRule(countOnly))
		client := echov1.NewEchoClient(dial(fleet, out))
		for range 5 {
			s, err := client.List(within(t, time.Second), &req{Count: 1})
			if err == nil {
				_, err = drain(s)
			}
			wantCode(t, err, codes.Unavailable)
		}
		finished := 0
		_, err := client.List(within(t, time.Second), &req{}, grpc.OnFinish(func(error) { finished++ }))
		if !errors.Is(err, breaker.ErrOpen) || finished != 1 {
			t.Fatalf("%v, OnFinish %d times; want refused, and told once", err, finished)
		}
		// A probe that lives for an hour decides with its first message.
		time.Sleep(5 * time.Second)
		fleet.Behave(steadytest.Healthy())
		for range 2 {
			s, err := client.Chat(within(t, time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Send(&req{Text: "x"}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		if got := state(t, out); got != breaker.Closed {
			t.Errorf("breaker %v with two probe streams alive, want closed", got)
		}
	})
}

// TestAHundredWatchesThatEndTogether: after its first message a stream's UNAVAILABLE is no news.
func TestAHundredWatchesThatEndTogether(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		out := outbound(t, breakerRule(breaker.Config{}))
		client := echov1.NewEchoClient(dial(fleet, out))
		var streams []grpc.BidiStreamingClient[echov1.EchoRequest, echov1.EchoResponse]
		ctx := within(t, time.Minute)
		for range 100 {
			s, err := client.Chat(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Send(&req{}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
			streams = append(streams, s)
		}
		fleet.Replica("a").Crash()
		for _, s := range streams {
			_, err := s.Recv()
			wantCode(t, err, codes.Unavailable)
		}
		if got := state(t, out); got != breaker.Closed {
			t.Errorf("breaker %v", got)
		}
	})
}

func TestStreamTimeoutAndAbandonedStream(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		rec := new(recorder)
		out := outbound(t, nil, steady.WithObserver(rec))
		client := echov1.NewEchoClient(dial(fleet, out))
		start := time.Now()
		var report steady.Report
		s, err := client.Chat(t.Context(), steady.Timeout(2*time.Second), steady.ReportTo(&report))
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Recv()
		wantCode(t, err, codes.DeadlineExceeded)
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("ended after %v", took)
		}
		if report.Code != codes.DeadlineExceeded || report.Limit != 2*time.Second || report.Made() != 1 {
			t.Errorf("report %+v", report)
		}
		// A stream that nobody reads ends with its context, and counts for nothing.
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := client.Chat(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		synctest.Wait() // the account is made on a goroutine of gRPC's
		attempts := of[steady.AttemptEnded](rec)
		if last := attempts[len(attempts)-1]; last.Verdict != steady.VerdictNothing || last.Code != codes.Canceled {
			t.Errorf("%+v", last)
		}
	})
}

func TestStreamGatesAreReleased(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		open := 0
		gate := gateFunc(func(context.Context) (func(error), error) {
			open++
			return func(error) { open-- }, nil
		})
		out := outbound(t, nil, steady.WithGate("count", gate))
		_, stream := out.Interceptors()
		desc := &grpc.StreamDesc{StreamName: "List", ServerStreams: true}
		func() {
			defer func() { _ = recover() }()
			_, _ = stream(t.Context(), desc, nil, list, func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
				panic("in an interceptor below")
			})
		}()
		_, err := stream(t.Context(), desc, nil, list, func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
			return nil, unavailable("x")
		})
		wantCode(t, err, codes.Unavailable)
		if open != 0 {
			t.Errorf("%d slots are still taken", open)
		}
	})
}

// TestAStreamThatFailsAfterItsFirstMessage: only UNAVAILABLE is no news then; its end counts, not its beginning.
func TestAStreamThatFailsAfterItsFirstMessage(t *testing.T) {
	for code, want := range map[codes.Code]breaker.State{codes.Unavailable: breaker.Closed, codes.Internal: breaker.Open, codes.NotFound: breaker.Closed} {
		t.Run(code.String(), func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
				fleet.Behave(steadytest.Breaking(code, 1))
				out := outbound(t, breakerRule(countOnly))
				client := echov1.NewEchoClient(dial(fleet, out))
				for range 6 { // the first failure of an endpoint that is the only one known may be a crash
					s, err := client.List(within(t, time.Second), &req{Count: 3})
					if err != nil {
						break
					}
					if n, err := drain(s); n != 1 {
						t.Fatalf("%d messages, %v", n, err)
					}
				}
				if got := state(t, out); got != want {
					t.Errorf("breaker %v, want %v", got, want)
				}
			})
		})
	}
}
