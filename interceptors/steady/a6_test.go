package steady_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// step is how a server ends one attempt.
type step struct {
	code     codes.Code
	pushback []string // values of grpc-retry-pushback-ms
	header   bool     // a header comes first
}

// steps is a server that ends its first attempts as planned, those of calls and those of streams, and notes when
// they came and how many were said to have gone before. The rest is answered.
type steps struct {
	plan []step

	mu       sync.Mutex
	at       []time.Duration
	previous []string
	start    time.Time
}

func (s *steps) next(ctx context.Context) *step {
	s.mu.Lock()
	defer s.mu.Unlock()
	md, _ := metadata.FromIncomingContext(ctx)
	s.at = append(s.at, time.Since(s.start))
	s.previous = append(s.previous, strings.Join(md["grpc-previous-rpc-attempts"], ","))
	if n := len(s.at); n <= len(s.plan) {
		return &s.plan[n-1]
	}
	return nil
}

func (s *step) trailer() metadata.MD { return metadata.MD{"grpc-retry-pushback-ms": s.pushback} }

func (s *step) end() error {
	if s.code == codes.OK {
		return nil
	}
	return status.Error(s.code, "as planned")
}

func (s *steps) unary(ctx context.Context, in any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	step := s.next(ctx)
	if step == nil {
		return next(ctx, in)
	}
	if step.header {
		if err := grpc.SendHeader(ctx, metadata.Pairs("k", "v")); err != nil {
			return nil, err
		}
	}
	if err := grpc.SetTrailer(ctx, step.trailer()); err != nil {
		return nil, err
	}
	if step.code == codes.OK {
		return next(ctx, in)
	}
	return nil, step.end()
}

func (s *steps) stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	step := s.next(ss.Context())
	if step == nil {
		return next(srv, ss)
	}
	ss.SetTrailer(step.trailer())
	if step.header {
		if err := ss.SendHeader(metadata.Pairs("k", "v")); err != nil {
			return err
		}
	}
	if step.code == codes.OK {
		return next(srv, ss)
	}
	return step.end()
}

// TestA6 is gRFC A6, "client retries", for calls and for streams of every kind: which attempts follow, and when.
// Backoff is without jitter, 100 ms and doubling. Where a server has sent a header before it failed, A6 does not
// retry; here an attempt owns its header, and only what the application has got of it counts.
func TestA6(t *testing.T) {
	const ms = time.Millisecond
	fail := func(n int, code codes.Code) []step { return slices.Repeat([]step{{code: code}}, n) }
	push := func(values ...string) step { return step{code: codes.Unavailable, pushback: values} }
	for _, tt := range []struct {
		name string
		plan []step
		most int // MaxAttempts; 0: 5
		on   []codes.Code
		want []time.Duration
		code codes.Code
	}{
		{"no failure", nil, 0, nil, []time.Duration{0}, codes.OK},
		{"one", fail(1, codes.Unavailable), 0, nil, []time.Duration{0, 100 * ms}, codes.OK},
		{"as many as there are", fail(4, codes.Unavailable), 0, nil, []time.Duration{0, 100 * ms, 300 * ms, 700 * ms, 1500 * ms}, codes.OK},
		{"one too many", fail(5, codes.Unavailable), 0, nil, []time.Duration{0, 100 * ms, 300 * ms, 700 * ms, 1500 * ms}, codes.Unavailable},
		{"fewer attempts", fail(9, codes.Unavailable), 2, nil, []time.Duration{0, 100 * ms}, codes.Unavailable},
		{"one attempt", fail(9, codes.Unavailable), 1, nil, []time.Duration{0}, codes.Unavailable},

		{"not retryable", fail(1, codes.FailedPrecondition), 0, nil, []time.Duration{0}, codes.FailedPrecondition},
		{"not retryable any more", append(fail(2, codes.Unavailable), step{code: codes.FailedPrecondition}), 0, nil, []time.Duration{0, 100 * ms, 300 * ms}, codes.FailedPrecondition},
		{"codes of the rule", []step{{code: codes.Aborted}, {code: codes.Unknown}}, 0, []codes.Code{codes.Aborted, codes.Unknown}, []time.Duration{0, 100 * ms, 300 * ms}, codes.OK},
		{"codes of the rule replace", fail(1, codes.Unavailable), 0, []codes.Code{codes.Aborted}, []time.Duration{0}, codes.Unavailable},

		{"pushback of nothing", []step{push("0")}, 0, nil, []time.Duration{0, 0}, codes.OK},
		{"pushback", []step{push("250"), push("30")}, 0, nil, []time.Duration{0, 250 * ms, 280 * ms}, codes.OK},
		{"pushback begins the backoff anew", append(append(fail(2, codes.Unavailable), push("10")), fail(1, codes.Unavailable)...), 0, nil,
			[]time.Duration{0, 100 * ms, 300 * ms, 310 * ms, 410 * ms}, codes.OK},
		{"pushback above max backoff", []step{push("5000")}, 0, nil, []time.Duration{0, 5000 * ms}, codes.OK},
		{"pushback makes no more attempts", slices.Repeat([]step{push("1")}, 9), 3, nil, []time.Duration{0, ms, 2 * ms}, codes.Unavailable},
		{"pushback on another code", []step{{code: codes.FailedPrecondition, pushback: []string{"1"}}}, 0, nil, []time.Duration{0}, codes.FailedPrecondition},
		{"pushback on a success", []step{{code: codes.OK, pushback: []string{"1"}}}, 0, nil, []time.Duration{0}, codes.OK},
		{"stop on a success", []step{{code: codes.OK, pushback: []string{"-1"}}}, 0, nil, []time.Duration{0}, codes.OK},
		{"negative", []step{push("-1")}, 0, nil, []time.Duration{0}, codes.Unavailable},
		{"negative later", append(fail(1, codes.Unavailable), push("-5")), 0, nil, []time.Duration{0, 100 * ms}, codes.Unavailable},
		{"no number", []step{push("soon")}, 0, nil, []time.Duration{0}, codes.Unavailable},
		{"empty", []step{push("")}, 0, nil, []time.Duration{0}, codes.Unavailable},
		{"a fraction", []step{push("1.5")}, 0, nil, []time.Duration{0}, codes.Unavailable},
		{"hexadecimal", []step{push("0x10")}, 0, nil, []time.Duration{0}, codes.Unavailable},
		{"too large a number", []step{push("18446744073709551616")}, 0, nil, []time.Duration{0}, codes.Unavailable},
		{"two values", []step{push("1", "1")}, 0, nil, []time.Duration{0}, codes.Unavailable},

		{"a header first", []step{{code: codes.Unavailable, header: true}}, 0, nil, []time.Duration{0, 100 * ms}, codes.OK},
	} {
		for _, kind := range []string{"unary", "server", "client", "bidi"} {
			t.Run(tt.name+" "+kind, func(t *testing.T) {
				steadytest.Run(t, func(t *testing.T) {
					s := &steps{plan: tt.plan, start: time.Now()}
					fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.stream)))
					most := tt.most
					if most == 0 {
						most = 5
					}
					rec := new(recorder)
					out := outbound(t, []steady.Rule{{
						Methods: []string{"/steady.echo.v1.Echo/"}, Idempotent: true, RetryOn: tt.on,
						Retry: &retry.Config{MaxAttempts: most, InitialBackoff: 100 * ms, Jitter: retry.NoJitter},
					}}, wide, steady.WithObserver(rec))
					err := playKind(within(t, time.Minute), echov1.NewEchoClient(dial(fleet, out)), kind)
					wantCode(t, err, tt.code)
					if !slices.Equal(s.at, tt.want) {
						t.Errorf("attempts at %v, want %v", s.at, tt.want)
					}
					for i, previous := range s.previous {
						if want := strings.TrimPrefix(fmt.Sprint(i), "0"); previous != want {
							t.Errorf("attempt %d said %q, want %q", i+1, previous, want)
						}
					}
					ended := of[steady.CallEnded](rec)
					if len(ended) != 1 || ended[0].Code != tt.code || ended[0].Attempts != len(tt.want) {
						t.Errorf("told %+v", ended)
					}
				})
			})
		}
	}
}

