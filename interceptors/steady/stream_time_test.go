package steady_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// script is what a server does with the nth attempt of a stream, from 1; nil: the handler answers.
type script func(n int) func(ss grpc.ServerStream) error

// hang is a server that says nothing.
func hang(ss grpc.ServerStream) error {
	<-ss.Context().Done()
	return status.FromContextError(ss.Context().Err()).Err()
}

// paced is a server that sends a message, waits for each pause, and sends another one; then it hangs.
func paced(pauses ...time.Duration) func(grpc.ServerStream) error {
	return func(ss grpc.ServerStream) error {
		for i := 0; ; i++ {
			if err := ss.SendMsg(&reply{Number: int32(i + 1)}); err != nil {
				return err
			}
			if i == len(pauses) {
				return hang(ss)
			}
			select {
			case <-time.After(pauses[i]):
			case <-ss.Context().Done():
				return hang(ss)
			}
		}
	}
}

// timed is a fleet of one whose streams follow a script, and a client of it.
func timed(t *testing.T, sc script, rules []steady.Rule, opts []steady.Option, dialed ...grpc.DialOption) (*steadytest.Fleet, echov1.EchoClient) {
	t.Helper()
	var mu sync.Mutex
	attempts := 0
	fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(grpc.StreamInterceptor(
		func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			mu.Lock()
			attempts++
			n := attempts
			mu.Unlock()
			if f := sc(n); f != nil {
				return f(ss)
			}
			return next(srv, ss)
		})))
	return fleet, echov1.NewEchoClient(dial(fleet, outbound(t, rules, append([]steady.Option{wide}, opts...)...), dialed...))
}

// only is the same for every attempt.
func only(f func(grpc.ServerStream) error) script {
	return func(int) func(grpc.ServerStream) error { return f }
}

// limits is a rule for all streams, without retries.
func limits(d deadline.Config) []steady.Rule {
	return []steady.Rule{{Methods: []string{""}, Deadline: &d}}
}

