package steady_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
)

// TestTheQuickWayIsTheSame plays random calls twice: as they are, which lets the driver take its short cut for calls
// that succeed at once, and with a classifier without an opinion, which keeps it from that. Errors, replies,
// attempts, events and snapshots must be the same to the nanosecond.
func TestTheQuickWayIsTheSame(t *testing.T) {
	none := func(string, any, error) steady.Verdict { return steady.VerdictDefault }
	for name, rule := range map[string]steady.Rule{
		"breaker":  {Breaker: &breaker.Config{}},
		"retry":    {Retry: &retry.Config{}},
		"deadline": {Deadline: &deadline.Config{Default: 300 * time.Millisecond}},
		"attempt":  {Deadline: &deadline.Config{Default: -1, AttemptTimeout: 100 * time.Millisecond}, Retry: &retry.Config{}, Idempotent: true},
		"full": {
			Deadline: &deadline.Config{Default: time.Second, AttemptShare: 0.3}, Retry: &retry.Config{}, Idempotent: true,
			Breaker: &breaker.Config{OpenTime: 300 * time.Millisecond}, PerMethod: true,
		},
		"feasible": {Deadline: &deadline.Config{Default: 100 * time.Millisecond, Feasibility: deadline.FeasibilityAll}, Retry: &retry.Config{}},
		"observe":  {Mode: steady.ModeObserve, Deadline: &deadline.Config{Default: 50 * time.Millisecond}, Breaker: &breaker.Config{}, Retry: &retry.Config{}},
	} {
		rule.Name, rule.Methods = name, []string{"/steady.echo.v1.Echo/"}
		for seed := range uint64(20) {
			got := play(t, rule, seed)
			want := play(t, rule, seed, steady.WithClassifier(none))
			if got != want {
				g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
				for i := range min(len(g), len(w)) {
					if g[i] != w[i] {
						t.Fatalf("rule %s, seed %d, line %d:\nquick %s\nfull  %s", name, seed, i, g[i], w[i])
					}
				}
				t.Fatalf("rule %s, seed %d: %d and %d lines", name, seed, len(g), len(w))
			}
		}
	}
}

// play makes calls whose answers follow from the seed, and returns all that can be seen of them.
func play(t *testing.T, rule steady.Rule, seed uint64, opts ...steady.Option) string {
	var text strings.Builder
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 0))
		events := new(recorder)
		s := newStub(func(int) answer {
			a := answer{after: time.Duration(rng.IntN(40)) * time.Millisecond, from: []string{"", "a", "b"}[rng.IntN(3)]}
			switch rng.IntN(12) {
			case 0, 1, 2:
				a.err = unavailable("down")
			case 3:
				a.err, a.trailer = unavailable("busy"), pushback(20)
			case 4:
				a.err = status.Error(codes.NotFound, "none")
			case 5:
				a.after = time.Minute
			case 6:
				a.do = func(context.Context) { panic("below") }
			case 7:
				a.do = func(context.Context) { runtime.Goexit() }
			}
			return a
		})
		opts := append([]steady.Option{
			steady.WithObserver(events), steady.WithRandom(middle), steady.OnSuccess(get, func(context.Context, *req, *reply) { time.Sleep(time.Millisecond) }),
		}, opts...)
		c := newClient(t, s, []steady.Rule{rule}, opts...)
		for i := range 60 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rng.IntN(100))*20*time.Millisecond)
			if rng.IntN(4) == 0 {
				ctx = t.Context()
			}
			out, method := new(reply), []string{get, put, "/steady.echo.v1.Echo/Unheard"}[rng.IntN(3)]
			done := make(chan struct{})
			go func() { // Goexit ends it
				defer close(done)
				defer func() {
					if p := recover(); p != nil {
						fmt.Fprintln(&text, "panic", p)
					}
				}()
				err := c.unary(ctx, method, new(req), out, nil, s.invoke)
				fmt.Fprintf(&text, "call %d: %v %v\n", i, err, steady.Explain(err))
			}()
			<-done
			cancel()
			fmt.Fprintln(&text, time.Now().UnixNano(), out.Text, out.Number)
			time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond)
		}
		synctest.Wait()
		fmt.Fprintf(&text, "%+v\n", s.attempts())
		for _, e := range events.events {
			switch e := e.(type) {
			case *steady.AttemptEnded:
				e.Memo, e.Start = nil, e.Start.Round(0)
			case *steady.CallEnded:
				e.Memo, e.Start = nil, e.Start.Round(0)
			case *steady.Refused:
				e.Memo = nil
			case *steady.Retried:
				e.Memo = nil
			case *steady.DeadlineCut:
				e.Memo = nil
			}
			fmt.Fprintf(&text, "%T %+v\n", e, e)
		}
		fmt.Fprintf(&text, "%+v\n", c.out.Snapshot())
		runtime.KeepAlive(c.unary) // a channel without its interceptor is in no snapshot
	})
	return text.String()
}

