package steady_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

func TestStreamOfEveryKindIsRetried(t *testing.T) {
	for kind, want := range kinds {
		for _, c := range []cut{{err: unavailable("at once")}, {after: 1, err: unavailable("late")}, {after: 1, header: true, err: unavailable("after a header")}} {
			t.Run(kind+" "+status.Convert(c.err).Message(), func(t *testing.T) {
				steadytest.Run(t, func(t *testing.T) {
					tp := failFirst(2, c)
					rec := new(recorder)
					_, client := tapFleet(t, tp, streamRule(), steady.WithObserver(rec))
					var header, trailer metadata.MD
					var from peer.Peer
					var report steady.Report
					finished := 0
					got, err := talk(within(t, 10*time.Second), client, kind, grpc.Header(&header), grpc.Trailer(&trailer),
						grpc.Peer(&from), steady.ReportTo(&report), grpc.OnFinish(func(err error) {
							finished++
							if err != nil || report.Made() != 3 {
								t.Errorf("OnFinish(%v) with %+v", err, report)
							}
						}))
					if err != nil || got != want {
						t.Fatalf("%q, %v, want %q", got, err, want)
					}
					if finished != 1 || report.Code != codes.OK || len(trailer["attempt"]) != 1 || trailer["attempt"][0] != "3" ||
						len(header["attempt"]) != 1 || header["attempt"][0] != "3" || from.Addr == nil {
						t.Errorf("told %d times, report %v, header %v, trailer %v, peer %v", finished, report, header, trailer, from)
					}
					if want := []string{"", "1", "2"}; !reflect.DeepEqual(tp.previous, want) {
						t.Errorf("previous attempts %q, want %q", tp.previous, want)
					}
					ended := of[steady.CallEnded](rec)
					if len(ended) != 1 || ended[0].Attempts != 3 || len(of[steady.AttemptEnded](rec)) != 3 || len(of[steady.Retried](rec)) != 2 {
						t.Errorf("%d ends %+v, %d attempts, %d retries", len(ended), ended, len(of[steady.AttemptEnded](rec)), len(of[steady.Retried](rec)))
					}
				})
			})
		}
	}
}

func TestServerStreamDeliversNoMessageTwice(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		fleet.Behave(steadytest.Breaking(codes.Unavailable, 3))
		client := echov1.NewEchoClient(dial(fleet, outbound(t, streamRule(), wide)))
		s, err := client.List(within(t, time.Minute), &req{Count: 10})
		if err != nil {
			t.Fatal(err)
		}
		for want := int32(1); ; want++ {
			in, err := s.Recv()
			if err != nil {
				wantCode(t, err, codes.Unavailable)
				if want != 4 {
					t.Errorf("%d messages before the failure, want 3", want-1)
				}
				break
			}
			if in.GetNumber() != want {
				t.Fatalf("message %d, want %d", in.GetNumber(), want)
			}
		}
		if n := fleet.Count()["a"]; n != 1 {
			t.Errorf("%d attempts", n)
		}
	})
}

// TestReplayIsInOrderAndCumulative: what was sent between retries is part of the next replay, and so is the end
// of sending. The messages are changed after they were sent: what counts is what they were.
func TestReplayIsInOrderAndCumulative(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		tp := &tap{plan: func(n int) *cut {
			if n > 2 {
				return nil
			}
			return &cut{after: n + 1, err: unavailable("again")}
		}}
		_, client := tapFleet(t, tp, streamRule())
		s, err := client.Collect(within(t, 10*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		m := new(req)
		send := func(text string) {
			m.Text = text
			if err := s.Send(m); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		send("a")
		send("b")
		answer := make(chan string)
		go func() {
			out := new(reply)
			if err := s.RecvMsg(out); err != nil {
				t.Error(err)
			}
			answer <- out.GetText()
		}()
		time.Sleep(time.Second) // the second attempt has got both, and waits for a third
		send("c")
		time.Sleep(time.Second)
		send("d")
		if err := s.CloseSend(); err != nil {
			t.Error(err)
		}
		if got := <-answer; got != "a b c d" {
			t.Errorf("answer %q", got)
		}
		if got, want := tp.texts(), [][]string{{"a", "b"}, {"a", "b", "c"}, {"a", "b", "c", "d"}}; !reflect.DeepEqual(got, want) {
			t.Errorf("attempts received %q, want %q", got, want)
		}
	})
}

// TestCommitted: from then on a failure is the application's.
func TestCommitted(t *testing.T) {
	big := &req{Payload: bytes.Repeat([]byte("x"), 100<<10)}
	for _, tt := range []struct {
		name   string
		commit func(t *testing.T, s chat)
		want   int // attempts
	}{
		{"nothing done", func(*testing.T, chat) {}, 3},
		{"header", func(t *testing.T, s chat) {
			if md, err := s.Header(); err != nil || len(md["attempt"]) != 1 {
				t.Errorf("header %v, %v", md, err)
			}
		}, 1},
		{"context", func(t *testing.T, s chat) {
			if s.Context().Err() != nil {
				t.Error("ended")
			}
		}, 1},
		{"trailer", func(t *testing.T, s chat) {
			if md := s.Trailer(); len(md) > 0 {
				t.Errorf("trailer %v", md)
			}
		}, 1},
		{"200 KiB", func(t *testing.T, s chat) { sendAll(t, s, big, 2) }, 3},
		{"300 KiB", func(t *testing.T, s chat) { sendAll(t, s, big, 3) }, 1},
		{"1,000 messages", func(t *testing.T, s chat) { sendAll(t, s, &req{}, 999) }, 3},
		{"1,001 messages", func(t *testing.T, s chat) { sendAll(t, s, &req{}, 1000) }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				release := make(chan struct{})
				tp := new(tap)
				tp.plan = func(int) *cut { return &cut{after: 1, header: true, err: unavailable("gone")} }
				fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(grpc.ChainStreamInterceptor(
					func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
						err := tp.intercept(srv, ss, info, next)
						go func() { // a client may send as much as it likes
							for ss.RecvMsg(new(req)) == nil {
							}
						}()
						<-release
						return err
					})))
				client := echov1.NewEchoClient(dial(fleet, outbound(t, streamRule(), wide)))
				s, err := client.Chat(within(t, time.Minute))
				if err != nil {
					t.Fatal(err)
				}
				sendAll(t, s, &req{Text: "a"}, 1)
				tt.commit(t, s)
				close(release)
				_, err = s.Recv()
				wantCode(t, err, codes.Unavailable)
				if n := fleet.Count()["a"]; n != tt.want {
					t.Errorf("%d attempts, want %d", n, tt.want)
				}
				if err := s.Send(&req{}); err != io.EOF { //nolint:errorlint // bare, as gRPC promises
					t.Errorf("send after the end: %v", err)
				}
				if _, again := s.Recv(); status.Code(again) != codes.Unavailable {
					t.Errorf("received again: %v", again)
				}
			})
		})
	}
}

