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

	"github.com/grpcsteady/steady/balancer/attempt"
	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// TestAGateSeesEachAttempt: method, number, channel, whether it is a stream, and from the second attempt on where
// the call has been, which a balancer that knows nothing of us has not told: the connection has.
func TestAGateSeesEachAttempt(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		var seen []string
		gate := gateFunc(func(ctx context.Context) (func(error), error) {
			a := attempt.From(ctx)
			seen = append(seen, fmt.Sprint(a.Channel, a.Method, " ", a.Number, " stream=", a.Stream, " avoids=", a.Avoids("a")))
			return func(error) {}, nil
		})
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		fleet.Behave(steadytest.InTurn(steadytest.Failing(codes.Unavailable, 1), steadytest.Healthy()))
		out := outbound(t, retryRule("/steady.echo.v1.Echo/"), wide, steady.WithGate("see", gate))
		client := echov1.NewEchoClient(fleet.Dial(out.DialOptions(steady.ChannelName("orders"))...))
		if _, err := client.Get(within(t, time.Minute), &req{}); err != nil {
			t.Fatal(err)
		}
		s, err := client.List(within(t, time.Minute), &req{Count: 1})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = drain(s)
		want := []string{
			"orders" + get + " 1 stream=false avoids=false",
			"orders" + get + " 2 stream=false avoids=true",
			"orders" + list + " 1 stream=true avoids=false",
		}
		if fmt.Sprint(seen[:3]) != fmt.Sprint(want) {
			t.Errorf("the gate saw\n%q, want\n%q", seen, want)
		}
	})
}

// TestAGateLearnsTheSource: the error of a failure names the endpoint and is still the server's.
func TestAGateLearnsTheSource(t *testing.T) {
	var told error
	gate := gateFunc(func(context.Context) (func(error), error) { return func(err error) { told = err }, nil })
	c := newClient(t, always(answer{err: unavailable("sick"), from: "host7"}), nil, steady.WithGate("learn", gate))
	_, err := c.call(t.Context(), get)
	wantCode(t, err, codes.Unavailable)
	source, ok := errors.AsType[interface {
		error
		Source() string
	}](told)
	if !ok || source.Source() != "host7" || status.Code(told) != codes.Unavailable {
		t.Errorf("the gate was told %v", told)
	}
}

// TestAGateLearnsWhatAClassifierSaw in a reply without an error.
func TestAGateLearnsWhatAClassifierSaw(t *testing.T) {
	told := errors.New("not told")
	gate := gateFunc(func(context.Context) (func(error), error) { return func(err error) { told = err }, nil })
	c := newClient(t, always(answer{from: "a"}), nil, steady.WithGate("learn", gate),
		steady.WithClassifier(func(string, any, error) steady.Verdict { return steady.VerdictFailure }))
	if _, err := c.call(t.Context(), get); err != nil {
		t.Fatal(err)
	}
	if told == nil || errors.Is(told, context.Canceled) || told.Error() == "not told" {
		t.Errorf("the gate was told %v, want a failure", told)
	}
}

// TestOrder: deadline, then breaker, then the user's gates; who refuses spares those after him.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		gate := gateFunc(func(context.Context) (func(error), error) { asked++; return nil, nil }) //nolint:nilnil // a gate that wants to know nothing of the end
		s := always(answer{from: "a", after: 100 * time.Millisecond})
		rules := breakerRule(countOnly)
		rules[0].Deadline = &deadline.Config{Feasibility: deadline.FeasibilityAll}
		c := newClient(t, s, rules, steady.WithGate("count", gate))
		for range 30 {
			if _, err := c.call(t.Context(), get); err != nil {
				t.Fatal(err)
			}
		}
		refused := func(want error, d time.Duration) {
			t.Helper()
			before := asked
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			if _, err := c.call(ctx, get); !errors.Is(err, want) {
				t.Fatalf("%v, want %v", err, want)
			}
			if asked != before {
				t.Errorf("%v, and the gate after it was asked all the same", want)
			}
		}
		// The first call that is too short goes as a probe.
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, _ = c.call(ctx, get)
		refused(deadline.ErrExhausted, time.Millisecond)
		s.become(func(int) answer { return answer{err: unavailable("x"), from: "a"} })
		for range 5 {
			_, _ = c.call(t.Context(), get)
		}
		refused(breaker.ErrOpen, time.Minute)
		refused(deadline.ErrExhausted, time.Millisecond) // which comes before the open breaker
	})
}

