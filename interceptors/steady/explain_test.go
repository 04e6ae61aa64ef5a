package steady_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
)

func TestExplain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStub(func(n int) answer {
			switch n {
			case 1:
				return answer{err: unavailable("x"), from: "a", after: 8 * time.Millisecond}
			case 2:
				return answer{err: unavailable("y"), from: "b", after: 4 * time.Millisecond}
			default:
				return answer{after: time.Hour, from: "c"}
			}
		})
		c := newClient(t, s, []steady.Rule{{
			Name: "orders", Methods: []string{get}, RetryOn: []codes.Code{codes.Unavailable, codes.DeadlineExceeded},
			Retry:    &retry.Config{InitialBackoff: 10 * time.Millisecond, Jitter: retry.NoJitter},
			Deadline: &deadline.Config{Default: 500 * time.Millisecond, AttemptTimeout: 300 * time.Millisecond},
		}}, wide)
		_, err := c.call(t.Context(), get)
		const want = "steady.echo.v1.Echo/Get: DEADLINE_EXCEEDED after 3 attempts, 342ms of 500ms: " +
			"a UNAVAILABLE 8ms, b UNAVAILABLE 4ms, c DEADLINE_EXCEEDED 300ms; stopped: attempts; rule orders"
		if got := steady.Explain(err); got != want {
			t.Errorf("\n%s, want\n%s", got, want)
		}
	})
}

func TestExplainOtherErrors(t *testing.T) {
	refused := &steady.RefusedError{Gate: "breaker", Method: get, RetryAfter: 1500 * time.Millisecond, Err: breaker.ErrOpen}
	for _, tt := range []struct {
		give error
		want string
	}{
		{nil, "OK"},
		{errors.New("plain"), "plain"},
		{status.Error(codes.NotFound, "no such order"), "rpc error: code = NotFound desc = no such order"},
		{refused, "/steady.echo.v1.Echo/Get refused by breaker: breaker: open (retry after 1.5s)"},
		{fmt.Errorf("loading: %w", refused), "loading: /steady.echo.v1.Echo/Get refused by breaker: breaker: open (retry after 1.5s)"},
	} {
		if got := steady.Explain(tt.give); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestRefusedErrorCodes(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want codes.Code
	}{
		{breaker.ErrOpen, codes.Unavailable},
		{deadline.ErrExhausted, codes.DeadlineExceeded},
		{errors.New("a gate of the user's"), codes.Unavailable},
		{status.Error(codes.ResourceExhausted, "full"), codes.ResourceExhausted},
		{fmt.Errorf("wrapped: %w", status.Error(codes.ResourceExhausted, "full")), codes.ResourceExhausted},
		{nil, codes.Unavailable},
	} {
		e := &steady.RefusedError{Gate: "g", Method: get, Err: tt.err}
		if got := status.Code(e); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
		if got := status.Code(fmt.Errorf("above: %w", e)); got != tt.want {
			t.Errorf("wrapped %v: %v, want %v", tt.err, got, tt.want)
		}
	}
}
