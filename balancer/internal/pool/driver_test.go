package pool_test

import (
	"context"
	"fmt"
	"strings"
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

	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// These tests hold picker and driver together.

// wideOpen is a budget that grants every retry.
var wideOpen = retry.BudgetConfig{Ratio: 10, MinPerSecond: 1000, MaxRatio: 10}

func driver(t *testing.T, rule steady.Rule, opts ...steady.Option) []grpc.DialOption {
	t.Helper()
	rule.Methods, rule.Idempotent = []string{""}, true
	out, err := steady.NewOutbound([]steady.Rule{rule}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return out.DialOptions()
}

// burst makes calls all at once, and returns how many failed.
func burst(t *testing.T, conn *grpc.ClientConn, n int) (failed int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var lost atomic.Int64
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if err := steadytest.Get(conn)(ctx, 0); err != nil {
				lost.Add(1)
			}
		})
	}
	wg.Wait()
	return lost.Load()
}

// sickness is one of the two ways to fail of the tests below.
var sickness = []struct {
	name    string
	servers []string
	script  steadytest.Script
	rule    steady.Rule
}{
	{"one of two fails", []string{"a", "b"}, steadytest.Failing(codes.Unavailable, 1), steady.Rule{Retry: &retry.Config{MaxAttempts: 2}}},
	{"one of three hangs", []string{"a", "b", "c"}, steadytest.Hanging(1), steady.Rule{
		Retry: &retry.Config{MaxAttempts: 3}, Deadline: &deadline.Config{AttemptTimeout: 100 * time.Millisecond},
	}},
}

// A retry goes elsewhere: with a budget that grants it, no call fails.
func TestRetryGoesElsewhere(t *testing.T) {
	for _, s := range sickness {
		for _, policy := range policies {
			for _, config := range []string{`{}`, `{"ejection":{"mode":"off"}}`} {
				if config != `{}` && policy == consistentHash {
					continue // without keys it is least request
				}
				steadytest.Run(t, func(t *testing.T) {
					b := newBed(t, s.servers)
					b.Behave(steadytest.Slow(10 * time.Millisecond))
					b.Replica("a").Behave(s.script)
					conn := b.connected(serviceConfig(policy, config), driver(t, s.rule, steady.WithRetryBudget(wideOpen))...)
					if lost := burst(t, conn, 2000); lost != 0 {
						t.Errorf("%s, %s %s: %d of 2000 calls failed", s.name, policy, config, lost)
					}
					synctest.Wait()
					most := 2000 * s.rule.Retry.MaxAttempts
					if n := len(b.Calls()); n > most || n <= 2000 {
						t.Errorf("%s, %s: %d attempts for 2000 calls", s.name, policy, n)
					}
					b.quiet()
				})
			}
		}
	}
}

// With the default budget the burst loses calls, and once the sick one is ejected nothing is lost.
func TestDefaultBudgetLosesOnlyTheFirstSeconds(t *testing.T) {
	for _, s := range sickness {
		steadytest.Run(t, func(t *testing.T) {
			b := newBed(t, s.servers)
			b.Behave(steadytest.Slow(10 * time.Millisecond))
			b.Replica("a").Behave(s.script)
			conn := b.connected(serviceConfig(leastRequest, `{}`), driver(t, s.rule)...)
			lost := burst(t, conn, 2000)
			r := load(t, conn, 100, 20*time.Second)
			t.Logf("%s: %d of a burst of 2000 calls are lost, then %v", s.name, lost, r)
			if late := r.Between(2*time.Second, 20*time.Second); late.Availability() != 1 {
				t.Errorf("%s: after the first seconds %v", s.name, late)
			}
		})
		steadytest.Run(t, func(t *testing.T) {
			b := newBed(t, s.servers)
			b.Behave(steadytest.Slow(10 * time.Millisecond))
			conn := b.connected(serviceConfig(leastRequest, `{}`), driver(t, s.rule)...)
			load(t, conn, 100, 10*time.Second)
			b.Replica("a").Behave(s.script)
			r := load(t, conn, 100, 20*time.Second)
			t.Logf("%s, in the middle of 100 calls a second: %v", s.name, r)
			if late := r.Between(2*time.Second, 20*time.Second); late.Availability() != 1 {
				t.Errorf("%s: after the first seconds %v", s.name, late)
			}
		})
	}
}