// playKind makes one call of a kind, or plays one stream to its end.
func playKind(ctx context.Context, client echov1.EchoClient, kind string) error {
	if kind == "unary" {
		_, err := client.Get(ctx, &req{Text: "x"})
		return err
	}
	_, err := talk(ctx, client, kind)
	return err
}

// TestA6MaxAttempts: more than five are an error in a rule, where gRPC clamps them, and clamped in a call's option.
func TestA6MaxAttempts(t *testing.T) {
	_, err := steady.NewOutbound([]steady.Rule{{Methods: []string{""}, Retry: &retry.Config{MaxAttempts: 6}}})
	if err == nil || !strings.Contains(err.Error(), "MaxAttempts: 6") {
		t.Errorf("%v, want it to name field and value", err)
	}
	for _, kind := range []string{"unary", "server", "client", "bidi"} {
		steadytest.Run(t, func(t *testing.T) {
			s := &steps{plan: slices.Repeat([]step{{code: codes.Unavailable}}, 99), start: time.Now()}
			fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.stream)))
			client := echov1.NewEchoClient(dial(fleet, outbound(t, streamRule(), wide), grpc.WithDefaultCallOptions(steady.MaxAttempts(99))))
			wantCode(t, playKind(within(t, time.Minute), client, kind), codes.Unavailable)
			if len(s.at) != 5 {
				t.Errorf("%s: %d attempts, want 5", kind, len(s.at))
			}
		})
	}
}

// TestA6Throttling: retries are bounded for a whole channel, calls and streams together, and by the failures of
// all. A6 counts tokens, we a share of the calls; what is the same is that a server that is down gets little more
// than its calls, and that one that answers is retried again.
func TestA6Throttling(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		kinds := []string{"unary", "server", "client", "bidi"}
		s := &steps{plan: slices.Repeat([]step{{code: codes.Unavailable}}, 30), start: time.Now()}
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.stream)))
		out := outbound(t, streamRule(), steady.WithRetryBudget(retry.BudgetConfig{Ratio: 0.5, MinPerSecond: -1}))
		client := echov1.NewEchoClient(dial(fleet, out))
		for i := range 20 {
			wantCode(t, playKind(within(t, time.Minute), client, kinds[i%len(kinds)]), codes.Unavailable)
		}
		if len(s.at) != 30 {
			t.Errorf("%d attempts of 20 calls, want half as many more", len(s.at))
		}
		time.Sleep(time.Minute) // what is long ago is forgotten
		for i := range 8 {
			if err := playKind(within(t, time.Minute), client, kinds[i%len(kinds)]); err != nil {
				t.Fatal(err)
			}
		}
		s.mu.Lock()
		s.plan = append(slices.Repeat([]step{{}}, len(s.at)), step{code: codes.Unavailable})
		s.mu.Unlock()
		if err := playKind(within(t, time.Minute), client, "bidi"); err != nil {
			t.Errorf("%v, want a retry", err)
		}
	})
}
