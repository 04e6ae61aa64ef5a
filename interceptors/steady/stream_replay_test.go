package steady_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

func TestStreamReplayThroughCodecs(t *testing.T) {
	for name, opts := range map[string][]grpc.CallOption{
		"plain":       nil,
		"gzip":        {grpc.UseCompressor(gzip.Name)},
		"subtype":     {grpc.CallContentSubtype("proto")},
		"application": {steady.Timeout(5 * time.Second)},
	} {
		for kind, want := range kinds {
			t.Run(name+" "+kind, func(t *testing.T) {
				steadytest.Run(t, func(t *testing.T) {
					tp := failFirst(2, cut{after: 1, err: unavailable("again")})
					fleet, client := tapFleet(t, tp, streamRule())
					got, err := talk(within(t, 10*time.Second), client, kind, opts...)
					if err != nil || got != want {
						t.Fatalf("%q, %v, want %q", got, err, want)
					}
					wantType := "application/grpc"
					if name == "subtype" {
						wantType += "+proto"
					}
					for _, c := range fleet.Calls() {
						if got := c.Metadata.Get("content-type"); len(got) != 1 || got[0] != wantType {
							t.Errorf("content type %v, want %v", got, wantType)
						}
					}
				})
			})
		}
	}
}

// TestPreparedMessageIsReplayed: it was prepared for another stream, so that this one is not committed by it.
func TestPreparedMessageIsReplayed(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		tp := failFirst(0, cut{})
		_, client := tapFleet(t, tp, streamRule())
		first, err := client.Chat(within(t, time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		prepared := new(grpc.PreparedMsg)
		if err := prepared.Encode(first, &req{Text: "prepared"}); err != nil {
			t.Fatal(err)
		}
		tp.mu.Lock()
		tp.plan = func(n int) *cut {
			if n > 3 {
				return nil
			}
			return &cut{after: 1, err: unavailable("again")}
		}
		tp.mu.Unlock()
		s, err := client.Chat(within(t, time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SendMsg(prepared); err != nil {
			t.Fatal(err)
		}
		if in, err := s.Recv(); err != nil || in.GetText() != "prepared" {
			t.Fatalf("%v, %v", in, err)
		}
	})
}

// TestReplayLargerThanTheWindows: the server answers while it is still being replayed to, and takes more only if
// the answers are read.
func TestReplayLargerThanTheWindows(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		tp := failFirst(1, cut{after: 100, err: unavailable("again")})
		_, client := tapFleet(t, tp, streamRule())
		s, err := client.Chat(within(t, time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		sendAll(t, s, &req{Payload: bytes.Repeat([]byte("x"), 2500)}, 100)
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		for want := int32(1); want <= 100; want++ {
			in, err := s.Recv()
			if err != nil || in.GetNumber() != want || len(in.GetPayload()) != 2500 {
				t.Fatalf("message %d: %v, %d bytes", want, err, len(in.GetPayload()))
			}
			time.Sleep(time.Millisecond)
		}
		if _, err := s.Recv(); err != io.EOF { //nolint:errorlint // bare, as gRPC promises
			t.Fatal(err)
		}
	})
}

// TestUploadIsRetriedWhileItSends: an application that only sends learns nothing of a failed attempt, however
// much more it sends, as long as what it had sent until then was kept.
func TestUploadIsRetriedWhileItSends(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		tp := failFirst(2, cut{after: 1, err: unavailable("again")})
		_, client := tapFleet(t, tp, streamRule())
		s, err := client.Collect(within(t, 10*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			if err := s.Send(&req{Text: "x", Payload: make([]byte, 10<<10)}); err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
			synctest.Wait()
		}
		out, err := s.CloseAndRecv()
		if err != nil || out.GetNumber() != 100 || len(tp.texts()) != 3 {
			t.Errorf("%d messages arrived in %d attempts, %v", out.GetNumber(), len(tp.texts()), err)
		}
	})
}

// TestAnswerBeforeTheEndOfSending: the server has said all it wants to say; the sender is told to stop, and the
// answer is there to be received, once.
func TestAnswerBeforeTheEndOfSending(t *testing.T) {
	for _, tt := range []struct {
		name    string
		answers int
		err     error
	}{
		{"an answer", 1, nil}, {"two answers", 2, nil}, {"an answer and an error", 1, unavailable("gone")}, {"no answer", 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(grpc.StreamInterceptor(
					func(_ any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, _ grpc.StreamHandler) error {
						for i := range tt.answers {
							if err := ss.SendMsg(&reply{Number: int32(i + 1)}); err != nil {
								return err
							}
						}
						return tt.err
					})))
				rec := new(recorder)
				client := echov1.NewEchoClient(dial(fleet, outbound(t, streamRule(), wide, steady.WithObserver(rec))))
				s, err := client.Chat(within(t, 10*time.Second))
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				for range 2 {
					if err := s.Send(&req{}); err != io.EOF { //nolint:errorlint // bare, as gRPC promises
						t.Errorf("send: %v, want EOF", err)
					}
				}
				for want := range tt.answers {
					if in, err := s.Recv(); err != nil || int(in.GetNumber()) != want+1 {
						t.Fatalf("%v, %v", in, err)
					}
				}
				for range 2 {
					_, err := s.Recv()
					if tt.err == nil && err != io.EOF || status.Code(err) != status.Code(tt.err) && tt.err != nil { //nolint:errorlint // as above
						t.Errorf("end: %v", err)
					}
				}
				ended := of[steady.CallEnded](rec)
				if len(ended) != 1 || len(of[steady.AttemptEnded](rec)) != 1 {
					t.Fatalf("%d ends, %d attempts", len(ended), len(of[steady.AttemptEnded](rec)))
				}
				if ended[0].Attempts != 1 || ended[0].Code != status.Code(tt.err) {
					t.Errorf("%+v", *ended[0])
				}
			})
		})
	}
}

