package steady_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// These tests run on real gRPC clients and servers over pipes in memory, under virtual time.

func outbound(t *testing.T, rules []steady.Rule, opts ...steady.Option) *steady.Outbound {
	t.Helper()
	out, err := steady.NewOutbound(rules, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func dial(f *steadytest.Fleet, out *steady.Outbound, opts ...grpc.DialOption) *grpc.ClientConn {
	return f.Dial(append(out.DialOptions(), opts...)...)
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestRealCrashOfOneHostOfFive(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a", "b", "c", "d", "e"))
		out := outbound(t, breakerRule(countOnly))
		conn := dial(fleet, out)
		(steadytest.Load{Rate: 100, For: 2 * time.Second, Call: steadytest.Get(conn)}).Run(t.Context())
		fleet.Behave(steadytest.Slow(time.Second))
		var failed atomic.Int64
		var wg sync.WaitGroup
		ctx := within(t, 10*time.Second)
		for range 500 { // a hundred on each
			wg.Go(func() {
				if _, err := echov1.NewEchoClient(conn).Get(ctx, &req{}); err != nil {
					failed.Add(1)
				}
			})
		}
		time.Sleep(500 * time.Millisecond)
		fleet.Replica("a").Crash()
		wg.Wait()
		if failed.Load() < 90 {
			t.Fatalf("%d calls failed, the test wants a hundred in flight at the crash", failed.Load())
		}
		if got := state(t, out); got != breaker.Closed {
			t.Errorf("breaker %v after one host of five crashed, want closed", got)
		}
		// A dead service is another matter.
		for _, r := range fleet.Replicas() {
			r.Crash()
		}
		for range 5 {
			_, _ = echov1.NewEchoClient(conn).Get(within(t, time.Second), &req{})
		}
		if got := state(t, out); got != breaker.Open {
			t.Errorf("breaker %v after the whole service died, want open", got)
		}
	})
}

func TestRealRetryGoesOn(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a", "b"))
		fleet.Replica("a").Behave(steadytest.Failing(codes.Unavailable, 1))
		rec := new(recorder)
		out := outbound(t, retryRule("/steady.echo.v1.Echo/"), wide, steady.WithObserver(rec))
		conn := dial(fleet, out)
		result := (steadytest.Load{Rate: 50, For: 2 * time.Second, Call: steadytest.Get(conn)}).Run(t.Context())
		// Under round_robin a retry has one chance in two to meet the sick host again: 7 of 8 calls are saved.
		if result.OK < result.Calls*3/4 || result.OK == result.Calls {
			t.Errorf("%d of %d calls succeeded", result.OK, result.Calls)
		}
		for _, c := range fleet.Calls() {
			prev := c.Metadata.Get("grpc-previous-rpc-attempts")
			if len(prev) > 1 {
				t.Fatalf("previous attempts %v", prev)
			}
		}
		elsewhere := 0
		for _, e := range of[steady.CallEnded](rec) {
			elsewhere += e.Elsewhere
		}
		if elsewhere == 0 {
			t.Error("no retry was seen to go to the other host")
		}
	})
}