// When all endpoints were tried, another attempt still goes out.
func TestAvoidanceIsSoft(t *testing.T) {
	for _, policy := range policies {
		for _, servers := range [][]string{{"a"}, {"a", "b"}, {"a", "b", "c"}} {
			steadytest.Run(t, func(t *testing.T) {
				b := newBed(t, servers)
				var n atomic.Int64
				b.Behave(func(context.Context, steadytest.Call) error { // the fifth attempt succeeds
					if n.Add(1) < 5 {
						return status.Error(codes.Unavailable, "not yet")
					}
					return nil
				})
				conn := b.connected(serviceConfig(policy, `{}`), driver(t, steady.Rule{Retry: &retry.Config{MaxAttempts: 5}}, steady.WithRetryBudget(wideOpen))...)
				if err := one(t, conn); err != nil {
					t.Fatalf("%s over %v: %v", policy, servers, err)
				}
				// Nobody is tried again before everybody was tried once.
				seen := map[string]int{}
				for i, c := range b.Calls() {
					if seen[c.Replica] > 0 && i < len(servers) {
						t.Errorf("%s over %v: attempt %d goes to %s again", policy, servers, i+1, c.Replica)
					}
					seen[c.Replica]++
				}
			})
		}
	}
}

func TestPushbackBiasesThePicker(t *testing.T) {
	share := func(t *testing.T, pushback string) (first, later int) {
		b := newBed(t, []string{"a", "b", "c"})
		b.Behave(steadytest.Slow(time.Millisecond))
		conn := b.connected(serviceConfig(leastRequest, `{"ejection":{"mode":"off"}}`), driver(t, steady.Rule{Retry: &retry.Config{MaxAttempts: 2}})...)
		b.Replica("b").Behave(steadytest.InTurn(func(ctx context.Context, _ steadytest.Call) error {
			_ = grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", pushback))
			return status.Error(codes.Unavailable, "busy")
		}, steadytest.Slow(time.Millisecond)))
		for b.Replica("b").Count() == 0 {
			_ = one(t, conn)
		}
		b.Forget()
		load(t, conn, 20, 60*time.Second)
		first = b.Replica("b").Count()
		time.Sleep(60 * time.Second)
		b.Forget()
		load(t, conn, 30, 10*time.Second)
		return first, b.Replica("b").Count()
	}
	steadytest.Run(t, func(t *testing.T) {
		if first, later := share(t, "60000"); first != 0 || later < 55 || later > 145 {
			t.Errorf("%d calls within the 60 s that b asked for, then %d of 300", first, later)
		}
	})
	steadytest.Run(t, func(t *testing.T) {
		if first, later := share(t, "1"); first < 50 || later < 55 || later > 145 {
			t.Errorf("%d of 1200 calls within 60 s after a pushback of 1 ms, then %d of 300", first, later)
		}
	})
}

// watcher notes the verdicts of attempts.
type watcher struct {
	mu       sync.Mutex
	verdicts []steady.Verdict
}

func (w *watcher) Observe(e steady.Event) {
	if a, ok := e.(*steady.AttemptEnded); ok {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.verdicts = append(w.verdicts, a.Verdict)
	}
}

