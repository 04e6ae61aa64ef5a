package steady_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/steady"
)

func TestOptionsShowTheFinalAttemptOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStub(func(n int) answer {
			if n == 1 {
				return answer{err: unavailable("x"), from: "first", header: metadata.Pairs("h", "1"), trailer: metadata.Pairs("t", "1")}
			}
			return answer{from: "second", header: metadata.Pairs("h", "2")}
		})
		c := newClient(t, s, retryRule(""), wide)
		var header, trailer metadata.MD
		var p peer.Peer
		finished := 0
		var report steady.Report
		_, err := c.call(t.Context(), get, grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&p),
			grpc.OnFinish(func(err error) {
				finished++
				if err != nil {
					t.Errorf("OnFinish got %v", err)
				}
			}), steady.ReportTo(&report))
		if err != nil {
			t.Fatal(err)
		}
		if header.Get("h")[0] != "2" || len(trailer) != 0 || p.Addr.String() != "second" {
			t.Errorf("header %v, trailer %v, peer %v: want those of the second attempt", header, trailer, p.Addr)
		}
		if finished != 1 {
			t.Errorf("OnFinish was called %d times, want once per call", finished)
		}
		if report.Made() != 2 || report.Attempts[0].Endpoint != "first" || report.Attempts[1].Endpoint != "second" || report.Code != codes.OK {
			t.Errorf("report %+v", report)
		}
	})
}

func TestOnFinishOfARefusedCall(t *testing.T) {
	gate := gateFunc(func(context.Context) (func(error), error) { return nil, errors.New("closed today") })
	c := newClient(t, always(answer{from: "a"}), nil, steady.WithGate("hours", gate))
	calls := 0
	_, err := c.call(t.Context(), get, grpc.OnFinish(func(err error) {
		calls++
		if status.Code(err) != codes.Unavailable {
			t.Errorf("OnFinish got %v", err)
		}
	}))
	wantCode(t, err, codes.Unavailable)
	if calls != 1 {
		t.Errorf("OnFinish was called %d times", calls)
	}
}

func TestOptionsAreHarmlessWithoutTheInterceptor(t *testing.T) {
	conn, err := grpc.NewClient("passthrough:///nowhere",
		grpc.WithTransportCredentials(insecureCredentials()),
		grpc.WithContextDialer(noDialer))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var report steady.Report
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = echov1.NewEchoClient(conn).Get(ctx, &echov1.EchoRequest{},
		steady.Timeout(time.Second), steady.MaxAttempts(3), steady.Idempotent(), steady.NoRetry(), steady.ReportTo(&report))
	wantCode(t, err, codes.Unavailable)
}

func TestTimeoutOption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{after: time.Hour, from: "a"})
		c := newClient(t, s, nil)
		start := time.Now()
		_, err := c.call(t.Context(), get, steady.Timeout(300*time.Millisecond))
		wantCode(t, err, codes.DeadlineExceeded)
		if took := time.Since(start); took != 300*time.Millisecond {
			t.Errorf("took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start = time.Now()
		_, err = c.call(ctx, get, steady.Timeout(300*time.Millisecond))
		wantCode(t, err, codes.DeadlineExceeded)
		if took := time.Since(start); took != 100*time.Millisecond {
			t.Errorf("took %v, want the caller's own tighter deadline", took)
		}
	})
}

func TestOptionErrors(t *testing.T) {
	fn := func(context.Context, *echov1.EchoRequest, error) (*echov1.EchoResponse, error) { return nil, nil }
	for _, tt := range []struct {
		name string
		opts []steady.Option
		want string
	}{
		{"nil option", []steady.Option{nil}, "nil"},
		{"gate without name", []steady.Option{steady.WithGate("", &breaker.Breaker{})}, "WithGate"},
		{"gate nil", []steady.Option{steady.WithGate("x", nil)}, "WithGate"},
		{"fallback for a service", []steady.Option{steady.Fallback("/a.B/", fn)}, "full method name"},
		{"fallback twice", []steady.Option{steady.Fallback(get, fn), steady.Fallback(get, fn)}, "twice"},
		{"no random", []steady.Option{steady.WithRandom(nil)}, "WithRandom"},
		{"mode", []steady.Option{steady.WithMode(9)}, "mode"},
		{"inbound only", []steady.Option{steady.WithTrustInbound(steady.TrustInbound{})}, "an Inbound only"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := steady.NewOutbound(nil, tt.opts...)
			if err == nil || out != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want an error that names %q", err, tt.want)
			}
		})
	}
	if _, err := steady.NewInbound(nil, steady.WithRandom(middle)); err == nil || !strings.Contains(err.Error(), "an Outbound only") {
		t.Errorf("%v", err)
	}
}

type gateFunc func(context.Context) (func(error), error)

func (f gateFunc) Admit(ctx context.Context) (func(error), error) { return f(ctx) }

// TestTimeoutStandsAboveTheRule: the call's own wish replaces default and cap; the caller's deadline and the
// reserve of a hop still hold.
func TestTimeoutStandsAboveTheRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{from: "a"})
		c := newClient(t, s, []steady.Rule{{Methods: []string{""}, Deadline: &deadline.Config{Default: time.Second, Max: 2 * time.Second}}})
		in, err := steady.NewInbound(nil)
		if err != nil {
			t.Fatal(err)
		}
		server, _ := in.Interceptors()
		for i, tt := range []struct {
			asked, caller, want time.Duration
			hop                 bool
		}{
			{0, 0, time.Second, false},
			{5 * time.Second, 0, 5 * time.Second, false},
			{300 * time.Millisecond, 0, 300 * time.Millisecond, false},
			{5 * time.Second, 3 * time.Second, 3 * time.Second, false},
			{0, 3 * time.Second, 2 * time.Second, false},
			{-time.Second, 0, time.Second, false}, // nothing asked
			{5 * time.Second, 4 * time.Second, 3800 * time.Millisecond, true},
		} {
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			if tt.caller > 0 {
				ctx, cancel = context.WithTimeout(ctx, tt.caller)
			}
			call := func(ctx context.Context, _ any) (any, error) { return c.call(ctx, get, steady.Timeout(tt.asked)) }
			if tt.hop {
				_, err = server(ctx, &req{}, &grpc.UnaryServerInfo{FullMethod: get}, call)
			} else {
				_, err = call(ctx, nil)
			}
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			if got := s.attempts()[i].deadline; got != tt.want {
				t.Errorf("asked %v, caller %v, in a server call %v: %v, want %v", tt.asked, tt.caller, tt.hop, got, tt.want)
			}
		}
	})
}