// TestMessageTooLargeIsOurFault: what never left this process, or could not be read here, is neither retried
// nor held against the server. It pins the texts that grpc-go gives such errors.
func TestMessageTooLargeIsOurFault(t *testing.T) {
	big := &req{Payload: bytes.Repeat([]byte("x"), 2000)}
	for _, tt := range []struct {
		name string
		opts []grpc.CallOption
		in   *req
	}{
		{"send", []grpc.CallOption{grpc.MaxCallSendMsgSize(1000)}, big},
		{"receive", []grpc.CallOption{grpc.MaxCallRecvMsgSize(1000)}, big},
		{"receive compressed", []grpc.CallOption{grpc.MaxCallRecvMsgSize(1000), grpc.UseCompressor(gzip.Name)}, big},
		{"marshal", []grpc.CallOption{grpc.ForceCodec(brokenCodec{})}, &req{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
				rules := breakerRule(countOnly)
				rules[0].Methods = []string{get}
				rules[0].Retry = &retry.Config{}
				rules[0].RetryOn = []codes.Code{codes.Internal, codes.ResourceExhausted, codes.Unavailable}
				rec := new(recorder)
				out := outbound(t, rules, wide, steady.WithObserver(rec))
				conn := dial(fleet, out)
				for range 6 {
					_, err := echov1.NewEchoClient(conn).Get(within(t, time.Second), tt.in, tt.opts...)
					if err == nil {
						t.Fatal("succeeded")
					}
				}
				for _, a := range of[steady.AttemptEnded](rec) {
					if a.Number != 1 || a.Verdict != steady.VerdictNothing {
						t.Fatalf("attempt %d, verdict %v of %v: want one attempt that counts for nothing", a.Number, a.Verdict, a.Err)
					}
				}
				if got := state(t, out); got != breaker.Closed {
					t.Errorf("breaker %v", got)
				}
			})
		})
	}
}

type brokenCodec struct{}

func (brokenCodec) Marshal(any) ([]byte, error) { return nil, errors.New("cannot marshal this") }
func (brokenCodec) Unmarshal([]byte, any) error { return errors.New("cannot unmarshal this") }
func (brokenCodec) Name() string                { return "broken" }

// TestTwoLayersNeverMultiply: client -> middle -> backend, three attempts each, everything failing. Without
// cooperation the backend sees nine calls.
func TestTwoLayersNeverMultiply(t *testing.T) {
	for _, tt := range []struct {
		name    string
		inbound bool
		script  func(n int) bool // whether the nth call of the backend fails
		middle  func(n int) bool // whether the nth call of the middle fails after a good backend
		want    int              // calls the backend may see at most
	}{
		{"with Inbound, the backend is dead", true, func(int) bool { return true }, nil, 3},
		{"the middle fails by itself", true, func(n int) bool { return n <= 2 }, func(int) bool { return true }, 3 + 3 - 1},
		{"without Inbound, the backend is dead", false, func(int) bool { return true }, nil, 3 + 3 - 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				net := steadytest.NewNetwork()
				t.Cleanup(net.Close)
				backend := steadytest.NewFleet(t, steadytest.OnNetwork(net), steadytest.Replicas("backend"))
				backend.Behave(func(_ context.Context, call steadytest.Call) error {
					if tt.script(call.Number) {
						return unavailable("backend down")
					}
					return nil
				})
				inner := outbound(t, retryRule("/steady.echo.v1.Echo/"), wide)
				conn := dial(backend, inner)
				var opts []steadytest.Option
				if tt.inbound {
					in, err := steady.NewInbound(nil)
					if err != nil {
						t.Fatal(err)
					}
					opts = append(opts, steadytest.ServerOptions(in.ServerOptions()...))
				}
				opts = append(opts, steadytest.OnNetwork(net), steadytest.Replicas("middle"))
				middle := steadytest.NewFleet(t, opts...)
				middle.Behave(func(ctx context.Context, call steadytest.Call) error {
					if _, err := echov1.NewEchoClient(conn).Get(ctx, &req{}); err != nil {
						return err
					}
					if tt.middle != nil && tt.middle(call.Number) {
						return unavailable("middle out of luck")
					}
					return nil
				})
				outer := outbound(t, retryRule("/steady.echo.v1.Echo/"), wide)
				client := dial(middle, outer)
				_, err := echov1.NewEchoClient(client).Get(within(t, 20*time.Second), &req{})
				wantCode(t, err, codes.Unavailable)
				if n := backend.Count()["backend"]; n > tt.want {
					t.Errorf("the backend saw %d calls, want at most %d", n, tt.want)
				}
				t.Logf("backend %d, middle %d: %s", backend.Count()["backend"], middle.Count()["middle"], steady.Explain(err))
			})
		})
	}
}

