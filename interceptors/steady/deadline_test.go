package steady_test

import (
	"context"
	"errors"
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

func TestDeadlineOfACall(t *testing.T) {
	for _, tt := range []struct {
		name   string
		cfg    *deadline.Config
		caller time.Duration // 0: none
		want   time.Duration // what the attempt sees; 0: none
	}{
		{"default", &deadline.Config{}, 0, 30 * time.Second},
		{"default of the rule", &deadline.Config{Default: time.Second}, 0, time.Second},
		{"the caller's own is kept", &deadline.Config{Default: time.Second}, 5 * time.Second, 5 * time.Second},
		{"capped", &deadline.Config{Max: 2 * time.Second, Default: time.Second}, 5 * time.Second, 2 * time.Second},
		{"no default", &deadline.Config{Default: -1}, 0, 0},
		{"rule without deadline", nil, 0, 0},
		{"attempt timeout", &deadline.Config{Default: time.Second, AttemptTimeout: 200 * time.Millisecond}, 0, 200 * time.Millisecond},
		{"attempt share", &deadline.Config{Default: time.Second, AttemptShare: 0.5}, 0, 500 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := always(answer{from: "a"})
				c := newClient(t, s, []steady.Rule{{Methods: []string{""}, Deadline: tt.cfg, Retry: &retry.Config{}}})
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if tt.caller > 0 {
					ctx, cancel = context.WithTimeout(ctx, tt.caller)
				}
				defer cancel()
				if _, err := c.call(ctx, get); err != nil {
					t.Fatal(err)
				}
				if got := s.attempts()[0].deadline; got != tt.want {
					t.Errorf("the attempt has %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestCallsWithoutARuleAndStreamsAreNotTouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{from: "a"})
		c := newClient(t, s, []steady.Rule{{Methods: []string{put}, Deadline: &deadline.Config{}}})
		if _, err := c.call(t.Context(), get); err != nil {
			t.Fatal(err)
		}
		if d := s.attempts()[0].deadline; d != 0 {
			t.Errorf("a call without a rule got %v", d)
		}
		out, err := steady.NewOutbound([]steady.Rule{{Methods: []string{""}, Deadline: &deadline.Config{Default: time.Second, Max: time.Second}}})
		if err != nil {
			t.Fatal(err)
		}
		_, stream := out.Interceptors()
		open := func(ctx context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
			if d, ok := ctx.Deadline(); ok {
				t.Errorf("a stream got a deadline: %v", d)
			}
			return nil, unavailable("no server here")
		}
		_, err = stream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, nil, list, open)
		wantCode(t, err, codes.Unavailable)
	})
}

// TestARetryThatCannotFitIsNotSent: with a learned median of 100 ms, 50 ms are not enough for another attempt.
func TestARetryThatCannotFitIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing := false
		s := newStub(func(int) answer {
			if failing {
				return answer{after: 100 * time.Millisecond, err: unavailable("x"), from: "a"}
			}
			return answer{after: 100 * time.Millisecond, from: "a"}
		})
		c := newClient(t, s, []steady.Rule{{Methods: []string{""}, Deadline: &deadline.Config{}, Retry: &retry.Config{
			InitialBackoff: time.Millisecond, Jitter: retry.NoJitter,
		}}}, wide)
		for range 30 {
			if _, err := c.call(t.Context(), get); err != nil {
				t.Fatal(err)
			}
		}
		failing = true
		for _, tt := range []struct {
			timeout time.Duration
			want    int
		}{{150 * time.Millisecond, 1}, {250 * time.Millisecond, 2}, {450 * time.Millisecond, 3}} {
			before := len(s.attempts())
			ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
			_, err := c.call(ctx, get)
			cancel()
			wantCode(t, err, codes.Unavailable)
			if got := len(s.attempts()) - before; got != tt.want {
				t.Errorf("%v left: %d attempts, want %d", tt.timeout, got, tt.want)
			}
		}
	})
}

func TestFeasibilityOfFirstAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{after: 100 * time.Millisecond, from: "a"})
		c := newClient(t, s, []steady.Rule{{Methods: []string{""}, Deadline: &deadline.Config{Feasibility: deadline.FeasibilityAll}}})
		for range 30 {
			if _, err := c.call(t.Context(), get); err != nil {
				t.Fatal(err)
			}
		}
		before := len(s.attempts())
		refused := 0
		start := time.Now()
		for range 200 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			_, err := c.call(ctx, get)
			cancel()
			wantCode(t, err, codes.DeadlineExceeded)
			if errors.Is(err, deadline.ErrExhausted) {
				refused++
			}
		}
		probes := len(s.attempts()) - before
		if refused+probes != 200 || probes < 10 || probes > 12 {
			t.Errorf("%d refused and %d probes of 200 within %v, want 1 in 20 sent", refused, probes, time.Since(start))
		}
		// With time enough nothing is refused, and after 30 s nothing is known any more.
		if _, err := c.call(t.Context(), get); err != nil {
			t.Error(err)
		}
		time.Sleep(31 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := c.call(ctx, get); errors.Is(err, deadline.ErrExhausted) {
			t.Error("refused by an estimate that is older than 30 s")
		}
	})
}

// TestOnlySuccessesTeachHowLongAMethodTakes: a service that fails fast would otherwise make every deadline look long
// enough to blame the server.
func TestOnlySuccessesTeachHowLongAMethodTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := new(recorder)
		s := always(answer{from: "a", after: 100 * time.Millisecond})
		rules := breakerRule(breaker.Config{ConsecutiveFailures: -1, FailureRatio: -1})
		c := newClient(t, s, rules, steady.WithObserver(rec))
		for range 30 {
			if _, err := c.call(t.Context(), get); err != nil {
				t.Fatal(err)
			}
		}
		for _, err := range []error{unavailable("x"), status.Error(codes.NotFound, "x")} {
			s.become(func(int) answer { return answer{from: "a", after: time.Millisecond, err: err} })
			for range 100 {
				_, _ = c.call(t.Context(), get)
			}
		}
		s.become(func(int) answer { return answer{from: "a", after: time.Hour} })
		_, err := c.call(within(t, 50*time.Millisecond), get)
		wantCode(t, err, codes.DeadlineExceeded)
		all := of[steady.AttemptEnded](rec)
		if v := all[len(all)-1].Verdict; v != steady.VerdictNothing {
			t.Errorf("half of what the method takes is a %v of the server", v)
		}
	})
}