func TestFirstMessage(t *testing.T) {
	const s = time.Second
	open := func(t *testing.T, ctx context.Context, c echov1.EchoClient, opts ...grpc.CallOption) chat {
		t.Helper()
		st, err := c.Chat(ctx, opts...)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	list := func(ctx context.Context, t *testing.T, c echov1.EchoClient) error {
		st, err := c.List(ctx, &req{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = st.Recv()
		return err
	}
	ten := deadline.Config{FirstMessage: 8 * s}
	for _, tt := range []struct {
		name   string
		server func(grpc.ServerStream) error
		rules  []steady.Rule
		play   func(ctx context.Context, t *testing.T, c echov1.EchoClient) error
		want   codes.Code
		at     time.Duration
	}{
		{"silent", hang, limits(ten), list, codes.DeadlineExceeded, 8 * s},
		{"default", hang, limits(deadline.Config{}), list, codes.DeadlineExceeded, 30 * s},
		{"off", hang, limits(deadline.Config{FirstMessage: -1}), list, codes.DeadlineExceeded, time.Hour},
		{"no deadline in the rule", hang, []steady.Rule{{Methods: []string{""}, Breaker: &breaker.Config{}}}, list, codes.DeadlineExceeded, time.Hour},
		{"a header is no message", func(ss grpc.ServerStream) error {
			if err := ss.SendHeader(metadata.Pairs("k", "v")); err != nil {
				return err
			}
			return hang(ss)
		}, limits(ten), list, codes.DeadlineExceeded, 8 * s},
		{"in time", func(ss grpc.ServerStream) error {
			time.Sleep(8*s - 1)
			return ss.SendMsg(&reply{})
		}, limits(ten), list, codes.OK, 8*s - 1},
		{"ended in time", func(grpc.ServerStream) error {
			time.Sleep(8*s - 1)
			return status.Error(codes.NotFound, "no")
		}, limits(ten), list, codes.NotFound, 8*s - 1},
		{"the application reads late what came early", paced(), limits(ten), func(ctx context.Context, t *testing.T, c echov1.EchoClient) error {
			st, err := c.List(ctx, &req{})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			_, err = st.Recv()
			return err
		}, codes.OK, time.Minute},
		{"the application reads late and nothing came", hang, limits(ten), func(ctx context.Context, t *testing.T, c echov1.EchoClient) error {
			st, err := c.List(ctx, &req{})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			_, err = st.Recv()
			return err
		}, codes.DeadlineExceeded, 61 * s},
		{"it waits for the header", hang, limits(ten), func(ctx context.Context, t *testing.T, c echov1.EchoClient) error {
			st := open(t, ctx, c)
			sendAll(t, st, &req{}, 1)
			md, err := st.Header()
			if md != nil || err != nil {
				t.Errorf("header %v, %v", md, err)
			}
			_, err = st.Recv()
			return err
		}, codes.DeadlineExceeded, 8 * s},
		{"a long upload", nil, limits(ten), func(ctx context.Context, t *testing.T, c echov1.EchoClient) error {
			st, err := c.Collect(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for range 6 {
				if err := st.Send(&req{}); err != nil {
					t.Error(err)
				}
				time.Sleep(10 * s)
			}
			_, err = st.CloseAndRecv()
			return err
		}, codes.OK, time.Minute},
		{"an upload without an answer", hang, limits(ten), func(ctx context.Context, t *testing.T, c echov1.EchoClient) error {
			st, err := c.Collect(ctx)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * s)
			_, err = st.CloseAndRecv()
			return err
		}, codes.DeadlineExceeded, 28 * s},
		{"nothing was asked for a minute", nil, limits(ten), func(ctx context.Context, t *testing.T, c echov1.EchoClient) error {
			st := open(t, ctx, c)
			time.AfterFunc(time.Minute, func() { sendAll(t, st, &req{}, 1) })
			_, err := st.Recv()
			return err
		}, codes.OK, time.Minute},
		{"asked for the last time after a minute", hang, limits(ten), func(ctx context.Context, t *testing.T, c echov1.EchoClient) error {
			st := open(t, ctx, c)
			for i := range 10 {
				time.AfterFunc(time.Minute+time.Duration(i)*s, func() { sendAll(t, st, &req{}, 1) })
			}
			_, err := st.Recv()
			return err
		}, codes.DeadlineExceeded, 77 * s},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				rec := new(recorder)
				_, client := timed(t, only(tt.server), tt.rules, []steady.Option{steady.WithObserver(rec)})
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				start := time.Now()
				err := tt.play(ctx, t, client)
				wantCode(t, err, tt.want)
				if took := time.Since(start); took != tt.at {
					t.Errorf("took %v, want %v", took, tt.at)
				}
				cuts, ended := of[steady.DeadlineCut](rec), of[steady.AttemptEnded](rec)
				if cut := tt.want == codes.DeadlineExceeded && tt.at != time.Hour; !cut {
					if len(cuts) != 0 {
						t.Errorf("told of %+v", *cuts[0])
					}
					return
				}
				if !strings.HasPrefix(status.Convert(err).Message(), "steady: no response message within ") {
					t.Errorf("%v does not say why", err)
				}
				if len(cuts) != 1 || cuts[0].Origin != deadline.OriginFirstMessage || !cuts[0].Attempt || cuts[0].WouldHave ||
					cuts[0].Limit != tt.rules[0].Deadline.WithDefaults().FirstMessage {
					t.Errorf("told of %d cuts", len(cuts))
				}
				if len(ended) != 1 || ended[0].Verdict != steady.VerdictFailure || ended[0].Duration != tt.at {
					t.Errorf("%+v, want a failure", ended)
				}
			})
		})
	}
}

// TestFirstMessageCoversTheOpening: a stream that waits for a connection is opened in vain.
func TestFirstMessageCoversTheOpening(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet, client := timed(t, only(nil), limits(deadline.Config{FirstMessage: 8 * time.Second}), nil)
		fleet.Replica("a").Crash()
		start := time.Now()
		_, err := client.Chat(within(t, time.Hour), grpc.WaitForReady(true))
		wantCode(t, err, codes.DeadlineExceeded)
		if took := time.Since(start); took != 8*time.Second || !strings.Contains(err.Error(), "steady: no response message") {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// TestFirstMessageIsRetried: an attempt that had its time is one that failed, for everybody who is told of it.
func TestFirstMessageIsRetried(t *testing.T) {
	for kind, want := range kinds {
		t.Run(kind, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				var left, seen []codes.Code
				var mu sync.Mutex
				rules := streamRule()
				rules[0].Deadline = &deadline.Config{FirstMessage: 4 * time.Second}
				rules[0].Retry.Jitter = retry.NoJitter
				rec := new(recorder)
				b := &below{wrap: func(_ int, s grpc.ClientStream) grpc.ClientStream {
					return hooks{ClientStream: s, recv: func(m any) error {
						err := s.RecvMsg(m)
						mu.Lock()
						defer mu.Unlock()
						seen = append(seen, status.Code(err))
						return err
					}}
				}}
				_, client := timed(t, func(n int) func(grpc.ServerStream) error {
					if n > 2 {
						return nil
					}
					return func(ss grpc.ServerStream) error {
						err := hang(ss)
						mu.Lock()
						defer mu.Unlock()
						left = append(left, status.Code(err))
						return err
					}
				}, rules, []steady.Option{steady.WithObserver(rec)}, grpc.WithChainStreamInterceptor(b.intercept))
				start := time.Now()
				var report steady.Report
				got, err := talk(within(t, time.Minute), client, kind, steady.ReportTo(&report))
				if err != nil || got != want {
					t.Fatalf("%q, %v", got, err)
				}
				if took := time.Since(start); took != 8*time.Second+300*time.Millisecond {
					t.Errorf("took %v", took)
				}
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				if len(left) != 2 || left[0] != codes.Canceled || seen[0] != codes.DeadlineExceeded || seen[1] != codes.DeadlineExceeded {
					t.Errorf("the server was left with %v, interceptors below saw %v", left, seen)
				}
				cuts, ended := of[steady.DeadlineCut](rec), of[steady.AttemptEnded](rec)
				if len(cuts) != 2 || cuts[1].Number != 2 || len(ended) != 3 || ended[1].Code != codes.DeadlineExceeded ||
					ended[1].Verdict != steady.VerdictFailure || ended[2].Code != codes.OK || report.Made() != 3 {
					t.Errorf("%d cuts, ends %+v, report %v", len(cuts), ended, report)
				}
			})
		})
	}
}

