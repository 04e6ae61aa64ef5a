package steady_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/balancer/attempt"
	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/steady"
)

// These tests stand in for a picker of ours: it finds the attempt in the context and writes to it.

// TestAPickersWordOnWhatWasSent decides whether a call that nobody described may be tried again, whatever the
// connection seems to say.
func TestAPickersWordOnWhatWasSent(t *testing.T) {
	for _, tt := range []struct {
		name string
		sent attempt.Sent
		from string
		want int // attempts
	}{
		{"nothing was sent, though there is a connection", attempt.SentNo, "a", 3},
		{"something was sent, though no connection is known", attempt.SentYes, "", 1},
		{"no picker told, and there is a connection", attempt.SentUnknown, "a", 1},
		{"no picker told, and there is none", attempt.SentUnknown, "", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := always(answer{err: unavailable("x"), from: tt.from, do: func(ctx context.Context) {
					if tt.sent != attempt.SentUnknown {
						attempt.From(ctx).SetSent(tt.sent == attempt.SentYes)
					}
				}})
				c := newClient(t, s, retryRule(""), wide)
				_, err := c.call(t.Context(), post)
				wantCode(t, err, codes.Unavailable)
				if n := len(s.attempts()); n != tt.want {
					t.Errorf("%d attempts, want %d", n, tt.want)
				}
			})
		})
	}
}

// TestAPickersWordOnEndpoints: which one it was, and how many there are, so that a breaker can tell one sick host
// from a dead service at once.
func TestAPickersWordOnEndpoints(t *testing.T) {
	for _, tt := range []struct {
		name      string
		endpoints int
		picked    func(n int) string
		want      breaker.State
	}{
		{"one of five", 5, func(int) string { return "pod-1" }, breaker.Closed},
		{"two of five", 5, func(n int) string { return fmt.Sprint("pod-", n%2) }, breaker.Open},
		{"the only one", 1, func(int) string { return "pod-1" }, breaker.Open},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				s := always(answer{err: unavailable("x"), from: "10.0.0.1:1", do: func(ctx context.Context) {
					n++
					name := tt.picked(n)
					a := attempt.From(ctx)
					a.SetEndpoints(tt.endpoints)
					a.SetPicked(&name)
					a.SetSent(true)
				}})
				var report steady.Report
				c := newClient(t, s, breakerRule(countOnly))
				for range 5 {
					_, err := c.call(t.Context(), get, steady.ReportTo(&report))
					wantCode(t, err, codes.Unavailable)
				}
				if got := state(t, c.out); got != tt.want {
					t.Errorf("breaker %v, want %v", got, tt.want)
				}
				if got, want := report.Attempts[0].Endpoint, tt.picked(5); got != want {
					t.Errorf("the story names %q, want the picker's name %q", got, want)
				}
			})
		})
	}
}

// TestTheNextAttemptAvoidsWhereTheCallHasBeen: each attempt has its own word for the picker, and all of the call's
// are told which endpoints were tried.
func TestTheNextAttemptAvoidsWhereTheCallHasBeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names := []string{"a", "b", "c"}
		var picks []string
		s := always(answer{err: unavailable("x"), do: func(ctx context.Context) {
			a := attempt.From(ctx)
			if a.AvoidsAny() != (a.Number > 1) {
				t.Errorf("attempt %d: AvoidsAny %v", a.Number, a.AvoidsAny())
			}
			for i := range names {
				if !a.Avoids(names[i]) {
					a.SetPicked(&names[i])
					break
				}
			}
			a.SetSent(true)
			picks = append(picks, a.Picked())
		}})
		rec := new(recorder)
		c := newClient(t, s, retryRule(""), wide, steady.WithObserver(rec))
		_, err := c.call(t.Context(), get)
		wantCode(t, err, codes.Unavailable)
		_, err = c.call(t.Context(), get) // another call has been nowhere
		wantCode(t, err, codes.Unavailable)
		if got := fmt.Sprint(picks); got != "[a b c a b c]" {
			t.Errorf("picked %s", got)
		}
		for _, e := range of[steady.CallEnded](rec) {
			if e.Elsewhere != 2 {
				t.Errorf("%d attempts elsewhere, want 2", e.Elsewhere)
			}
		}
		for i, e := range of[steady.AttemptEnded](rec) {
			if e.Endpoint() != names[i%3] {
				t.Errorf("attempt %d ended at %q", i+1, e.Endpoint())
			}
		}
	})
}