// TestPlainClientIsStoppedToo: the pushback of a spent server also ends the retries of plain gRPC.
func TestPlainClientIsStoppedToo(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		net := steadytest.NewNetwork()
		t.Cleanup(net.Close)
		backend := steadytest.NewFleet(t, steadytest.OnNetwork(net), steadytest.Replicas("backend"))
		backend.Behave(steadytest.Failing(codes.Unavailable, 1))
		conn := dial(backend, outbound(t, retryRule("/steady.echo.v1.Echo/"), wide))
		in, err := steady.NewInbound(nil)
		if err != nil {
			t.Fatal(err)
		}
		middle := steadytest.NewFleet(t, steadytest.OnNetwork(net), steadytest.Replicas("middle"), steadytest.ServerOptions(in.ServerOptions()...))
		middle.Behave(func(ctx context.Context, _ steadytest.Call) error {
			_, err := echov1.NewEchoClient(conn).Get(ctx, &req{})
			return err
		})
		plain := middle.Dial(grpc.WithDefaultServiceConfig(`{"methodConfig":[{"name":[{}],"retryPolicy":{
			"maxAttempts":4,"initialBackoff":"0.01s","maxBackoff":"0.1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]}`))
		_, err = echov1.NewEchoClient(plain).Get(within(t, 20*time.Second), &req{})
		wantCode(t, err, codes.Unavailable)
		if m, b := middle.Count()["middle"], backend.Count()["backend"]; m != 1 || b != 3 {
			t.Errorf("middle saw %d calls, backend %d; want 1 and 3", m, b)
		}
	})
}

// TestReserveOfAHop: outgoing calls get what is left of the incoming deadline, less a reserve.
func TestReserveOfAHop(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		net := steadytest.NewNetwork()
		t.Cleanup(net.Close)
		backend := steadytest.NewFleet(t, steadytest.OnNetwork(net), steadytest.Replicas("backend"))
		conn := dial(backend, outbound(t, []steady.Rule{{Methods: []string{""}, Deadline: &deadline.Config{}}}))
		in, err := steady.NewInbound(nil)
		if err != nil {
			t.Fatal(err)
		}
		middle := steadytest.NewFleet(t, steadytest.OnNetwork(net), steadytest.Replicas("middle"), steadytest.ServerOptions(in.ServerOptions()...))
		middle.Behave(func(ctx context.Context, _ steadytest.Call) error {
			_, err := echov1.NewEchoClient(conn).Get(ctx, &req{})
			return err
		})
		client := middle.Dial()
		for _, tt := range []struct{ give, want time.Duration }{
			{10 * time.Second, 9500 * time.Millisecond}, // 5 %
			{50 * time.Millisecond, 45 * time.Millisecond},
		} {
			backend.Forget()
			ctx, cancel := context.WithTimeout(t.Context(), tt.give)
			_, err := echov1.NewEchoClient(client).Get(ctx, &req{})
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			if got := backend.Calls()[0].Remaining; got != tt.want {
				t.Errorf("of %v the backend was given %v, want %v", tt.give, got, tt.want)
			}
		}
	})
}

func TestInboundDeadline(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		rec := new(recorder)
		in, err := steady.NewInbound([]steady.Rule{{Methods: []string{""}, Deadline: &deadline.Config{Default: time.Second, Max: 2 * time.Second}}},
			steady.WithObserver(rec))
		if err != nil {
			t.Fatal(err)
		}
		var got time.Duration
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(append(in.ServerOptions(),
			grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
				if d, ok := ctx.Deadline(); ok {
					got = time.Until(d)
				}
				return h(ctx, req)
			}))...))
		conn := fleet.Dial()
		if _, err := echov1.NewEchoClient(conn).Get(within(t, time.Minute), &req{}); err != nil || got != 2*time.Second {
			t.Errorf("%v: the handler has %v, want the cap of 2 s", err, got)
		}
	})
	for field, rule := range map[string]steady.Rule{
		"Retry":          {Methods: []string{""}, Retry: &retry.Config{}},
		"Breaker":        {Methods: []string{""}, Breaker: &breaker.Config{}},
		"FailOn":         {Methods: []string{""}, FailOn: []codes.Code{codes.Aborted}},
		"AttemptTimeout": {Methods: []string{""}, Deadline: &deadline.Config{AttemptTimeout: time.Second}},
	} {
		if _, err := steady.NewInbound([]steady.Rule{rule}); err == nil || !strings.Contains(err.Error(), "rules[0]") {
			t.Errorf("%s: %v, want an error: it has no effect on a server", field, err)
		}
	}
}