// TestSilentStreamsTripTheBreaker: a server that accepts streams and says nothing is as good as none.
func TestSilentStreamsTripTheBreaker(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		rules := limits(deadline.Config{FirstMessage: time.Second})
		rules[0].Breaker = &breaker.Config{}
		_, client := timed(t, only(hang), rules, nil)
		for range 5 {
			s, err := client.List(within(t, time.Minute), &req{})
			if err == nil {
				_, err = s.Recv()
			}
			wantCode(t, err, codes.DeadlineExceeded)
		}
		_, err := client.List(within(t, time.Minute), &req{})
		if !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("%v, want refused", err)
		}
		time.Sleep(6 * time.Second) // half-open: a probe that stays silent is answer enough
		s, err := client.List(within(t, time.Minute), &req{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Recv()
		wantCode(t, err, codes.DeadlineExceeded)
		if _, err = client.List(within(t, time.Minute), &req{}); !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("%v, want refused again", err)
		}
	})
}

// TestBlockedSendWhileRecvRetries: the sender hangs in flow control when the attempt under it fails, and goes on
// with the next one, in order and with nothing lost.
func TestBlockedSendWhileRecvRetries(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		_, client := timed(t, func(n int) func(grpc.ServerStream) error {
			if n > 2 {
				return nil
			}
			return func(ss grpc.ServerStream) error {
				select {
				case <-time.After(time.Second):
					return unavailable("takes nothing")
				case <-ss.Context().Done():
					return hang(ss)
				}
			}
		}, streamRule(), nil)
		s, err := client.Chat(within(t, time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		const messages = 6 // 240 KiB: several windows, and still kept
		go func() {
			for i := range messages {
				if err := s.Send(&req{Text: strings.Repeat("x", i), Payload: make([]byte, 40<<10)}); err != nil {
					t.Errorf("message %d: %v", i, err)
				}
			}
			if err := s.CloseSend(); err != nil {
				t.Error(err)
			}
		}()
		for i := range messages {
			if in, err := s.Recv(); err != nil || len(in.GetText()) != i || len(in.GetPayload()) != 40<<10 {
				t.Fatalf("answer %d: %v", i, err)
			}
		}
		if _, err := s.Recv(); err != io.EOF { //nolint:errorlint // bare, as gRPC promises
			t.Error(err)
		}
	})
}