func sendAll(t *testing.T, s chat, m *req, n int) {
	t.Helper()
	for range n {
		if err := s.Send(m); err != nil {
			t.Error(err)
		}
	}
}

// TestStreamRetryFollowsTheRule: what holds for calls holds for streams.
func TestStreamRetryFollowsTheRule(t *testing.T) {
	ctxWith := func(t *testing.T, md metadata.MD) context.Context {
		return metadata.NewIncomingContext(within(t, 30*time.Second), md)
	}
	sick := cut{after: 1, err: unavailable("sick")}
	bare := []steady.Rule{{Methods: []string{""}, Retry: &retry.Config{}}}
	for _, tt := range []struct {
		name    string
		rules   []steady.Rule
		cut     cut
		trailer metadata.MD
		ctx     metadata.MD
		opts    []steady.Option
		call    []grpc.CallOption
		want    int
		took    time.Duration // 0: any
	}{
		{name: "max attempts", rules: streamRule(), cut: sick, want: 3},
		{name: "no permission", rules: bare, cut: sick, want: 1},
		{name: "the call's own word", rules: bare, cut: sick, call: []grpc.CallOption{steady.Idempotent()}, want: 3},
		{name: "MaxAttempts", rules: streamRule(), cut: sick, call: []grpc.CallOption{steady.MaxAttempts(5)}, want: 5},
		{name: "NoRetry", rules: streamRule(), cut: sick, call: []grpc.CallOption{steady.NoRetry()}, want: 1},
		{name: "another code", rules: streamRule(), cut: cut{after: 1, err: status.Error(codes.Aborted, "no")}, want: 1},
		{name: "budget", rules: streamRule(), cut: sick, opts: []steady.Option{steady.WithRetryBudget(retry.BudgetConfig{})}, want: 2},
		{name: "pushback", rules: streamRule(), cut: sick, trailer: pushback(700), want: 3, took: 1400 * time.Millisecond},
		{name: "negative pushback", rules: streamRule(), cut: sick, trailer: pushback(-1), want: 1},
		{name: "no time for the wait", rules: streamRule(), cut: sick, trailer: pushback(40_000), want: 1, took: time.Nanosecond},
		{name: "the layer above retries", rules: streamRule(), cut: sick, ctx: metadata.Pairs("grpc-previous-rpc-attempts", "1"), want: 1},
		{name: "observe", rules: streamRule(), cut: sick, opts: []steady.Option{steady.WithMode(steady.ModeObserve)}, want: 1},
	} {
		for kind := range kinds {
			t.Run(tt.name+" "+kind, func(t *testing.T) {
				steadytest.Run(t, func(t *testing.T) {
					tp := failFirst(99, tt.cut)
					tp.trailer = tt.trailer
					rec := new(recorder)
					_, client := tapFleet(t, tp, tt.rules, append(tt.opts, steady.WithObserver(rec))...)
					start := time.Now()
					_, err := talk(ctxWith(t, tt.ctx), client, kind, tt.call...)
					if want := status.Code(tt.cut.err); status.Code(err) != want || err == nil {
						t.Fatalf("%v, want %v", err, want)
					}
					if took := time.Since(start); tt.took > time.Nanosecond && took != tt.took || tt.took == time.Nanosecond && took != 0 {
						t.Errorf("took %v", took)
					}
					if got := len(tp.texts()); got != tt.want {
						t.Errorf("%d attempts, want %d", got, tt.want)
					}
					ended := of[steady.CallEnded](rec)
					if len(ended) != 1 || ended[0].Attempts != tt.want || len(of[steady.AttemptEnded](rec)) != tt.want {
						t.Errorf("%d ends %+v, %d attempts told", len(ended), ended, len(of[steady.AttemptEnded](rec)))
					}
					var call *steady.CallError
					if errors.As(err, &call) != (tt.want > 1 || ended[0].Stop > retry.StopPermanent) && tt.name != "observe" {
						t.Errorf("%v tells no story, or one too many: %v", err, ended[0].Stop)
					}
					if retried := of[steady.Retried](rec); tt.name == "observe" && (len(retried) != 1 || !retried[0].WouldHave) {
						t.Errorf("observed %+v", retried)
					}
				})
			})
		}
	}
}
