package steady_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// below is an interceptor between steady and gRPC that does as it likes with each stream; n counts them from 1.
// What it leaves nil is gRPC's.
type below struct {
	mu   sync.Mutex
	n    int
	open func(n int)
	wrap func(n int, s grpc.ClientStream) grpc.ClientStream
}

func (b *below) intercept(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, name string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	b.mu.Lock()
	b.n++
	n := b.n
	b.mu.Unlock()
	if b.open != nil {
		b.open(n)
	}
	s, err := open(ctx, desc, cc, name, opts...)
	if err == nil && b.wrap != nil {
		s = b.wrap(n, s)
	}
	return s, err
}

// hooks is a stream with some of its methods replaced.
type hooks struct {
	grpc.ClientStream
	send   func(m any) error
	recv   func(m any) error
	header func() (metadata.MD, error)
}

func (h hooks) SendMsg(m any) error {
	if h.send != nil {
		return h.send(m)
	}
	return h.ClientStream.SendMsg(m)
}

func (h hooks) RecvMsg(m any) error {
	if h.recv != nil {
		return h.recv(m)
	}
	return h.ClientStream.RecvMsg(m)
}

func (h hooks) Header() (metadata.MD, error) {
	if h.header != nil {
		return h.header()
	}
	return h.ClientStream.Header()
}

// slots is a gate that counts what is taken.
type slots struct {
	mu   sync.Mutex
	open int
}

func (s *slots) Admit(context.Context) (func(error), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	return func(error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open--
	}, nil
}

func (s *slots) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// belowFleet is tapFleet with an interceptor below.
func belowFleet(t *testing.T, tp *tap, b *below, rules []steady.Rule, opts ...steady.Option) echov1.EchoClient {
	t.Helper()
	fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(grpc.ChainStreamInterceptor(tp.intercept)))
	return echov1.NewEchoClient(dial(fleet, outbound(t, rules, append([]steady.Option{wide}, opts...)...), grpc.WithChainStreamInterceptor(b.intercept)))
}

// caught runs f and returns what it panicked with, or "goexit".
func caught(f func()) (got any) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		got = "goexit"
		defer func() {
			if p := recover(); p != nil {
				got = p
			}
		}()
		f()
		got = nil
	}()
	<-done
	return got
}

// TestPanicBelowDuringARetry: the panic is the application's, and afterwards nothing waits, is held or untold.
func TestPanicBelowDuringARetry(t *testing.T) {
	for want, throw := range map[string]func(){"mine": func() { panic("mine") }, "goexit": runtime.Goexit} {
		t.Run(want, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				rec, gate := new(recorder), new(slots)
				b := &below{open: func(n int) {
					if n == 2 {
						throw()
					}
				}}
				client := belowFleet(t, failFirst(99, cut{after: 1, err: unavailable("sick")}), b, streamRule(),
					steady.WithObserver(rec), steady.WithGate("slots", gate))
				finished := 0
				s, err := client.Chat(within(t, time.Minute), grpc.OnFinish(func(error) { finished++ }))
				if err != nil {
					t.Fatal(err)
				}
				sendAll(t, s, &req{Text: "a"}, 1)
				if got := caught(func() { _, _ = s.Recv() }); got != want {
					t.Fatalf("Recv threw %v, want %v", got, want)
				}
				start := time.Now()
				_, err = s.Recv()
				wantCode(t, err, codes.Unavailable)
				if status.Convert(err).Message() != "sick" || time.Since(start) != 0 {
					t.Errorf("%v after %v, want the server's last word at once", err, time.Since(start))
				}
				if err := s.Send(&req{}); err != io.EOF { //nolint:errorlint // bare, as gRPC promises
					t.Errorf("send after the end: %v", err)
				}
				ended := of[steady.CallEnded](rec)
				if len(ended) != 1 || ended[0].Code != codes.Unavailable || finished != 1 || gate.taken() != 0 {
					t.Errorf("told %d ends, OnFinish %d times, %d slots taken", len(ended), finished, gate.taken())
				}
			})
		})
	}
}

