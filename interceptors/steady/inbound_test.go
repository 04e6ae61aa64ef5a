package steady_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// TestInboundDeadlineByMode: a handler gets the default or the cap, which ends a call that takes longer; a rule that
// only observes tells when that would have been, and one that is off does not even look.
func TestInboundDeadlineByMode(t *testing.T) {
	limits := &deadline.Config{Default: time.Second, Max: 2 * time.Second}
	for _, tt := range []struct {
		name   string
		mode   steady.Mode
		caller time.Duration // 0: no deadline
		left   time.Duration // what the handler has; 0: no limit
		took   time.Duration // a call that takes 5 s
		cuts   int
	}{
		{"default", steady.ModeEnforce, 0, time.Second, time.Second, 1},
		{"cap", steady.ModeEnforce, time.Minute, 2 * time.Second, 2 * time.Second, 1},
		{"the caller's own is tighter", steady.ModeEnforce, 500 * time.Millisecond, 500 * time.Millisecond, 500 * time.Millisecond, 0},
		{"default, observed", steady.ModeObserve, 0, 0, 5 * time.Second, 1},
		{"cap, observed", steady.ModeObserve, time.Minute, time.Minute, 5 * time.Second, 1},
		{"off", steady.ModeOff, 0, 0, 5 * time.Second, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				rec := new(recorder)
				in, err := steady.NewInbound([]steady.Rule{{Methods: []string{""}, Mode: tt.mode, Deadline: limits}}, steady.WithObserver(rec))
				if err != nil {
					t.Fatal(err)
				}
				unary, _ := in.Interceptors()
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if tt.caller > 0 {
					ctx, cancel = context.WithTimeout(ctx, tt.caller)
				}
				defer cancel()
				start := time.Now()
				_, _ = unary(ctx, &req{}, &grpc.UnaryServerInfo{FullMethod: get}, func(ctx context.Context, _ any) (any, error) {
					left := time.Duration(0)
					if d, ok := ctx.Deadline(); ok {
						left = time.Until(d)
					}
					if left != tt.left {
						t.Errorf("the handler has %v, want %v", left, tt.left)
					}
					timer := time.NewTimer(5 * time.Second)
					defer timer.Stop()
					select {
					case <-timer.C:
					case <-ctx.Done():
					}
					return &reply{}, ctx.Err()
				})
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				cuts := of[steady.DeadlineCut](rec)
				if len(cuts) != tt.cuts {
					t.Fatalf("%d cuts told, want %d", len(cuts), tt.cuts)
				}
				for _, c := range cuts {
					want := limits.Default
					if tt.caller > 0 {
						want = limits.Max
					}
					if c.WouldHave != (tt.mode == steady.ModeObserve) || c.At.Sub(start) != want || c.Limit != want || c.Method != get {
						t.Errorf("%+v after %v", c, c.At.Sub(start))
					}
				}
			})
		})
	}
}

// TestInboundLeavesStreamsAlone: neither default nor cap is for them.
func TestInboundLeavesStreamsAlone(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		in, err := steady.NewInbound([]steady.Rule{{Methods: []string{""}, Deadline: &deadline.Config{Default: time.Second, Max: time.Second}}})
		if err != nil {
			t.Fatal(err)
		}
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(in.ServerOptions()...))
		s, err := echov1.NewEchoClient(fleet.Dial()).Chat(within(t, time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			sendAll(t, s, &req{Text: "x"}, 1)
			if _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
	})
}

// TestAnInboundThatOnlyObservesStopsNobody: the word to the layer above is part of what a rule does.
func TestAnInboundThatOnlyObservesStopsNobody(t *testing.T) {
	for mode, want := range map[steady.Mode]int{steady.ModeEnforce: 1, steady.ModeObserve: 3, steady.ModeOff: 3} {
		t.Run(mode.String(), func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				net := steadytest.NewNetwork()
				t.Cleanup(net.Close)
				backend := steadytest.NewFleet(t, steadytest.OnNetwork(net), steadytest.Replicas("backend"))
				backend.Behave(steadytest.Failing(codes.Unavailable, 1))
				conn := dial(backend, outbound(t, retryRule("/steady.echo.v1.Echo/"), wide))
				in, err := steady.NewInbound([]steady.Rule{{Methods: []string{""}, Mode: mode}})
				if err != nil {
					t.Fatal(err)
				}
				middle := steadytest.NewFleet(t, steadytest.OnNetwork(net), steadytest.Replicas("middle"), steadytest.ServerOptions(in.ServerOptions()...))
				middle.Behave(func(ctx context.Context, call steadytest.Call) error {
					_, err := echov1.NewEchoClient(conn).Get(ctx, &req{})
					return err
				})
				client := dial(middle, outbound(t, retryRule("/steady.echo.v1.Echo/"), wide))
				_, err = echov1.NewEchoClient(client).Get(within(t, 20*time.Second), &req{})
				wantCode(t, err, codes.Unavailable)
				if n := middle.Count()["middle"]; n != want {
					t.Errorf("the middle was called %d times, want %d", n, want)
				}
			})
		})
	}
}

// TestTheReserveIsKeptBackFromTheCap: what the server's own rule cut is the budget of the calls below.
func TestTheReserveIsKeptBackFromTheCap(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		s := always(answer{from: "a"})
		c := newClient(t, s, []steady.Rule{{Methods: []string{""}, Deadline: &deadline.Config{}}})
		in, err := steady.NewInbound([]steady.Rule{{Methods: []string{""}, Deadline: &deadline.Config{Default: time.Second, Max: 2 * time.Second}}})
		if err != nil {
			t.Fatal(err)
		}
		server, _ := in.Interceptors()
		for i, tt := range []struct {
			ctx  context.Context
			want time.Duration
		}{{within(t, time.Minute), 1900 * time.Millisecond}, {t.Context(), 950 * time.Millisecond}} {
			_, err := server(tt.ctx, &req{}, &grpc.UnaryServerInfo{FullMethod: get}, func(ctx context.Context, _ any) (any, error) { return c.call(ctx, get) })
			if err != nil {
				t.Fatal(err)
			}
			if got := s.attempts()[i].deadline; got != tt.want {
				t.Errorf("the call below got %v, want %v", got, tt.want)
			}
		}
	})
}
