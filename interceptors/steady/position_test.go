package steady_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// retriesOfGRPC is a service config under which gRPC itself makes four attempts.
const retriesOfGRPC = `{"loadBalancingConfig":[{"round_robin":{}}],"methodConfig":[{"name":[{}],"retryPolicy":{
	"maxAttempts":4,"initialBackoff":"0.01s","maxBackoff":"0.1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]}`

// TestDialOptionsSwitchGRPCsRetriesOff, or three attempts of ours would be twelve.
func TestDialOptionsSwitchGRPCsRetriesOff(t *testing.T) {
	for _, tt := range []struct {
		name  string
		rules []steady.Rule
		plain bool // without our options
		want  int
	}{
		{"plain gRPC", nil, true, 4}, // the config does what it says
		{"no rule", nil, false, 1},
		{"a rule", retryRule("/steady.echo.v1.Echo/"), false, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
				fleet.Behave(steadytest.Failing(codes.Unavailable, 1))
				opts := []grpc.DialOption{grpc.WithDefaultServiceConfig(retriesOfGRPC)}
				if !tt.plain {
					opts = outbound(t, tt.rules, wide).DialOptions(opts...)
				}
				_, err := echov1.NewEchoClient(fleet.Dial(opts...)).Get(within(t, time.Minute), &req{})
				wantCode(t, err, codes.Unavailable)
				if n := fleet.Count()["a"]; n != tt.want {
					t.Errorf("%d attempts, want %d", n, tt.want)
				}
			})
		})
	}
}

// begins counts what a stats handler is told of.
type begins struct {
	mu   sync.Mutex
	n    int
	ends int
}

func (b *begins) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (b *begins) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (b *begins) HandleConn(context.Context, stats.ConnStats)                       {}
func (b *begins) HandleRPC(_ context.Context, s stats.RPCStats) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch s.(type) {
	case *stats.Begin:
		b.n++
	case *stats.End:
		b.ends++
	}
}

// TestStatsHandlersSeeAttempts, wherever among the options they stand: a tracer makes three client spans of a call
// of three attempts.
func TestStatsHandlersSeeAttempts(t *testing.T) {
	for _, inside := range []bool{false, true} {
		t.Run(fmt.Sprint("inside=", inside), func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
				fleet.Behave(steadytest.Failing(codes.Unavailable, 1))
				handler := new(begins)
				out := outbound(t, retryRule("/steady.echo.v1.Echo/"), wide)
				opts := out.DialOptions(grpc.WithStatsHandler(handler))
				if inside {
					opts = append(out.DialOptions(), grpc.WithStatsHandler(handler))
				}
				_, err := echov1.NewEchoClient(fleet.Dial(opts...)).Get(within(t, time.Minute), &req{})
				wantCode(t, err, codes.Unavailable)
				handler.mu.Lock()
				defer handler.mu.Unlock()
				if handler.n != 3 || handler.ends != 3 {
					t.Errorf("%d begun, %d ended, want 3 attempts", handler.n, handler.ends)
				}
			})
		})
	}
}

// TestEveryObserverIsTold the same, in the order in which they were given.
func TestEveryObserverIsTold(t *testing.T) {
	var order []string
	note := func(name string) steady.Option {
		return steady.WithObserver(steady.ObserverFunc(func(e steady.Event) {
			if _, ok := e.(*steady.CallEnded); ok {
				order = append(order, name)
			}
		}))
	}
	rec, again := new(recorder), new(recorder)
	c := newClient(t, always(answer{from: "a"}), nil, note("first"), steady.WithObserver(rec), note("second"), steady.WithObserver(again))
	if _, err := c.call(t.Context(), get); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(order) != "[first second]" || len(rec.events) != len(again.events) || len(rec.events) < 2 {
		t.Errorf("told in order %v, %d and %d events", order, len(rec.events), len(again.events))
	}
}