func TestHostileAttemptCounts(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		net := steadytest.NewNetwork()
		t.Cleanup(net.Close)
		backend := steadytest.NewFleet(t, steadytest.OnNetwork(net), steadytest.Replicas("backend"))
		backend.Behave(steadytest.Failing(codes.Unavailable, 1))
		conn := dial(backend, outbound(t, []steady.Rule{{Methods: []string{""}, Retry: &retry.Config{
			InitialBackoff: time.Millisecond, Jitter: retry.NoJitter,
		}}}, wide))
		for _, tt := range []struct {
			trust bool
			sent  []string
			want  int
		}{
			{true, nil, 3},
			{true, []string{"1"}, 1},
			{true, []string{"0"}, 3},
			{true, []string{"-5"}, 3},
			{true, []string{"abc"}, 3},
			{true, []string{"1e30"}, 3},
			{true, []string{"99999999999999999999"}, 3},
			{true, []string{"4294967295"}, 1},
			{false, []string{"7"}, 3},
		} {
			in, err := steady.NewInbound(nil, steady.WithTrustInbound(steady.TrustInbound{IgnoreAttempts: !tt.trust}))
			if err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprint("middle", tt)
			middle := steadytest.NewFleet(t, steadytest.OnNetwork(net), steadytest.Replicas(name), steadytest.ServerOptions(in.ServerOptions()...))
			middle.Behave(func(ctx context.Context, _ steadytest.Call) error {
				_, err := echov1.NewEchoClient(conn).Get(ctx, &req{})
				return err
			})
			backend.Forget()
			ctx := metadata.NewOutgoingContext(within(t, time.Second), metadata.MD{"grpc-previous-rpc-attempts": tt.sent})
			_, err = echov1.NewEchoClient(middle.Dial()).Get(ctx, &req{})
			wantCode(t, err, codes.Unavailable)
			if n := backend.Count()["backend"]; n != tt.want {
				t.Errorf("%v with trust %v: %d attempts, want %d", tt.sent, tt.trust, n, tt.want)
			}
		}
	})
}

// TestUpdateUnderFullLoad exchanges rules while calls run: none fails, and nothing races.
func TestUpdateUnderFullLoad(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		fleet.Behave(steadytest.Slow(5 * time.Millisecond))
		rec := new(recorder)
		good := func(i int) []steady.Rule {
			return []steady.Rule{{
				Methods: []string{"", "/steady.echo.v1.Echo/"}[i%2 : i%2+1], Name: fmt.Sprint("rule", i%3),
				Retry:    &retry.Config{MaxAttempts: 1 + i%5},
				Deadline: &deadline.Config{Default: time.Second, AttemptTimeout: time.Duration(100+i) * time.Millisecond},
				Breaker:  &breaker.Config{Window: time.Duration(1+i%3) * time.Second},
			}}
		}
		out := outbound(t, good(0), wide, steady.WithObserver(rec))
		conn := dial(fleet, out)
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := 1; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
				}
				if i%2 == 0 {
					if err := out.Update([]steady.Rule{{Methods: []string{"bad"}}}); err == nil {
						t.Error("a bad rule was accepted")
					}
				} else if err := out.Update(good(i)); err != nil {
					t.Error(err)
				}
				out.Snapshot()
			}
		}()
		result := (steadytest.Load{Rate: 500, For: 3 * time.Second, Call: steadytest.Get(conn)}).Run(t.Context())
		close(stop)
		<-done
		if result.OK != result.Calls || result.Calls < 1500 {
			t.Errorf("%d of %d calls succeeded: %v", result.OK, result.Calls, result.Errors)
		}
		if n := len(of[steady.Reloaded](rec)); n < 200 {
			t.Errorf("%d updates told", n)
		}
		if n := len(out.Snapshot().Channels[0].Breakers); n > 1 {
			t.Errorf("%d breakers: those of dropped rules stay behind", n)
		}
	})
}

