package steady_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// refuser speaks just enough HTTP/2 to refuse streams without having looked at them, which no server of gRPC's does
// on request. What it does not refuse it answers with NOT_FOUND.
type refuser struct {
	refuse int32 // so many streams, by RST_STREAM
	leave  int32 // so many connections, by GOAWAY at their first stream
	seen   atomic.Int32
	conns  atomic.Int32
}

// Frames of HTTP/2, RFC 9113.
const (
	frameData, frameHeaders, frameReset, frameSettings, framePing, frameGoAway = 0, 1, 3, 4, 6, 7

	flagAck, flagEndStream, flagEndHeaders = 1, 1, 4
	refusedStream                          = 7
)

func (r *refuser) dial(context.Context, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go r.serve(ours, r.conns.Add(1) <= r.leave)
	return theirs, nil
}

func (r *refuser) serve(conn net.Conn, leave bool) {
	defer func() { _ = conn.Close() }()
	write := func(kind, flags byte, stream uint32, payload []byte) bool {
		frame := make([]byte, 9, 9+len(payload))
		binary.BigEndian.PutUint32(frame, uint32(len(payload))<<8)
		frame[3], frame[4] = kind, flags
		binary.BigEndian.PutUint32(frame[5:], stream)
		_, err := conn.Write(append(frame, payload...))
		return err == nil
	}
	if _, err := io.ReadFull(conn, make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil || !write(frameSettings, 0, 0, nil) {
		return
	}
	for {
		head := make([]byte, 9)
		if _, err := io.ReadFull(conn, head); err != nil {
			return
		}
		payload := make([]byte, binary.BigEndian.Uint32(head)>>8)
		if _, err := io.ReadFull(conn, payload); err != nil {
			return
		}
		kind, flags, stream := head[3], head[4], binary.BigEndian.Uint32(head[5:])
		ok := true
		switch {
		case (kind == frameSettings || kind == framePing) && flags&flagAck == 0:
			answer := payload
			if kind == frameSettings {
				answer = nil
			}
			ok = write(kind, flagAck, 0, answer)
		case kind == frameHeaders && leave:
			r.seen.Add(1)
			ok = write(frameGoAway, 0, 0, make([]byte, 8)) // it has worked on none; the client closes
		case kind == frameHeaders && r.seen.Add(1) <= r.refuse:
			ok = write(frameReset, 0, stream, []byte{0, 0, 0, refusedStream})
		case kind == frameData && len(payload) > 0: // the whole message, or the rest of it comes to nothing
			ok = write(frameHeaders, flagEndHeaders|flagEndStream, stream, trailersOnly)
		}
		if !ok {
			return
		}
	}
}

// trailersOnly is a header block: the indexed ":status: 200", then two literals.
var trailersOnly = []byte("\x88" +
	"\x00\x0ccontent-type\x10application/grpc" +
	"\x00\x0bgrpc-status\x015")

// TestTransparentRetriesStayInsideOneAttempt: what a server has refused without having looked at it gRPC sends
// again by itself, once for each attempt of ours; for everybody else that is one attempt.
func TestTransparentRetriesStayInsideOneAttempt(t *testing.T) {
	for _, tt := range []struct {
		name          string
		refuse, leave int32
		permitted     bool
		attempts      int
		streams       int32
		want          codes.Code
	}{
		{"none", 0, 0, true, 1, 1, codes.NotFound},
		{"refused once", 1, 0, false, 1, 2, codes.NotFound},
		{"connection left", 0, 1, false, 1, 2, codes.NotFound},
		{"refused twice", 2, 0, false, 1, 2, codes.Unavailable},
		{"refused twice, and permitted", 2, 0, true, 2, 3, codes.NotFound},
		{"refused to the end", 99, 0, true, 3, 6, codes.Unavailable},
	} {
		for _, kind := range []string{"unary", "bidi"} {
			t.Run(tt.name+" "+kind, func(t *testing.T) {
				steadytest.Run(t, func(t *testing.T) {
					r := &refuser{refuse: tt.refuse, leave: tt.leave}
					rec := new(recorder)
					out := outbound(t, []steady.Rule{{Methods: []string{""}, Idempotent: tt.permitted, Retry: &retry.Config{}}}, wide, steady.WithObserver(rec))
					cc, err := grpc.NewClient("passthrough:///refuser", out.DialOptions(
						grpc.WithTransportCredentials(insecureCredentials()), grpc.WithContextDialer(r.dial))...)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = cc.Close() })
					client := echov1.NewEchoClient(cc)
					ctx := within(t, time.Minute)
					if kind == "unary" {
						_, err = client.Post(ctx, &req{})
					} else {
						err = playKind(ctx, client, kind)
					}
					wantCode(t, err, tt.want)
					ended, made := of[steady.CallEnded](rec), of[steady.AttemptEnded](rec)
					if len(ended) != 1 || ended[0].Attempts != tt.attempts || len(made) != tt.attempts || r.seen.Load() != tt.streams {
						t.Errorf("told %d ends and %d attempts, the server saw %d streams; want %d attempts and %d streams",
							len(ended), len(made), r.seen.Load(), tt.attempts, tt.streams)
					}
				})
			})
		}
	}
}

