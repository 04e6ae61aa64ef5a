package steady_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// TestObserveRefusesNothing: neither a gate of the user's nor the feasibility check nor a breaker keeps a call back,
// and each tells that it would have.
func TestObserveRefusesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := new(recorder)
		rules := breakerRule(countOnly)
		rules[0].Mode = steady.ModeObserve
		rules[0].Deadline = &deadline.Config{Feasibility: deadline.FeasibilityAll}
		closed := false
		door := gateFunc(func(context.Context) (func(error), error) {
			if closed {
				return nil, errors.New("closed")
			}
			return func(error) {}, nil
		})
		s := always(answer{from: "a", after: 100 * time.Millisecond})
		c := newClient(t, s, rules, steady.WithGate("door", door), steady.WithObserver(rec))
		for range 30 {
			if _, err := c.call(t.Context(), get); err != nil {
				t.Fatal(err)
			}
		}
		short := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := c.call(ctx, get)
			return err
		}
		for range 2 { // the first of them would go as a probe
			wantCode(t, short(), codes.DeadlineExceeded)
		}
		s.become(func(int) answer { return answer{err: unavailable("x"), from: "a"} })
		for i := range 12 {
			closed = i < 6 // what the door would have refused opens no breaker: it would not have been made
			_, err := c.call(t.Context(), get)
			if status.Convert(err).Message() != "x" {
				t.Fatalf("%v, want the server's own word", err)
			}
		}
		if n := len(s.attempts()); n != 44 {
			t.Errorf("%d attempts, want one for each of 44 calls", n)
		}
		gates := make(map[string]int)
		for _, e := range of[steady.Refused](rec) {
			if !e.WouldHave {
				t.Errorf("%+v", e)
			}
			gates[e.Gate]++
		}
		if gates["door"] != 6 || gates["deadline"] != 1 || gates["breaker"] != 1 {
			t.Errorf("would-have refusals %v", gates)
		}
	})
}

// TestObserveLeavesStreamsAlone: the same results and attempts as without steady, and a breaker that would have
// opened.
func TestObserveLeavesStreamsAlone(t *testing.T) {
	play := func(mode steady.Mode) (results []string, attempts int, rec *recorder) {
		rec = new(recorder)
		steadytest.Run(t, func(t *testing.T) {
			fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
			rules := streamRule()
			rules[0].Mode, rules[0].Breaker = mode, &breaker.Config{OpenJitter: -1}
			client := echov1.NewEchoClient(dial(fleet, outbound(t, rules, wide, steady.WithObserver(rec))))
			fleet.Behave(steadytest.Failing(codes.Unavailable, 1))
			start := time.Now()
			for i := range 24 {
				got, err := talk(within(t, time.Minute), client, []string{"server", "client", "bidi"}[i%3])
				results = append(results, fmt.Sprint(got, err, time.Since(start)))
				time.Sleep(time.Second / 10)
			}
			attempts = fleet.Count()["a"]
		})
		return results, attempts, rec
	}
	would, n, rec := play(steady.ModeObserve)
	off, m, _ := play(steady.ModeOff)
	if n != 24 || m != 24 || fmt.Sprint(would) != fmt.Sprint(off) {
		t.Errorf("%d attempts and %v, want %d and %v", n, would, m, off)
	}
	if len(of[steady.BreakerChanged](rec)) == 0 || len(of[steady.Refused](rec)) == 0 || len(of[steady.Retried](rec)) == 0 {
		t.Errorf("%d changes, %d refusals, %d retries would have been told", len(of[steady.BreakerChanged](rec)),
			len(of[steady.Refused](rec)), len(of[steady.Retried](rec)))
	}
}

