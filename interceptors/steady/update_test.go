package steady_test

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
)

// TestUpdateUnderLoadForgetsNothing: while callers do all they can, thresholds, retries, deadlines, patterns and modes
// are exchanged; in the end the rule's breaker and the channel's budget have seen every call, in one generation.
func TestUpdateUnderLoadForgetsNothing(t *testing.T) {
	const callers, each = 8, 2000
	rules := func(i int) []steady.Rule {
		r := []steady.Rule{{
			Name: "kept", Methods: [][]string{{""}, {"", put}, {get, ""}}[i%3], Mode: steady.Mode(i % 2), // enforce and observe
			Retry:    &retry.Config{MaxAttempts: 1 + i%5},
			Deadline: &deadline.Config{Default: time.Duration(1+i%7) * time.Minute},
			Breaker:  &breaker.Config{Window: time.Hour, ConsecutiveFailures: 1 + i%9, MinimumCalls: 20 + i, OpenTime: time.Duration(1+i%9) * time.Second},
		}}
		if i%4 == 0 {
			r = append(r, steady.Rule{Name: "passing", Methods: []string{"/x.Y/"}, Breaker: &breaker.Config{}})
		}
		return r
	}
	out := outbound(t, rules(0))
	unary, _ := out.Interceptors()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				err := unary(t.Context(), get, &req{}, &reply{}, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil })
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	updates := 0
	for running := true; running; {
		updates++
		if err := out.Update(rules(updates)); err != nil {
			t.Error(err)
		}
		select {
		case <-done:
			running = false
		default:
		}
	}
	if err := out.Update(rules(1)); err != nil {
		t.Fatal(err)
	}
	snap := out.Snapshot().Channels[0]
	runtime.KeepAlive(unary) // a channel lives as long as its interceptors
	if len(snap.Breakers) != 1 || snap.Breakers[0].Calls != callers*each || snap.Breakers[0].Generation != 1 {
		t.Errorf("after %d updates %+v, want one breaker with %d calls", updates, snap.Breakers, callers*each)
	}
	if updates < 20 {
		t.Errorf("%d updates are no load", updates)
	}
}

// TestRulesAreCopied: what the caller does afterwards to the rules he gave changes nothing, now or at a change of mode.
func TestRulesAreCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := []steady.Rule{{Methods: []string{get}, Retry: &retry.Config{}, RetryOn: []codes.Code{codes.Unavailable}}}
		s := always(answer{err: unavailable("x"), from: "a"})
		c := newClient(t, s, rules, wide)
		rules[0].Retry.MaxAttempts, rules[0].RetryOn[0], rules[0].Methods[0] = 99, codes.Aborted, "nonsense"
		c.out.Rules()[0].Methods[0] = "nonsense"
		for _, mode := range []steady.Mode{steady.ModeEnforce, steady.ModeObserve, steady.ModeEnforce} {
			if err := c.out.SetMode(mode); err != nil {
				t.Fatal(err)
			}
		}
		_, err := c.call(t.Context(), get)
		wantCode(t, err, codes.Unavailable)
		if n := len(s.attempts()); n != 3 {
			t.Errorf("%d attempts, want the 3 of the rule as it was given", n)
		}
	})
}

// TestAChangeOfScopeLeavesNothingBehind: from one breaker for a rule to one for each method, and back.
func TestAChangeOfScopeLeavesNothingBehind(t *testing.T) {
	c := newClient(t, always(answer{from: "a"}), breakerRule(countOnly))
	for _, tt := range []struct {
		perMethod bool
		want      int
	}{{false, 1}, {true, 2}, {false, 1}} {
		rules := breakerRule(countOnly)
		rules[0].PerMethod = tt.perMethod
		if err := c.out.Update(rules); err != nil {
			t.Fatal(err)
		}
		for _, m := range []string{get, put} {
			if _, err := c.call(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		if got := c.out.Snapshot().Channels[0].Breakers; len(got) != tt.want {
			t.Errorf("per method %v: %+v, want %d", tt.perMethod, got, tt.want)
		}
	}
}

// TestACallInFlightKeepsItsRuleAndItsBreaker: its attempts go on as they began, and its end comes back to no breaker
// of another rule.
func TestACallInFlightKeepsItsRuleAndItsBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{err: unavailable("x"), from: "a", after: time.Second})
		first := breakerRule(breaker.Config{ConsecutiveFailures: 9})
		first[0].Name, first[0].Retry = "first", &retry.Config{InitialBackoff: time.Millisecond}
		c := newClient(t, s, first, wide)
		done := make(chan error)
		go func() {
			_, err := c.call(t.Context(), get)
			done <- err
		}()
		synctest.Wait()
		second := breakerRule(breaker.Config{ConsecutiveFailures: 1})
		second[0].Name = "second"
		if err := c.out.Update(second); err != nil {
			t.Fatal(err)
		}
		wantCode(t, <-done, codes.Unavailable)
		if n := len(s.attempts()); n != 3 {
			t.Errorf("%d attempts, want the 3 it began with", n)
		}
		s.become(func(int) answer { return answer{from: "a"} })
		if _, err := c.call(t.Context(), get); err != nil {
			t.Fatal(err)
		}
		b := c.out.Snapshot().Channels[0].Breakers
		if len(b) != 1 || b[0].Rule != "second" || b[0].Calls != 1 || b[0].State != breaker.Closed {
			t.Errorf("%+v, want the second rule's breaker with its own call only", b)
		}
	})
}