// TestEndThatGRPCTellsWrongly: when a transparent retry breaks while what was sent is sent again, gRPC returns the
// bare io.EOF of a message that could not be sent. For a stream that is the word for success; asked once more, it
// tells the truth. Of a call nothing more is to be learned.
func TestEndThatGRPCTellsWrongly(t *testing.T) {
	for _, kind := range []string{"recv", "header"} {
		for _, rules := range [][]steady.Rule{streamRule(), {{Methods: []string{""}, Mode: steady.ModeObserve}}} {
			t.Run(kind+" "+rules[0].Mode.String(), func(t *testing.T) {
				steadytest.Run(t, func(t *testing.T) {
					rec := new(recorder)
					b := &below{wrap: func(_ int, s grpc.ClientStream) grpc.ClientStream {
						first := true
						return hooks{ClientStream: s, recv: func(m any) error {
							err := s.RecvMsg(m)
							if first {
								first = false
								return io.EOF
							}
							return err
						}}
					}}
					tp := failFirst(99, cut{err: unavailable("truth")})
					fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(grpc.ChainStreamInterceptor(tp.intercept)))
					client := echov1.NewEchoClient(dial(fleet, outbound(t, rules, wide, steady.WithObserver(rec)), grpc.WithChainStreamInterceptor(b.intercept)))
					s, err := client.Chat(within(t, time.Minute))
					if err != nil {
						t.Fatal(err)
					}
					if kind == "header" {
						if md, err := s.Header(); md != nil || err != nil {
							t.Errorf("header %v, %v", md, err)
						}
					}
					_, err = s.Recv()
					wantCode(t, err, codes.Unavailable)
					want := 3
					if rules[0].Mode == steady.ModeObserve {
						want = 1
					}
					if ended := of[steady.CallEnded](rec); len(ended) != 1 || ended[0].Code != codes.Unavailable || ended[0].Attempts != want {
						t.Errorf("told %+v", ended)
					}
				})
			})
		}
	}
	s := newStub(func(n int) answer {
		if n == 1 {
			return answer{err: io.EOF, from: "a"}
		}
		return answer{from: "a"}
	})
	c := newClient(t, s, []steady.Rule{{Methods: []string{""}, Retry: &retry.Config{InitialBackoff: time.Millisecond}}}, wide)
	if _, err := c.call(t.Context(), get); err != nil || len(s.attempts()) != 2 {
		t.Errorf("%v after %d attempts", err, len(s.attempts()))
	}
	c = newClient(t, always(answer{err: io.EOF, from: "a"}), []steady.Rule{{Methods: []string{""}, Retry: &retry.Config{}}}, wide)
	_, err := c.call(t.Context(), post)
	wantCode(t, err, codes.Unavailable)
}
