package steady_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
)

// wide is a budget that stops nobody, for tests of something else.
var wide = steady.WithRetryBudget(retry.BudgetConfig{Ratio: 5, MaxRatio: 5})

func retryRule(methods ...string) []steady.Rule {
	return []steady.Rule{{Methods: methods, Retry: &retry.Config{InitialBackoff: 100 * time.Millisecond}}}
}

func TestRetryPermission(t *testing.T) {
	const unknown = "/some.Service/Method"
	base := retry.Config{}
	connected := answer{err: unavailable("sick"), from: "a"}
	noConnection := answer{err: unavailable("no connection")}
	aborted := answer{err: status.Error(codes.Aborted, "again"), from: "a"}
	for _, tt := range []struct {
		name   string
		rule   steady.Rule
		method string
		answer answer
		opts   []string
		want   int // attempts
	}{
		{"NO_SIDE_EFFECTS repeats", steady.Rule{Methods: []string{""}}, get, connected, nil, 3},
		{"IDEMPOTENT repeats", steady.Rule{Methods: []string{""}}, put, connected, nil, 3},
		{"nobody said: one attempt", steady.Rule{Methods: []string{""}}, post, connected, nil, 1},
		{"nobody said, nothing left the client", steady.Rule{Methods: []string{""}}, post, noConnection, nil, 3},
		{"undescribed: one attempt", steady.Rule{Methods: []string{""}}, unknown, connected, nil, 1},
		{"undescribed, nothing left the client", steady.Rule{Methods: []string{""}}, unknown, noConnection, nil, 3},
		{"codes for a method are permission", steady.Rule{Methods: []string{post}, RetryOn: []codes.Code{codes.Unavailable}}, post, connected, nil, 3},
		{"codes for a service are permission", steady.Rule{Methods: []string{"/steady.echo.v1.Echo/"}, RetryOn: []codes.Code{codes.Unavailable}}, post, connected, nil, 3},
		{"codes for everything are none", steady.Rule{Methods: []string{""}, RetryOn: []codes.Code{codes.Unavailable}}, post, connected, nil, 1},
		{"a named rule without codes is none", steady.Rule{Methods: []string{post}}, post, connected, nil, 1},
		{"Idempotent is permission", steady.Rule{Methods: []string{""}, Idempotent: true}, unknown, connected, nil, 3},
		{"the call's own word is permission", steady.Rule{Methods: []string{""}}, unknown, connected, []string{"idempotent"}, 3},
		{"NoRetry", steady.Rule{Methods: []string{""}}, get, connected, []string{"no retry"}, 1},
		{"MaxAttempts", steady.Rule{Methods: []string{""}}, get, connected, []string{"max 5"}, 5},
		{"another code is not retried", steady.Rule{Methods: []string{""}}, get, aborted, nil, 1},
		{"unless it is listed", steady.Rule{Methods: []string{""}, RetryOn: []codes.Code{codes.Aborted}}, get, aborted, nil, 3},
		{"a list replaces the default", steady.Rule{Methods: []string{""}, RetryOn: []codes.Code{codes.Aborted}}, get, connected, nil, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := always(tt.answer)
				tt.rule.Retry = &base
				c := newClient(t, s, []steady.Rule{tt.rule}, wide)
				var err error
				switch {
				case len(tt.opts) == 0:
					_, err = c.call(t.Context(), tt.method)
				case tt.opts[0] == "idempotent":
					_, err = c.call(t.Context(), tt.method, steady.Idempotent())
				case tt.opts[0] == "no retry":
					_, err = c.call(t.Context(), tt.method, steady.NoRetry())
				default:
					_, err = c.call(t.Context(), tt.method, steady.MaxAttempts(5))
				}
				if status.Code(err) != status.Code(tt.answer.err) {
					t.Errorf("code %v, want that of the server: %v", status.Code(err), status.Code(tt.answer.err))
				}
				if got := len(s.attempts()); got != tt.want {
					t.Errorf("%d attempts, want %d", got, tt.want)
				}
			})
		})
	}
}

func TestMaxAttemptsWithoutRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{err: unavailable("sick"), from: "a"})
		c := newClient(t, s, nil, wide)
		_, err := c.call(t.Context(), get, steady.MaxAttempts(2))
		wantCode(t, err, codes.Unavailable)
		if n := len(s.attempts()); n != 2 {
			t.Fatalf("%d attempts, want 2", n)
		}
	})
}

func TestBackoffAndPreviousAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{err: unavailable("sick"), from: "a"})
		c := newClient(t, s, []steady.Rule{{Methods: []string{""}, Retry: &retry.Config{
			MaxAttempts: 4, InitialBackoff: 100 * time.Millisecond,
		}}}, wide, steady.WithRandom(middle))
		ctx := metadata.AppendToOutgoingContext(t.Context(), "grpc-previous-rpc-attempts", "77", "x-user", "u")
		_, err := c.call(ctx, get)
		wantCode(t, err, codes.Unavailable)
		want := []seen{
			{at: 0, previous: "77"}, // what the caller sends with his first attempt is his business
			{at: 50 * time.Millisecond, previous: "1"},
			{at: 150 * time.Millisecond, previous: "2"},
			{at: 350 * time.Millisecond, previous: "3"},
		}
		got := s.attempts()
		if len(got) != len(want) {
			t.Fatalf("%d attempts, want %d", len(got), len(want))
		}
		for i := range want {
			if got[i].at != want[i].at || got[i].previous != want[i].previous {
				t.Errorf("attempt %d at %v with %q, want %v with %q", i+1, got[i].at, got[i].previous, want[i].at, want[i].previous)
			}
		}
	})
}

func TestNeverSleepsPastTheDeadline(t *testing.T) {
	for name, a := range map[string]answer{
		"backoff":  {err: unavailable("database down"), from: "a"},
		"pushback": {err: unavailable("database down"), from: "a", trailer: pushback(60_000)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClient(t, always(a), []steady.Rule{{Methods: []string{""}, Retry: &retry.Config{
					InitialBackoff: 10 * time.Second, MaxBackoff: 10 * time.Second, Jitter: retry.NoJitter,
				}}}, wide)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				start := time.Now()
				_, err := c.call(ctx, get)
				if took := time.Since(start); took != 0 {
					t.Errorf("took %v, want the answer at once", took)
				}
				wantCode(t, err, codes.Unavailable)
				if status.Convert(err).Message() != "database down" {
					t.Errorf("%v, want the server's last word", err)
				}
				if got := steady.Explain(err); !strings.Contains(got, "stopped: deadline") {
					t.Errorf("Explain: %q, want the reason", got)
				}
			})
		})
	}
}

func TestPushback(t *testing.T) {
	info := func(d time.Duration) error {
		s, err := status.New(codes.ResourceExhausted, "slow down").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(d)})
		if err != nil {
			t.Fatal(err)
		}
		return s.Err()
	}
	exhausted := status.Error(codes.ResourceExhausted, "quota")
	for _, tt := range []struct {
		name   string
		answer answer
		want   []time.Duration // when attempts come
	}{
		{"trailer", answer{err: unavailable("x"), from: "a", trailer: pushback(300)}, []time.Duration{0, 300 * time.Millisecond, 600 * time.Millisecond}},
		{"zero", answer{err: unavailable("x"), from: "a", trailer: pushback(0)}, []time.Duration{0, 0, 0}},
		{"negative", answer{err: unavailable("x"), from: "a", trailer: pushback(-1)}, []time.Duration{0}},
		{"garbage", answer{err: unavailable("x"), from: "a", trailer: metadata.Pairs("grpc-retry-pushback-ms", "abc")}, []time.Duration{0}},
		{"huge", answer{err: unavailable("x"), from: "a", trailer: metadata.Pairs("grpc-retry-pushback-ms", "1e30")}, []time.Duration{0}},
		{"overflowing", answer{err: unavailable("x"), from: "a", trailer: metadata.Pairs("grpc-retry-pushback-ms", "99999999999999999999999")}, []time.Duration{0}},
		{"longer than max elapsed", answer{err: unavailable("x"), from: "a", trailer: pushback(9_000_000)}, []time.Duration{0}},
		{"twice", answer{err: unavailable("x"), from: "a", trailer: metadata.Pairs("grpc-retry-pushback-ms", "1", "grpc-retry-pushback-ms", "2")}, []time.Duration{0}},
		{"RetryInfo", answer{err: info(200 * time.Millisecond), from: "a"}, []time.Duration{0, 200 * time.Millisecond, 400 * time.Millisecond}},
		{"negative RetryInfo", answer{err: info(-time.Second), from: "a"}, []time.Duration{0}},
		{"RESOURCE_EXHAUSTED without either is not retried", answer{err: exhausted, from: "a"}, []time.Duration{0}},
		{"on a code that is not retried it means nothing", answer{err: status.Error(codes.NotFound, "x"), from: "a", trailer: pushback(1)}, []time.Duration{0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := always(tt.answer)
				c := newClient(t, s, retryRule(""), wide)
				_, err := c.call(t.Context(), get)
				wantCode(t, err, status.Code(tt.answer.err))
				var got []time.Duration
				for _, a := range s.attempts() {
					got = append(got, a.at)
				}
				if len(got) != len(tt.want) {
					t.Fatalf("attempts at %v, want %v", got, tt.want)
				}
				for i := range got {
					if got[i] != tt.want[i] {
						t.Fatalf("attempts at %v, want %v", got, tt.want)
					}
				}
			})
		})
	}
}