// TestPanicOfAnObserverAtTheEnd: whoever comes next does not wait for an account that nobody makes.
func TestPanicOfAnObserverAtTheEnd(t *testing.T) {
	for _, retries := range []bool{false, true} {
		t.Run(fmt.Sprint(retries), func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				gate, thrown := new(slots), false
				observer := steady.ObserverFunc(func(e steady.Event) {
					if _, ok := e.(*steady.AttemptEnded); ok && !thrown {
						thrown = true
						panic("mine")
					}
				})
				rules := streamRule()
				if !retries {
					rules = []steady.Rule{{Methods: []string{""}, Breaker: &breaker.Config{}}}
				}
				client := belowFleet(t, failFirst(99, cut{after: 1, err: unavailable("sick")}), new(below), rules,
					steady.WithObserver(observer), steady.WithGate("slots", gate))
				s, err := client.Chat(within(t, time.Minute))
				if err != nil {
					t.Fatal(err)
				}
				sendAll(t, s, &req{Text: "a"}, 1)
				if got := caught(func() { _, _ = s.Recv() }); got != "mine" {
					t.Fatalf("Recv threw %v", got)
				}
				_, err = s.Recv()
				wantCode(t, err, codes.Unavailable)
				if gate.taken() != 0 {
					t.Errorf("%d slots taken", gate.taken())
				}
			})
		})
	}
}

// TestPanicBelowWhileASendReceives: a Send that finds the stream broken reads why; what that throws is the
// application's, and Recv does not wait for it.
func TestPanicBelowWhileASendReceives(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := &below{wrap: func(n int, s grpc.ClientStream) grpc.ClientStream {
			thrown := false
			return hooks{ClientStream: s, recv: func(m any) error {
				if n == 1 && !thrown {
					thrown = true
					panic("mine")
				}
				return s.RecvMsg(m)
			}}
		}}
		client := belowFleet(t, failFirst(1, cut{after: 1, err: unavailable("sick")}), b, streamRule())
		s, err := client.Chat(within(t, time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		sendAll(t, s, &req{Text: "a"}, 1)
		synctest.Wait()
		if got := caught(func() { _ = s.Send(&req{Text: "b"}) }); got != "mine" {
			t.Fatalf("Send threw %v", got)
		}
		for _, want := range []string{"a", "b"} {
			if in, err := s.Recv(); err != nil || in.GetText() != want {
				t.Fatalf("%v, %v, want %q", in, err, want)
			}
		}
	})
}

// TestPanicBelowDuringAReplay: what is thrown on our goroutine arrives on the application's.
func TestPanicBelowDuringAReplay(t *testing.T) {
	for want, throw := range map[string]func(){"mine": func() { panic("mine") }, "goexit": runtime.Goexit} {
		t.Run(want, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				rec, gate := new(recorder), new(slots)
				b := &below{wrap: func(n int, s grpc.ClientStream) grpc.ClientStream {
					var once atomic.Bool
					return hooks{ClientStream: s, send: func(m any) error {
						if n == 2 && once.CompareAndSwap(false, true) {
							throw()
						}
						return s.SendMsg(m)
					}}
				}}
				client := belowFleet(t, failFirst(1, cut{after: 1, err: unavailable("sick")}), b, streamRule(),
					steady.WithObserver(rec), steady.WithGate("slots", gate))
				s, err := client.Chat(within(t, time.Minute))
				if err != nil {
					t.Fatal(err)
				}
				sendAll(t, s, &req{Text: "a"}, 1)
				got := caught(func() { _, err = s.Recv() })
				if want == "mine" && got != want {
					t.Fatalf("Recv threw %v", got)
				}
				if want == "goexit" { // nobody's goroutine but ours is left
					wantCode(t, err, codes.Internal)
				}
				_, err = s.Recv()
				wantCode(t, err, codes.Internal)
				if err := s.Send(&req{}); err != io.EOF { //nolint:errorlint // bare, as gRPC promises
					t.Errorf("send after the end: %v", err)
				}
				if ended := of[steady.CallEnded](rec); len(ended) != 1 || gate.taken() != 0 {
					t.Errorf("told %d ends, %d slots taken", len(ended), gate.taken())
				}
			})
		})
	}
}