// rawCodec sends bytes as they are: a message that is no pointer, and cannot be compared.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (rawCodec) Name() string { return "proto" }

// TestReplayOfOtherMessages: bytes under a codec of the application's are replayed as well, and interceptors below
// see on every attempt what the application has sent.
func TestReplayOfOtherMessages(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		tp := failFirst(2, cut{after: 1, err: unavailable("again")})
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(grpc.ChainStreamInterceptor(tp.intercept)))
		var seen []any
		below := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, name string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			s, err := open(ctx, desc, cc, name, opts...)
			return &watched{s, func(m any) { seen = append(seen, m) }}, err
		}
		conn := dial(fleet, outbound(t, streamRule(), wide), grpc.WithChainStreamInterceptor(below))
		desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
		raw, err := proto.Marshal(&req{Text: "raw"})
		if err != nil {
			t.Fatal(err)
		}
		for name, forced := range map[string]grpc.CallOption{"codec": grpc.ForceCodec(rawCodec{}), "none": grpc.EmptyCallOption{}} {
			seen = nil
			tp.mu.Lock()
			tp.received, tp.previous = nil, nil
			tp.mu.Unlock()
			s, err := conn.NewStream(within(t, time.Minute), desc, echov1.Echo_Chat_FullMethodName, forced)
			if err != nil {
				t.Fatal(err)
			}
			if name == "codec" {
				var out []byte
				if err := errors.Join(s.SendMsg(raw), s.RecvMsg(&out)); err != nil || !bytes.Contains(out, []byte("raw")) {
					t.Errorf("%q, %v", out, err)
				}
				continue
			}
			in, out := &req{Text: "message"}, new(reply)
			if err := errors.Join(s.SendMsg(in), s.RecvMsg(out)); err != nil || out.GetText() != "message" {
				t.Errorf("%v, %v", out, err)
			}
			if len(seen) != 3 || seen[0] != in || seen[2] != in {
				t.Errorf("the interceptor below saw %v", seen)
			}
		}
	})
}

// watched tells of every message sent.
type watched struct {
	grpc.ClientStream
	tell func(m any)
}

func (w *watched) SendMsg(m any) error {
	w.tell(m)
	return w.ClientStream.SendMsg(m)
}