// TestAGateThatRefusesAProbe gives its slot back: the next caller is the probe.
func TestAGateThatRefusesAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := false
		gate := gateFunc(func(context.Context) (func(error), error) {
			if closed {
				return nil, errors.New("closed")
			}
			return func(error) {}, nil
		})
		s := always(answer{err: unavailable("down"), from: "a"})
		c := newClient(t, s, breakerRule(countOnly), steady.WithGate("door", gate))
		for range 5 {
			_, _ = c.call(t.Context(), get)
		}
		s.become(func(int) answer { return answer{from: "a"} })
		time.Sleep(5 * time.Second)
		closed = true
		for range 3 {
			var refused *steady.RefusedError
			if _, err := c.call(t.Context(), get); !errors.As(err, &refused) || refused.Gate != "door" {
				t.Fatalf("%v, want a refusal by the door", err)
			}
		}
		if got := state(t, c.out); got != breaker.HalfOpen {
			t.Errorf("breaker %v: a refusal is neither success nor failure", got)
		}
		closed = false
		for range 2 {
			if _, err := c.call(t.Context(), get); err != nil {
				t.Fatal(err)
			}
		}
		if got := state(t, c.out); got != breaker.Closed {
			t.Errorf("breaker %v", got)
		}
	})
}

// TestARefusedStreamHoldsNothing: gates that admitted it are told, and its probe is free again.
func TestARefusedStreamHoldsNothing(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		open, closed := 0, false
		count := gateFunc(func(context.Context) (func(error), error) {
			open++
			return func(error) { open-- }, nil
		})
		door := gateFunc(func(context.Context) (func(error), error) {
			if closed {
				return nil, errors.New("closed")
			}
			return func(error) {}, nil
		})
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		fleet.Behave(steadytest.Failing(codes.Unavailable, 1))
		out := outbound(t, breakerRule(countOnly), steady.WithGate("count", count), steady.WithGate("door", door))
		client := echov1.NewEchoClient(dial(fleet, out))
		for range 5 {
			_, err := talk(within(t, time.Second), client, "server")
			wantCode(t, err, codes.Unavailable)
		}
		time.Sleep(5 * time.Second)
		fleet.Behave(nil)
		closed = true
		_, err := talk(within(t, time.Second), client, "server")
		wantCode(t, err, codes.Unavailable)
		var refused *steady.RefusedError
		if !errors.As(err, &refused) || refused.Gate != "door" || open != 0 {
			t.Fatalf("%v, %d slots taken", err, open)
		}
		closed = false
		for range 2 {
			if _, err := talk(within(t, time.Second), client, "server"); err != nil {
				t.Fatal(err)
			}
		}
		if got := state(t, out); got != breaker.Closed || open != 0 {
			t.Errorf("breaker %v, %d slots taken", got, open)
		}
	})
}

// TestAGateHasNoWordForPerhaps: UNKNOWN is a failure to it, where the rule's breaker takes it for its ratio only.
func TestAGateHasNoWordForPerhaps(t *testing.T) {
	var told error
	gate := gateFunc(func(context.Context) (func(error), error) { return func(err error) { told = err }, nil })
	c := newClient(t, always(answer{err: status.Error(codes.Unknown, "oops"), from: "a"}), breakerRule(countOnly), steady.WithGate("learn", gate))
	for range 9 {
		_, err := c.call(t.Context(), get)
		wantCode(t, err, codes.Unknown)
	}
	if told == nil || errors.Is(told, context.Canceled) {
		t.Errorf("the gate was told %v", told)
	}
	if got := state(t, c.out); got != breaker.Closed {
		t.Errorf("breaker %v", got)
	}
}