func TestHeaderTrailerPeerOnTheWire(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		fleet.Behave(func(ctx context.Context, call steadytest.Call) error {
			md := metadata.Pairs("number", fmt.Sprint(call.Number))
			if err := grpc.SetTrailer(ctx, md); err != nil {
				return err
			}
			if call.Number < 3 {
				return unavailable("not yet")
			}
			return grpc.SetHeader(ctx, md)
		})
		conn := dial(fleet, outbound(t, retryRule("/steady.echo.v1.Echo/"), wide))
		var header, trailer metadata.MD
		var p peer.Peer
		var finished []error
		_, err := echov1.NewEchoClient(conn).Get(within(t, 5*time.Second), &req{}, grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&p),
			grpc.OnFinish(func(err error) { finished = append(finished, err) }))
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprintf("%v %v %v %v", header.Get("number"), trailer.Get("number"), p.Addr, finished) != "[3] [3] a [<nil>]" {
			t.Errorf("header %v, trailer %v, peer %v, OnFinish %v", header, trailer, p.Addr, finished)
		}
	})
}

func TestWaitForReady(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		fleet.Replica("a").Down()
		rules := breakerRule(breaker.Config{})
		rules[0].Retry = &retry.Config{}
		conn := dial(fleet, outbound(t, rules))
		time.AfterFunc(3*time.Second, fleet.Replica("a").Start)
		start := time.Now()
		if _, err := echov1.NewEchoClient(conn).Get(within(t, 10*time.Second), &req{}, grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 3*time.Second || took > 5*time.Second {
			t.Errorf("waited %v", took)
		}
		if n := fleet.Count()["a"]; n != 1 {
			t.Errorf("%d calls", n)
		}

	})
}

// TestResolverUpdatesRefillNoBudget: gRPC's own throttle is full again after every update of the resolver,
// which is just when connections fail.
func TestResolverUpdatesRefillNoBudget(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		fleet.Behave(steadytest.Failing(codes.Unavailable, 1))
		out := outbound(t, []steady.Rule{{Methods: []string{""}, Retry: &retry.Config{InitialBackoff: time.Millisecond}}})
		client := echov1.NewEchoClient(dial(fleet, out))
		for i := range 100 {
			fleet.SetEndpoints([]string{"a", "b", "c"}[:1+i%3]...)
			_, err := client.Get(within(t, time.Second), &req{})
			wantCode(t, err, codes.Unavailable)
		}
		if n := len(fleet.Calls()) - 100; n > 30 {
			t.Errorf("%d retries of 100 calls, want at most 20 %% and the floor of 10", n)
		}
		if b := out.Snapshot().Channels[0].Budget; b.Retries != 30 || b.Left != 0 {
			t.Errorf("budget %+v", b)
		}
	})
}

// TestDrainOfOneReplica: a server that says goodbye in order costs no call and no retry.
func TestDrainOfOneReplica(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		fleet.Behave(steadytest.Slow(20 * time.Millisecond))
		rec := new(recorder)
		rules := retryRule("")
		rules[0].Breaker = &breaker.Config{}
		conn := dial(fleet, outbound(t, rules, steady.WithObserver(rec)))
		time.AfterFunc(time.Second, func() { fleet.Replica("a").Drain() })
		time.AfterFunc(2*time.Second, fleet.Replica("a").Start)
		result := (steadytest.Load{Rate: 200, For: 3 * time.Second, Call: steadytest.Get(conn)}).Run(t.Context())
		if result.OK != result.Calls {
			t.Errorf("%d of %d calls succeeded: %v", result.OK, result.Calls, result.Errors)
		}
		if n := len(of[steady.BreakerChanged](rec)); n != 0 {
			t.Errorf("the breaker changed %d times", n)
		}
	})
}