func TestAttemptTimeoutIsRetriedTheCallsOwnIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStub(func(n int) answer {
			if n < 3 {
				return answer{after: time.Hour, from: "a"}
			}
			return answer{from: "b"}
		})
		rec := new(recorder)
		c := newClient(t, s, []steady.Rule{{
			Methods: []string{""}, Retry: &retry.Config{InitialBackoff: time.Millisecond, Jitter: retry.NoJitter},
			Deadline: &deadline.Config{Default: time.Second, AttemptTimeout: 100 * time.Millisecond},
		}}, wide, steady.WithObserver(rec))
		reply, err := c.call(t.Context(), get)
		if err != nil || reply.GetText() != "b" {
			t.Fatalf("%v, %v", reply, err)
		}
		got := s.attempts()
		want := []time.Duration{0, 101 * time.Millisecond, 203 * time.Millisecond}
		for i := range want {
			if got[i].at != want[i] || got[i].deadline != 100*time.Millisecond {
				t.Errorf("attempt %d at %v with %v, want at %v with 100ms", i+1, got[i].at, got[i].deadline, want[i])
			}
		}
		if cuts := of[steady.DeadlineCut](rec); len(cuts) != 2 || !cuts[0].Attempt || cuts[0].Limit != 100*time.Millisecond {
			t.Errorf("cuts %+v", cuts)
		}

		// The deadline of the call itself ends it.
		s2 := always(answer{after: time.Hour, from: "a"})
		c2 := newClient(t, s2, []steady.Rule{{Methods: []string{""}, Retry: &retry.Config{}, Deadline: &deadline.Config{Default: time.Second}}}, wide)
		_, err = c2.call(t.Context(), get)
		wantCode(t, err, codes.DeadlineExceeded)
		if n := len(s2.attempts()); n != 1 {
			t.Errorf("%d attempts, want 1", n)
		}
	})
}

func TestBudgetIsPerChannelAndSurvivesUpdates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{err: unavailable("down"), from: "a"})
		c := newClient(t, s, retryRule(""))
		for range 100 {
			if _, err := c.call(t.Context(), get); status.Code(err) != codes.Unavailable {
				t.Fatal(err)
			}
			if err := c.out.Update(retryRule("")); err != nil {
				t.Fatal(err)
			}
		}
		// 100 calls within less than 10 s: 20 % of them, and a floor of 1/s.
		elapsed := time.Since(s.start)
		if elapsed > 10*time.Second {
			t.Fatalf("the test assumes one interval, took %v", elapsed)
		}
		if retries := len(s.attempts()) - 100; retries != 30 {
			t.Errorf("%d retries of 100 calls, want 20 %% and the floor of 10", retries)
		}
		_, err := c.call(t.Context(), get)
		if got := steady.Explain(err); !strings.Contains(got, "stopped: budget 0 of 30") {
			t.Errorf("Explain: %q", got)
		}
		// Another channel of the same outbound has a budget of its own.
		unary, _ := c.out.Interceptors()
		other := &client{out: c.out, unary: unary, stub: always(answer{err: unavailable("down"), from: "a"})}
		if _, err := other.call(t.Context(), get); status.Code(err) != codes.Unavailable {
			t.Fatal(err)
		}
		if n := len(other.stub.attempts()); n != 2 {
			t.Errorf("%d attempts on the other channel, want 2: one call allows one retry", n)
		}
	})
}

func TestCancelDuringBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{err: unavailable("down"), from: "a"})
		c := newClient(t, s, []steady.Rule{{Methods: []string{""}, Retry: &retry.Config{
			InitialBackoff: time.Second, Jitter: retry.NoJitter,
		}}}, wide)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(300*time.Millisecond, cancel)
		_, err := c.call(ctx, get)
		wantCode(t, err, codes.Canceled)
		if took := time.Since(s.start); took != 300*time.Millisecond {
			t.Errorf("took %v, want to end with the cancel", took)
		}
	})
}

func TestMaxElapsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{err: unavailable("down"), from: "a", after: 4 * time.Second})
		c := newClient(t, s, []steady.Rule{{Methods: []string{""}, Retry: &retry.Config{
			MaxAttempts: 5, InitialBackoff: time.Millisecond, Jitter: retry.NoJitter,
		}}}, wide)
		_, err := c.call(t.Context(), get)
		wantCode(t, err, codes.Unavailable)
		if n := len(s.attempts()); n != 3 { // at 0, 4 and 8 s; the next would start after 10 s
			t.Errorf("%d attempts, want 3", n)
		}
	})
}

func TestErrorIsTheServersOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStub(func(n int) answer {
			st, err := status.New(codes.Unavailable, "try "+string(rune('0'+n))).WithDetails(&errdetails.ErrorInfo{Reason: "R"})
			if err != nil {
				t.Fatal(err)
			}
			return answer{err: st.Err(), from: "a"}
		})
		c := newClient(t, s, retryRule(""), wide)
		_, err := c.call(t.Context(), get)
		st, ok := status.FromError(err)
		if !ok || st.Code() != codes.Unavailable || st.Message() != "try 3" || len(st.Details()) != 1 {
			t.Errorf("status %v, want the third answer with its details", st)
		}
		if err.Error() != st.Err().Error() {
			t.Errorf("text %q, want %q", err, st.Err())
		}
		var call *steady.CallError
		if !errors.As(err, &call) || call.Report.Made() != 3 || call.Report.Stop != retry.StopAttempts {
			t.Errorf("report %+v", call)
		}
	})
}

// TestRetryLimitedIsTold checks that a rule which cannot retry everything it is for says so, once.
func TestRetryLimitedIsTold(t *testing.T) {
	for _, tt := range []struct {
		name        string
		rule        steady.Rule
		want        bool
		undescribed bool
	}{
		{"described and repeatable", steady.Rule{Methods: []string{get, put}}, false, false},
		{"one that nobody spoke for", steady.Rule{Methods: []string{get, post}}, true, false},
		{"a service", steady.Rule{Methods: []string{"/steady.echo.v1.Echo/"}}, true, false},
		{"everything", steady.Rule{Methods: []string{""}}, true, true},
		{"undescribed", steady.Rule{Methods: []string{"/x.Y/"}}, true, true},
		{"permitted by codes", steady.Rule{Methods: []string{post}, RetryOn: []codes.Code{codes.Unavailable}}, false, false},
		{"permitted", steady.Rule{Methods: []string{""}, Idempotent: true}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rec := new(recorder)
			tt.rule.Retry = &retry.Config{}
			c := newClient(t, always(answer{}), []steady.Rule{tt.rule}, steady.WithObserver(rec))
			got := of[steady.RetryLimited](rec)
			if (len(got) == 1) != tt.want {
				t.Fatalf("told %d times", len(got))
			}
			if tt.want && got[0].Undescribed != tt.undescribed {
				t.Errorf("undescribed %v", got[0].Undescribed)
			}
			row := c.out.Snapshot().Rules[0]
			if limited := len(row.Limited) > 0 || row.Undescribed; limited != tt.want {
				t.Errorf("snapshot says %+v", row)
			}
		})
	}
}

// TestDeadlineExceededOfAServer is retried as the end of an attempt that had a timeout of its own, which the server
// saw a little earlier than we; without one it is the end of the call.
func TestDeadlineExceededOfAServer(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  *deadline.Config
		want int
	}{
		{"no deadline", nil, 1},
		{"a deadline of the call", &deadline.Config{Default: time.Second}, 1},
		{"a timeout of the attempt", &deadline.Config{Default: time.Second, AttemptTimeout: 100 * time.Millisecond}, 3},
		{"a share for the attempt", &deadline.Config{Default: time.Second, AttemptShare: 0.3}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := always(answer{err: status.Error(codes.DeadlineExceeded, "its own budget"), from: "a", after: 90 * time.Millisecond})
				c := newClient(t, s, []steady.Rule{{Methods: []string{""}, Deadline: tt.cfg, Retry: &retry.Config{InitialBackoff: time.Millisecond}}}, wide)
				_, err := c.call(t.Context(), get)
				wantCode(t, err, codes.DeadlineExceeded)
				if n := len(s.attempts()); n != tt.want {
					t.Errorf("%d attempts, want %d", n, tt.want)
				}
			})
		})
	}
}