// TestModesKeepTheMemoryOfABreaker: what was learned under observation is in force with the rule, and a rule that was
// off for a while goes on where it was.
func TestModesKeepTheMemoryOfABreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{err: unavailable("down"), from: "a"})
		rec := new(recorder)
		c := newClient(t, s, breakerRule(countOnly), steady.WithMode(steady.ModeObserve), steady.WithObserver(rec))
		set := func(m steady.Mode) {
			t.Helper()
			if err := c.out.SetMode(m); err != nil {
				t.Fatal(err)
			}
		}
		for range 4 {
			_, err := c.call(t.Context(), get)
			wantCode(t, err, codes.Unavailable)
		}
		set(steady.ModeEnforce)
		_, _ = c.call(t.Context(), get) // the fifth in a row
		if _, err := c.call(t.Context(), get); !errors.Is(err, breaker.ErrOpen) {
			t.Fatalf("%v, want the breaker open: four failures were observed", err)
		}
		set(steady.ModeOff)
		if _, err := c.call(t.Context(), get); errors.Is(err, breaker.ErrOpen) {
			t.Errorf("refused by a rule that is off")
		}
		set(steady.ModeEnforce)
		if _, err := c.call(t.Context(), get); !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("%v, want the breaker still open", err)
		}
		if told := of[steady.BreakerChanged](rec); len(told) != 1 || told[0].WouldHave {
			t.Errorf("%+v, want one change, in force", told)
		}
	})
}

// TestObserveTellsNoRetryOfWhatWouldBeRefused: an attempt that would not have been made is not followed by another,
// even if it would have been cut.
func TestObserveTellsNoRetryOfWhatWouldBeRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := new(recorder)
		door := gateFunc(func(context.Context) (func(error), error) { return nil, errors.New("closed") })
		c := newClient(t, always(answer{from: "a", after: time.Second}), []steady.Rule{{
			Methods: []string{""}, Mode: steady.ModeObserve, Retry: &retry.Config{}, Deadline: &deadline.Config{AttemptTimeout: 50 * time.Millisecond},
		}}, wide, steady.WithGate("door", door), steady.WithObserver(rec))
		if _, err := c.call(t.Context(), get); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := len(of[steady.Retried](rec)); n != 0 {
			t.Errorf("%d retries told", n)
		}
	})
}

// TestOptionsUnderObservation: a call gets what it would get without us, which knows none of these options, and the
// very error that gRPC returned.
func TestOptionsUnderObservation(t *testing.T) {
	for _, mode := range []steady.Mode{steady.ModeObserve, steady.ModeOff} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				want := unavailable("down")
				s := always(answer{err: want, from: "a", after: time.Second})
				c := newClient(t, s, []steady.Rule{{Methods: []string{""}, Mode: mode, Retry: &retry.Config{MaxAttempts: 1}}}, wide)
				start := time.Now()
				_, err := c.call(t.Context(), get, steady.Timeout(time.Millisecond), steady.MaxAttempts(5), steady.Idempotent())
				if err != want { //nolint:errorlint // this very value
					t.Errorf("%#v, want what gRPC returned", err)
				}
				if _, err := c.call(t.Context(), get); err != want { //nolint:errorlint // this very value
					t.Errorf("%#v, want what gRPC returned", err)
				}
				if took := time.Since(start); took != 2*time.Second || len(s.attempts()) != 2 {
					t.Errorf("two calls took %v and %d attempts", took, len(s.attempts()))
				}
			})
		})
	}
}

// TestATimeoutOfAStreamUnderObservation cuts nothing.
func TestATimeoutOfAStreamUnderObservation(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		rules := streamRule()
		rules[0].Mode = steady.ModeObserve
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		s, err := echov1.NewEchoClient(dial(fleet, outbound(t, rules))).Chat(within(t, time.Minute), steady.Timeout(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			sendAll(t, s, &req{Text: "x"}, 1)
			if _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
	})
}

// TestAnAttemptThatWouldHaveBeenCutIsOver: what it ends with later is no reason for another would-have retry, and no
// second failure.
func TestAnAttemptThatWouldHaveBeenCutIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := new(recorder)
		c := newClient(t, always(answer{from: "a", after: time.Second, err: unavailable("late")}), []steady.Rule{{
			Methods: []string{""}, Mode: steady.ModeObserve, Retry: &retry.Config{}, Breaker: &breaker.Config{},
			Deadline: &deadline.Config{AttemptTimeout: 50 * time.Millisecond},
		}}, wide, steady.WithObserver(rec))
		_, err := c.call(t.Context(), get)
		wantCode(t, err, codes.Unavailable)
		told := of[steady.Retried](rec)
		if len(told) != 1 || told[0].Code != codes.DeadlineExceeded {
			t.Errorf("%d retries told, first %+v; want that of the cut alone", len(told), told[0])
		}
		if b := c.out.Snapshot().Channels[0].Breakers[0]; b.Calls != 1 || b.Failures != 1 {
			t.Errorf("%+v, want one failure", b)
		}
	})
}