// TestReplayRefusedBelow: an interceptor that took a message once and does not the next time. The server must not
// get what was sent after it as if nothing were missing.
func TestReplayRefusedBelow(t *testing.T) {
	for _, tt := range []string{"receiving", "sending on", "closing", "abandoned"} {
		t.Run(tt, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				rec, gate := new(recorder), new(slots)
				b := &below{wrap: func(n int, s grpc.ClientStream) grpc.ClientStream {
					return hooks{ClientStream: s, send: func(m any) error {
						if r, ok := m.(*req); ok && n == 2 && r.GetText() == "b" {
							return status.Error(codes.InvalidArgument, "not twice")
						}
						return s.SendMsg(m)
					}}
				}}
				tp := failFirst(1, cut{after: 3, err: unavailable("sick")})
				client := belowFleet(t, tp, b, streamRule(), steady.WithObserver(rec), steady.WithGate("slots", gate))
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				s, err := client.Chat(ctx)
				if err != nil {
					t.Fatal(err)
				}
				for _, text := range []string{"a", "b", "c"} {
					sendAll(t, s, &req{Text: text}, 1)
				}
				synctest.Wait()
				switch tt {
				case "sending on": // makes the retry, and meets the refusal
					if err := s.Send(&req{Text: "d"}); err != io.EOF && err != nil { //nolint:errorlint // bare, as gRPC promises
						t.Errorf("send: %v", err)
					}
				case "closing":
					if err := s.CloseSend(); err != nil {
						t.Error(err)
					}
				case "abandoned":
					if _, err := s.Header(); err != nil { // makes the retry; the server may answer before the cancel
						t.Error(err)
					}
					cancel()
					synctest.Wait()
				}
				if tt != "abandoned" {
					for err == nil {
						var in *reply
						if in, err = s.Recv(); err == nil && in.GetText() != "a" {
							t.Errorf("answer to %q", in.GetText())
						}
					}
					wantCode(t, err, codes.InvalidArgument)
				}
				for i, got := range tp.texts() { // the cancel of the second may overtake it
					if i == 0 && !reflect.DeepEqual(got, []string{"a", "b", "c"}) || i == 1 && len(got) > 1 || i > 1 {
						t.Errorf("attempt %d received %q", i+1, got)
					}
				}
				if ended := of[steady.CallEnded](rec); len(ended) != 1 || gate.taken() != 0 {
					t.Errorf("told %d ends, %d slots taken", len(ended), gate.taken())
				}
			})
		})
	}
}

// TestAttemptThatAnInterceptorBelowEnded: it is retried like any other, and gRPC's stream under it does not go on.
func TestAttemptThatAnInterceptorBelowEnded(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		left := make(chan error, 1)
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(grpc.StreamInterceptor(
			func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
				md, _ := metadata.FromIncomingContext(ss.Context())
				if len(md["grpc-previous-rpc-attempts"]) > 0 {
					return next(srv, ss)
				}
				<-ss.Context().Done()
				left <- ss.Context().Err()
				return nil
			})))
		b := &below{wrap: func(n int, s grpc.ClientStream) grpc.ClientStream {
			if n == 1 {
				return hooks{ClientStream: s, recv: func(any) error { return unavailable("below") }}
			}
			return s
		}}
		var trailer metadata.MD
		client := echov1.NewEchoClient(dial(fleet, outbound(t, streamRule(), wide), grpc.WithChainStreamInterceptor(b.intercept)))
		got, err := talk(within(t, time.Minute), client, "bidi", grpc.Trailer(&trailer))
		if err != nil || got != kinds["bidi"] {
			t.Fatalf("%q, %v", got, err)
		}
		synctest.Wait()
		select {
		case err := <-left:
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		default:
			t.Error("the first attempt still runs at the server")
		}
	})
}

// TestStreamRetriedBelow: another layer opens several streams for one attempt of ours, and gRPC tells the end of each.
func TestStreamRetriedBelow(t *testing.T) {
	for name, rules := range map[string][]steady.Rule{"kept": streamRule(), "observed": {{Methods: []string{""}, Mode: steady.ModeObserve}}} {
		t.Run(name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				rec := new(recorder)
				tp := failFirst(2, cut{after: 1, err: unavailable("again")})
				fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(grpc.ChainStreamInterceptor(tp.intercept)))
				retrying := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
					s, err := open(ctx, desc, cc, method, opts...)
					if err != nil {
						return nil, err
					}
					var first any
					return hooks{
						ClientStream: s,
						send:         func(m any) error { first = m; return s.SendMsg(m) },
						recv: func(m any) error {
							for {
								err := s.RecvMsg(m)
								if status.Code(err) != codes.Unavailable {
									return err
								}
								if s, err = open(ctx, desc, cc, method, opts...); err != nil {
									return err
								}
								if err := errors.Join(s.SendMsg(first), s.CloseSend()); err != nil {
									return err
								}
							}
						},
					}, nil
				}
				client := echov1.NewEchoClient(dial(fleet, outbound(t, rules, steady.WithObserver(rec)), grpc.WithChainStreamInterceptor(retrying)))
				finished := 0
				got, err := talk(within(t, time.Minute), client, "server", grpc.OnFinish(func(err error) {
					finished++
					if err != nil {
						t.Errorf("OnFinish(%v)", err)
					}
				}))
				if err != nil || got != kinds["server"] || len(tp.texts()) != 3 {
					t.Fatalf("%q, %v, %d streams", got, err, len(tp.texts()))
				}
				ended := of[steady.CallEnded](rec)
				if len(ended) != 1 || ended[0].Code != codes.OK || ended[0].Attempts != 1 || finished != 1 {
					t.Errorf("told %d ends %+v, OnFinish %d times", len(ended), ended, finished)
				}
			})
		})
	}
}