// What the picker counts is what the driver has judged, call by call.
func TestPickerAndDriverAgree(t *testing.T) {
	const success, failure, nothing = "success", "failure", "nothing"
	answer := func(code codes.Code) steadytest.Script { return steadytest.Failing(code, 1) }
	pushed := func(ctx context.Context, _ steadytest.Call) error {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", "5"))
		return status.Error(codes.ResourceExhausted, "busy")
	}
	get := func(ctx context.Context, c echov1.EchoClient) { _, _ = c.Get(ctx, &echov1.EchoRequest{}) }
	put := func(ctx context.Context, c echov1.EchoClient) { _, _ = c.Put(ctx, &echov1.EchoRequest{}) }
	post := func(ctx context.Context, c echov1.EchoClient) { _, _ = c.Post(ctx, &echov1.EchoRequest{}) }
	list := func(ctx context.Context, c echov1.EchoClient) {
		s, err := c.Chat(ctx)
		if err != nil {
			return
		}
		for range 3 {
			_ = s.Send(&echov1.EchoRequest{})
			if _, err := s.Recv(); err != nil {
				return
			}
		}
		_ = s.CloseSend()
		_, _ = s.Recv()
	}
	for _, tt := range []struct {
		name    string
		script  steadytest.Script
		call    func(context.Context, echov1.EchoClient)
		verdict steady.Verdict
		want    string
	}{
		{"ok", nil, get, steady.VerdictSuccess, success},
		{"NOT_FOUND", answer(codes.NotFound), get, steady.VerdictSuccess, success},
		{"UNAVAILABLE", answer(codes.Unavailable), get, steady.VerdictFailure, failure},
		{"INTERNAL", answer(codes.Internal), get, steady.VerdictFailure, failure},
		{"DATA_LOSS", answer(codes.DataLoss), get, steady.VerdictFailure, failure},
		{"UNKNOWN", answer(codes.Unknown), get, steady.VerdictSuspect, failure},
		{"RESOURCE_EXHAUSTED", answer(codes.ResourceExhausted), get, steady.VerdictNothing, nothing},
		{"RESOURCE_EXHAUSTED with pushback", pushed, get, steady.VerdictFailure, failure},
		{"FailOn: NOT_FOUND fails", answer(codes.NotFound), put, steady.VerdictFailure, failure},
		{"FailOn: UNAVAILABLE is none", answer(codes.Unavailable), put, steady.VerdictSuccess, success},
		{"classifier", nil, post, steady.VerdictFailure, failure},
		{"the caller cancels", steadytest.Hanging(1), func(ctx context.Context, c echov1.EchoClient) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(50*time.Millisecond, cancel)
			get(ctx, c)
		}, steady.VerdictNothing, nothing},
		{"the caller has no time", steadytest.Hanging(1), func(ctx context.Context, c echov1.EchoClient) {
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			get(ctx, c)
		}, steady.VerdictNothing, nothing},
		{"the attempt has time enough", steadytest.Hanging(1), get, steady.VerdictFailure, failure},
		{"too large to send", nil, func(ctx context.Context, c echov1.EchoClient) {
			_, _ = c.Get(ctx, &echov1.EchoRequest{Text: strings.Repeat("x", 100)}, grpc.MaxCallSendMsgSize(10))
		}, steady.VerdictNothing, nothing},
		{"too large to receive", nil, func(ctx context.Context, c echov1.EchoClient) {
			_, _ = c.Get(ctx, &echov1.EchoRequest{Text: strings.Repeat("x", 100)}, grpc.MaxCallRecvMsgSize(10))
		}, steady.VerdictNothing, nothing},
		{"stream", nil, list, steady.VerdictSuccess, success},
		{"stream that fails at once", answer(codes.Unavailable), list, steady.VerdictFailure, failure},
		{"stream that breaks", steadytest.Breaking(codes.Unavailable, 1), list, steady.VerdictNothing, failure},
	} {
		steadytest.Run(t, func(t *testing.T) {
			b := newBed(t, []string{"a"})
			w := new(watcher)
			out, err := steady.NewOutbound([]steady.Rule{
				{Methods: []string{""}, Deadline: &deadline.Config{AttemptTimeout: 200 * time.Millisecond}},
				{Methods: []string{"/steady.echo.v1.Echo/Put"}, FailOn: []codes.Code{codes.NotFound}},
				{Methods: []string{"/steady.echo.v1.Echo/Post"}},
			}, steady.WithObserver(w), steady.WithClassifier(func(method string, _ any, _ error) steady.Verdict {
				if strings.HasSuffix(method, "/Post") {
					return steady.VerdictFailure
				}
				return steady.VerdictDefault
			}))
			if err != nil {
				t.Fatal(err)
			}
			conn := b.connected(serviceConfig(weighted, `{"ejection":{"window":"3600s"}}`), out.DialOptions()...)
			b.Replica("a").Behave(tt.script)
			for range 7 {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				tt.call(ctx, echov1.NewEchoClient(conn))
				cancel()
				synctest.Wait()
			}
			if len(w.verdicts) != 7 {
				t.Fatalf("%s: %d attempts, want 7", tt.name, len(w.verdicts))
			}
			for _, v := range w.verdicts {
				if v != tt.verdict {
					t.Errorf("%s: the driver says %v, want %v", tt.name, v, tt.verdict)
				}
			}
			e := b.of("a")
			got := fmt.Sprintf("%d calls, %d failures, %.0f %% good", e.Calls, e.Failures, 100*e.Success)
			want := map[string]string{
				success: "7 calls, 0 failures, 100 % good", failure: "7 calls, 7 failures, 0 % good", nothing: "0 calls, 0 failures, 100 % good",
			}[tt.want]
			if got != want || e.Picks != 7 {
				t.Errorf("%s: the picker says %s, want %s; %d picks", tt.name, got, want, e.Picks)
			}
			b.quiet()
		})
	}
}

// gRPC's own words for errors that it makes here, without a driver.
func TestMessagesThatCanNotBeSent(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b"})
		conn := b.connected(serviceConfig(weighted, `{}`))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		for range 20 {
			err := conn.Invoke(ctx, "/steady.echo.v1.Echo/Get", "no message", new(echov1.EchoResponse))
			if status.Code(err) != codes.Internal {
				t.Fatalf("%v", err)
			}
			err = conn.Invoke(ctx, "/steady.echo.v1.Echo/Get", new(echov1.EchoRequest), "no message")
			if status.Code(err) != codes.Internal {
				t.Fatalf("%v", err)
			}
		}
		if got := b.told(); len(got) != 0 || b.of("a").Failures != 0 {
			t.Errorf("told %v; %+v", got, b.of("a"))
		}
		b.quiet()
	})
}