func TestIdle(t *testing.T) {
	const s = time.Second
	dense := make([]time.Duration, 1000)
	for i := range dense {
		dense[i] = 3500 * time.Microsecond // more between two looks than note their time
	}
	for _, tt := range []struct {
		name     string
		pauses   []time.Duration
		think    time.Duration // between two reads
		messages int
		at, late time.Duration
	}{
		{"after the first", nil, 0, 1, 8 * s, 0},
		{"after some", []time.Duration{3 * s, 7*s + 999*time.Millisecond, s}, 0, 4, 19*s + 999*time.Millisecond, 0},
		{"in the middle", []time.Duration{3 * s, 9 * s}, 0, 2, 11 * s, 0},
		{"after many at once", dense, 0, 1001, 11*s + 500*time.Millisecond, s},
		{"a slow reader is not a silent server", []time.Duration{s, s, s}, time.Minute, 4, 4*time.Minute + 8*s, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				rec := new(recorder)
				rules := streamRule()
				rules[0].Deadline = &deadline.Config{Idle: 8 * s}
				_, client := timed(t, only(paced(tt.pauses...)), rules, []steady.Option{steady.WithObserver(rec)})
				start := time.Now()
				st, err := client.List(within(t, time.Hour), &req{})
				if err != nil {
					t.Fatal(err)
				}
				n := 0
				for {
					if _, err = st.Recv(); err != nil {
						break
					}
					n++
					time.Sleep(tt.think)
				}
				wantCode(t, err, codes.DeadlineExceeded)
				if took := time.Since(start); n != tt.messages || took < tt.at || took > tt.at+tt.late {
					t.Errorf("%d messages and cut after %v, want %d and %v, at most %v later", n, took, tt.messages, tt.at, tt.late)
				}
				if !strings.HasPrefix(status.Convert(err).Message(), "steady: no further response message within 8s") {
					t.Errorf("%v does not say why", err)
				}
				cuts, ended := of[steady.DeadlineCut](rec), of[steady.AttemptEnded](rec)
				if len(cuts) != 1 || cuts[0].Origin != deadline.OriginIdle || cuts[0].Limit != 8*s ||
					len(ended) != 1 || ended[0].Verdict != steady.VerdictFailure {
					t.Errorf("told of %+v and %+v", cuts, ended)
				}
			})
		})
	}
}

// TestIdleIsOffByDefault: a watch may be quiet for as long as it likes.
func TestIdleIsOffByDefault(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		_, client := timed(t, only(paced(24*time.Hour)), limits(deadline.Config{}), nil)
		st, err := client.List(within(t, 48*time.Hour), &req{})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := st.Recv(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// reads is a server that takes n messages, then none for a while, then the rest, and answers.
func reads(n int, pause time.Duration) func(grpc.ServerStream) error {
	return func(ss grpc.ServerStream) error {
		for range n {
			if err := ss.RecvMsg(new(req)); err != nil {
				return err
			}
		}
		select {
		case <-time.After(pause):
		case <-ss.Context().Done():
			return hang(ss)
		}
		for {
			if err := ss.RecvMsg(new(req)); err == io.EOF { //nolint:errorlint // bare, as gRPC promises
				return ss.SendMsg(&reply{})
			} else if err != nil {
				return err
			}
		}
	}
}

func TestSend(t *testing.T) {
	const s = time.Second
	big := &req{Payload: make([]byte, 40<<10)} // two of them are more than a stream's window
	upload := func(ctx context.Context, client echov1.EchoClient) (took time.Duration, sendErr, err error) {
		start := time.Now()
		st, err := client.Collect(ctx)
		if err != nil {
			return 0, nil, err
		}
		for range 20 {
			if sendErr = st.Send(big); sendErr != nil {
				took = time.Since(start)
				break
			}
		}
		_, err = st.CloseAndRecv()
		if took == 0 {
			took = time.Since(start)
		}
		return took, sendErr, err
	}
	for _, tt := range []struct {
		name    string
		server  func(grpc.ServerStream) error
		retry   bool
		want    codes.Code
		at      time.Duration
		attempt int
	}{
		{"taken in time", reads(5, 8*s-1), false, codes.OK, 8*s - 1, 1},
		{"not taken", hang, false, codes.DeadlineExceeded, 8 * s, 1},
		{"not taken any more", reads(5, time.Hour), false, codes.DeadlineExceeded, 8 * s, 1},
		{"not taken, and tried again", hang, true, codes.OK, 8 * s, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				rec := new(recorder)
				rules := limits(deadline.Config{Send: 8 * s, FirstMessage: -1})
				if tt.retry {
					rules[0].Retry, rules[0].Idempotent = &retry.Config{}, true
				}
				sc := only(tt.server)
				if tt.retry {
					sc = func(n int) func(grpc.ServerStream) error {
						if n == 1 {
							return tt.server
						}
						return nil
					}
				}
				_, client := timed(t, sc, rules, []steady.Option{steady.WithObserver(rec), steady.WithRandom(func() float64 { return 0 })})
				took, sendErr, err := upload(within(t, time.Hour), client)
				wantCode(t, err, tt.want)
				if took != tt.at {
					t.Errorf("took %v, want %v", took, tt.at)
				}
				ended, cuts := of[steady.AttemptEnded](rec), of[steady.DeadlineCut](rec)
				if len(ended) != tt.attempt {
					t.Fatalf("%d attempts, want %d", len(ended), tt.attempt)
				}
				if tt.want == codes.OK {
					if sendErr != nil || len(cuts) != tt.attempt-1 {
						t.Errorf("send %v, %d cuts", sendErr, len(cuts))
					}
					return
				}
				if sendErr != io.EOF { //nolint:errorlint // bare, as gRPC promises
					t.Errorf("send: %v", sendErr)
				}
				if len(cuts) != 1 || cuts[0].Origin != deadline.OriginSend || ended[0].Verdict != steady.VerdictFailure ||
					status.Convert(err).Message() != "steady: a message could not be sent within 8s" {
					t.Errorf("%v; told of %+v and %+v", err, cuts, ended)
				}
			})
		})
	}
}