// TestStreamTimedOutBelow: an interceptor below gives the stream less time, and nobody reads it any more. The end of
// the caller's context ends the account too, once.
func TestStreamTimedOutBelow(t *testing.T) {
	for name, rules := range map[string][]steady.Rule{"kept": streamRule(), "not kept": nil} {
		t.Run(name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				rec, gate := new(recorder), new(slots)
				fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
				short := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
					ctx, cancel := context.WithTimeout(ctx, time.Second)
					return open(ctx, desc, cc, method, append(slices.Clip(opts), grpc.OnFinish(func(error) { cancel() }))...)
				}
				client := echov1.NewEchoClient(dial(fleet, outbound(t, rules, steady.WithObserver(rec), steady.WithGate("slots", gate)),
					grpc.WithChainStreamInterceptor(short)))
				ctx, cancel := context.WithCancel(t.Context())
				if _, err := client.Chat(ctx); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Second)
				cancel()
				synctest.Wait()
				if ended := of[steady.CallEnded](rec); len(ended) != 1 || gate.taken() != 0 {
					t.Errorf("told %d ends, %d slots taken", len(ended), gate.taken())
				}
			})
		})
	}
}

// TestOnFinishMayAskTheStream: as with gRPC's own streams, however the call ended.
func TestOnFinishMayAskTheStream(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		tp := failFirst(99, cut{after: 1, err: unavailable("sick")})
		tp.trailer = metadata.Pairs("why", "sick")
		_, client := tapFleet(t, tp, streamRule())
		var s chat
		var trailer metadata.MD
		s, err := client.Chat(within(t, time.Minute), grpc.OnFinish(func(error) { trailer = s.Trailer() }))
		if err != nil {
			t.Fatal(err)
		}
		sendAll(t, s, &req{}, 1)
		_, err = s.Recv()
		wantCode(t, err, codes.Unavailable)
		if len(trailer["why"]) != 1 {
			t.Errorf("trailer %v", trailer)
		}
	})
}

// TestTrailerIsThatOfTheError: also where the attempt after it was refused.
func TestTrailerIsThatOfTheError(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		rules := streamRule()
		rules[0].Breaker = &breaker.Config{ConsecutiveFailures: 2}
		tp := failFirst(99, cut{after: 1, err: unavailable("sick")})
		tp.trailer = metadata.Pairs("why", "sick")
		_, client := tapFleet(t, tp, rules)
		s, err := client.Chat(within(t, time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		sendAll(t, s, &req{}, 1)
		_, err = s.Recv()
		wantCode(t, err, codes.Unavailable)
		if md := s.Trailer(); len(md["why"]) != 1 || len(tp.texts()) != 2 {
			t.Errorf("trailer %v after %d attempts", md, len(tp.texts()))
		}
	})
}

// TestNothingIsDeliveredTwice: Header learns of a failure and another attempt is made, while Recv is about to take a
// message of the first one.
func TestNothingIsDeliveredTwice(t *testing.T) {
	for _, decoded := range []bool{false, true} {
		t.Run(fmt.Sprint(decoded), func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				release := make(chan struct{})
				b := &below{wrap: func(n int, s grpc.ClientStream) grpc.ClientStream {
					if n > 1 {
						return s
					}
					return hooks{
						ClientStream: s,
						header:       func() (metadata.MD, error) { return nil, unavailable("below") },
						recv: func(m any) error {
							if !decoded {
								<-release
							}
							err := s.RecvMsg(m)
							if decoded {
								<-release
							}
							return err
						},
					}
				}}
				rec := new(recorder)
				client := belowFleet(t, failFirst(0, cut{}), b, streamRule(), steady.WithObserver(rec))
				s, err := client.List(within(t, time.Minute), &req{Count: 5})
				if err != nil {
					t.Fatal(err)
				}
				var got []int32
				received := make(chan error)
				go func() {
					for {
						in, err := s.Recv()
						if err != nil {
							received <- err
							return
						}
						got = append(got, in.GetNumber())
					}
				}()
				synctest.Wait()
				if _, err := s.Header(); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				close(release)
				err = <-received
				all, made := []int32{1, 2, 3, 4, 5}, 2
				if decoded { // it was too late for another attempt
					made = 1
				} else if err != io.EOF || len(got) != len(all) { //nolint:errorlint // bare, as gRPC promises
					t.Errorf("%d messages, %v", len(got), err)
				}
				ended := of[steady.CallEnded](rec)
				if len(got) == 0 || len(got) > len(all) || !reflect.DeepEqual(got, all[:len(got)]) || len(ended) != 1 || ended[0].Attempts != made {
					t.Errorf("received %v; told %+v", got, ended)
				}
			})
		})
	}
}