// TestSuccessesTellWhichEndpointsThereAre: under a balancer that does not say how many endpoints there are, those that
// answered count. If one of two fails, the breaker leaves it to the balancer; if it is the only one, it opens.
func TestSuccessesTellWhichEndpointsThereAre(t *testing.T) {
	for _, tt := range []struct {
		answered []string
		want     breaker.State
	}{{[]string{"a"}, breaker.Open}, {[]string{"a", "b"}, breaker.Closed}} {
		synctest.Test(t, func(t *testing.T) {
			s := newStub(func(n int) answer { return answer{from: tt.answered[n%len(tt.answered)]} })
			c := newClient(t, s, []steady.Rule{{Methods: []string{""}, Breaker: &breaker.Config{FailureRatio: -1}}})
			call := func() error { return c.unary(t.Context(), get, new(req), new(reply), nil, s.invoke) }
			for range 200 { // often enough that either is noticed, whenever a success is looked at
				if err := call(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(33 * time.Millisecond)
			}
			s.become(func(int) answer { return answer{from: "a", err: unavailable("down"), after: time.Millisecond} })
			for range 10 {
				wantCode(t, call(), codes.Unavailable)
			}
			if got := c.out.Snapshot().Channels[0].Breakers[0].State; got != tt.want {
				t.Errorf("%v answered, then a failed: %v, want %v", tt.answered, got, tt.want)
			}
			runtime.KeepAlive(c.unary)
		})
	}
}

// TestEveryMethodGetsItsOwnRule: with many methods, called at once while rules change, each is under its own rule,
// however methods are found quickly.
func TestEveryMethodGetsItsOwnRule(t *testing.T) {
	const methods = 600
	rules := func(suffix string) []steady.Rule {
		out := make([]steady.Rule, methods)
		for i := range out {
			out[i] = steady.Rule{Name: fmt.Sprint(i, suffix), Methods: []string{fmt.Sprintf("/a.B/M%d", i)}, Breaker: &breaker.Config{}}
		}
		return out
	}
	var mu sync.Mutex
	wrong := make(map[string]string)
	out, err := steady.NewOutbound(rules("a"), steady.WithObserver(steady.ObserverFunc(func(e steady.Event) {
		if e, ok := e.(*steady.CallEnded); ok {
			number := strings.TrimPrefix(e.Method, "/a.B/M")
			if e.Rule != number+"a" && e.Rule != number+"b" {
				mu.Lock()
				wrong[e.Method] = e.Rule
				mu.Unlock()
			}
		}
	})))
	if err != nil {
		t.Fatal(err)
	}
	unary, _ := out.Interceptors()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 3 * methods {
				name := fmt.Sprintf("/a.B/M%d", (i*7+g*13)%methods)
				if err := unary(t.Context(), name, nil, nil, nil, succeedQuietly); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 20 {
		if err := out.Update(rules([]string{"a", "b"}[i%2])); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if len(wrong) > 0 {
		t.Errorf("methods under the rule of another: %v", wrong)
	}
}

func succeedQuietly(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
	return nil
}