// TestStreamTimesObserved: nothing is cut, and what would have been is told, once an attempt.
func TestStreamTimesObserved(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name   string
		server func(grpc.ServerStream) error
		origin deadline.Origin
		kind   string
		at     time.Duration
		would  int // retries
	}{
		{"first message", func(ss grpc.ServerStream) error {
			time.Sleep(20 * s)
			return ss.SendMsg(&reply{})
		}, deadline.OriginFirstMessage, "server", 8 * s, 1},
		{"idle", func(ss grpc.ServerStream) error {
			if err := ss.SendMsg(&reply{}); err != nil {
				return err
			}
			time.Sleep(20 * s)
			return ss.SendMsg(&reply{})
		}, deadline.OriginIdle, "server", 4 * s, 0},
		{"send", reads(0, 20*s), deadline.OriginSend, "client", 2 * s, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				rec, gate := new(recorder), new(slots)
				rules := []steady.Rule{{
					Methods: []string{""}, Mode: steady.ModeObserve, Retry: &retry.Config{}, Idempotent: true,
					Deadline: &deadline.Config{FirstMessage: 8 * s, Idle: 4 * s, Send: 2 * s},
				}}
				_, client := timed(t, only(tt.server), rules, []steady.Option{steady.WithObserver(rec), steady.WithGate("slots", gate)})
				start := time.Now()
				if tt.kind == "server" {
					if _, err := talk(within(t, time.Hour), client, tt.kind); err != nil {
						t.Fatal(err)
					}
				} else {
					st, err := client.Collect(within(t, time.Hour))
					if err != nil {
						t.Fatal(err)
					}
					for range 20 {
						if err := st.Send(&req{Payload: make([]byte, 40<<10)}); err != nil {
							t.Fatal(err)
						}
					}
					if _, err := st.CloseAndRecv(); err != nil {
						t.Fatal(err)
					}
				}
				cuts, ended := of[steady.DeadlineCut](rec), of[steady.CallEnded](rec)
				if len(cuts) != 1 || cuts[0].Origin != tt.origin || !cuts[0].WouldHave || cuts[0].At.Sub(start) != tt.at {
					t.Fatalf("told of %d cuts, %+v", len(cuts), cuts)
				}
				if len(ended) != 1 || ended[0].Code != codes.OK || ended[0].Duration != 20*s || gate.taken() != 0 {
					t.Errorf("ended %+v, %d slots taken", ended, gate.taken())
				}
				if retried := of[steady.Retried](rec); len(retried) != tt.would {
					t.Errorf("%d would-have retries", len(retried))
				}
			})
		})
	}
}

// headerSeen notes when the header of a call arrived.
type headerSeen struct {
	stats.Handler
	at chan time.Time
}

func (h headerSeen) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (h headerSeen) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (h headerSeen) HandleConn(context.Context, stats.ConnStats)                       {}
func (h headerSeen) HandleRPC(_ context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.InHeader); ok {
		h.at <- time.Now()
	}
}

// TestUnaryHeaderComesWithTheReply is why AttemptTimeout is the read timeout of unary calls: no time without a header
// is shorter than the time without a reply.
func TestUnaryHeaderComesWithTheReply(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		fleet.Behave(steadytest.Slow(5 * time.Second))
		seen := headerSeen{at: make(chan time.Time, 1)}
		rules := limits(deadline.Config{AttemptTimeout: 6 * time.Second})
		client := echov1.NewEchoClient(dial(fleet, outbound(t, rules), grpc.WithStatsHandler(seen)))
		start := time.Now()
		if _, err := client.Get(t.Context(), &req{}); err != nil {
			t.Fatal(err)
		}
		if after := (<-seen.at).Sub(start); after != 5*time.Second {
			t.Errorf("the header came after %v, the reply after 5s", after)
		}
		fleet.Behave(steadytest.Slow(7 * time.Second))
		_, err := client.Get(t.Context(), &req{})
		wantCode(t, err, codes.DeadlineExceeded)
		if took := time.Since(start); took != 11*time.Second {
			t.Errorf("cut after %v", took-5*time.Second)
		}
	})
}
