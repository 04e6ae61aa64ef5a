package main

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// guideChannel is a channel under the guide's rules to a fleet, and what its observer saw.
type guideChannel struct {
	fleet   *steadytest.Fleet
	out     *steady.Outbound
	client  echov1.EchoClient
	changes []breaker.Change
	ended   []steady.CallEnded
	tried   []time.Duration // starts of attempts since the start of the test
}

func newGuideChannel(t *testing.T, replicas ...string) *guideChannel {
	t.Helper()
	c := &guideChannel{fleet: steadytest.NewFleet(t, steadytest.Replicas(replicas...))}
	start := time.Now()
	observe := steady.ObserverFunc(func(e steady.Event) { // calls of these tests follow one another
		switch e := e.(type) {
		case *steady.BreakerChanged:
			c.changes = append(c.changes, e.Change)
		case *steady.AttemptEnded:
			c.tried = append(c.tried, e.Start.Sub(start))
		case *steady.CallEnded:
			c.ended = append(c.ended, *e)
		}
	})
	out, err := guideOutbound(steady.WithObserver(observe), steady.WithRandom(func() float64 { return 0 }))
	if err != nil {
		t.Fatal(err)
	}
	c.out, c.client = out, echov1.NewEchoClient(c.fleet.Dial(out.DialOptions()...))
	return c
}

func (c *guideChannel) get(opts ...grpc.CallOption) error {
	_, err := c.client.Get(context.Background(), &echov1.EchoRequest{}, opts...)
	return err
}

// states lists where the breaker went.
func (c *guideChannel) states() []breaker.State {
	var s []breaker.State
	for _, x := range c.changes {
		s = append(s, x.To)
	}
	return s
}

func TestGuideBreaker(t *testing.T) {
	fleets := map[string][]string{"one endpoint": {"a"}, "three endpoints": {"a", "b", "c"}}
	for name, replicas := range fleets {
		t.Run(name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) { testGuideBreaker(t, replicas) })
		})
	}
}

func testGuideBreaker(t *testing.T, replicas []string) {
	c := newGuideChannel(t, replicas...)
	if err := c.get(); err != nil { // all connections stand before the first failure
		t.Fatal(err)
	}
	c.fleet.Behave(steadytest.Failing(codes.Unavailable, 1))
	for n := 1; n <= guideFailures; n++ {
		if got := c.states(); len(got) != 0 {
			t.Fatalf("before failure %d the breaker went to %v, want closed", n, got)
		}
		if err := c.get(steady.NoRetry()); errors.Is(err, breaker.ErrOpen) || status.Code(err) != codes.Unavailable {
			t.Fatalf("call %d: %v, want the server's UNAVAILABLE", n, err)
		}
	}
	if want := []breaker.State{breaker.Open}; !slices.Equal(c.states(), want) {
		t.Fatalf("after %d failures: %v, want %v", guideFailures, c.states(), want)
	}
	opened := c.changes[0].At

	c.fleet.Forget()
	c.fleet.Behave(steadytest.Healthy())
	refused := func(when string) {
		t.Helper()
		if err := c.get(); !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("%s: %v, want ErrOpen", when, err)
		}
	}
	refused("at once")
	time.Sleep(time.Until(opened.Add(guideReset - 1)))
	refused("a nanosecond before the reset")
	if n := sum(c.fleet.Count()); n != 0 {
		t.Errorf("the servers saw %d calls while the breaker was open, want 0", n)
	}

	time.Sleep(1)
	if err := c.get(); err != nil {
		t.Fatalf("the first probe: %v", err)
	}
	if want := []breaker.State{breaker.Open, breaker.HalfOpen}; !slices.Equal(c.states(), want) {
		t.Fatalf("after 1 success: %v, want %v", c.states(), want)
	}
	if got := c.changes[1].At.Sub(opened); got != guideReset {
		t.Errorf("half-open after %v, want %v", got, guideReset)
	}
	if err := c.get(); err != nil {
		t.Fatalf("the second probe: %v", err)
	}
	if want := []breaker.State{breaker.Open, breaker.HalfOpen, breaker.Closed}; !slices.Equal(c.states(), want) {
		t.Fatalf("after %d successes: %v, want %v", guideSuccesses, c.states(), want)
	}
}

// The minute neither grows nor wavers.
func TestGuideBreakerReopens(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		c := newGuideChannel(t, "a")
		c.fleet.Behave(steadytest.Failing(codes.Unavailable, 1))
		for range guideFailures {
			_ = c.get(steady.NoRetry()) // its error is the point of the test above
		}
		for range 3 {
			opened := c.changes[len(c.changes)-1]
			if opened.To != breaker.Open || opened.OpenFor != guideReset {
				t.Fatalf("changed to %v for %v, want open for %v", opened.To, opened.OpenFor, guideReset)
			}
			time.Sleep(time.Until(opened.At.Add(guideReset)))
			if err := c.get(steady.NoRetry()); errors.Is(err, breaker.ErrOpen) {
				t.Fatalf("the probe was refused: %v", err)
			}
		}
	})
}

func TestGuideExcludesApplicationErrors(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		c := newGuideChannel(t, "a")
		for _, code := range []codes.Code{codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied} {
			c.fleet.Behave(steadytest.Failing(code, 1))
			for range 2 * guideFailures {
				if err := c.get(); status.Code(err) != code {
					t.Fatalf("got %v, want %v", err, code)
				}
			}
		}
		if got := c.states(); len(got) != 0 {
			t.Errorf("the breaker went to %v, want closed", got)
		}
	})
}

func TestGuideRetry(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		c := newGuideChannel(t, "a", "b")
		c.fleet.Behave(steadytest.Failing(codes.Unavailable, 1))
		if err := c.get(); status.Code(err) != codes.Unavailable { // the very first call of the channel
			t.Fatalf("got %v, want UNAVAILABLE", err)
		}
		if got := sum(c.fleet.Count()); got != guideAttempts {
			t.Errorf("the servers saw %d attempts, want %d", got, guideAttempts)
		}
		if got := c.ended[0]; got.Attempts != guideAttempts || got.Stop != retry.StopAttempts {
			t.Errorf("%d attempts, stopped by %v, want %d by attempts", got.Attempts, got.Stop, guideAttempts)
		}

		// What is not marked as safe to repeat is not repeated.
		c.fleet.Forget()
		if _, err := c.client.Post(context.Background(), &echov1.EchoRequest{}); status.Code(err) != codes.Unavailable {
			t.Fatalf("got %v, want UNAVAILABLE", err)
		}
		if got := sum(c.fleet.Count()); got != 1 {
			t.Errorf("Post: the servers saw %d attempts, want 1", got)
		}
	})
}

// No retry starts after ten seconds. Waits are zero here (see newGuideChannel), so starts depend only on how
// long an attempt takes before it fails.
func TestGuideRetryElapsed(t *testing.T) {
	tests := []struct {
		takes time.Duration
		want  []time.Duration
		stop  retry.Stop
	}{
		{4 * time.Second, []time.Duration{0, 4 * time.Second, 8 * time.Second}, retry.StopAttempts},
		{5 * time.Second, []time.Duration{0, 5 * time.Second, guideElapsed}, retry.StopAttempts},
		{5*time.Second + 1, []time.Duration{0, 5*time.Second + 1}, retry.StopElapsed},
		{guideElapsed + 1, []time.Duration{0}, retry.StopElapsed},
	}
	for _, test := range tests {
		t.Run(test.takes.String(), func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				c := newGuideChannel(t, "a")
				c.fleet.Behave(steadytest.All(steadytest.Slow(test.takes), steadytest.Failing(codes.Unavailable, 1)))
				if err := c.get(); status.Code(err) != codes.Unavailable {
					t.Fatalf("got %v, want UNAVAILABLE", err)
				}
				if !slices.Equal(c.tried, test.want) || c.ended[0].Stop != test.stop {
					t.Errorf("attempts at %v, stopped by %v, want %v by %v", c.tried, c.ended[0].Stop, test.want, test.stop)
				}
			})
		})
	}
}

// A server that says nothing is given up when the read timeout has passed, and a retry would come too late.
// Where reading may take longer, the total is what ends it.
func TestGuideReadAndTotal(t *testing.T) {
	tests := []struct {
		name   string
		read   time.Duration
		caller time.Duration // the caller's own deadline; 0: none
		want   time.Duration
	}{
		{"no deadline", guideRead, 0, guideRead},
		{"a longer one", guideRead, time.Hour, guideRead},
		{"a shorter one", guideRead, 7 * time.Second, 7 * time.Second},
		{"no read timeout", 0, 0, guideTotal},
		{"no read timeout, a longer deadline", 0, time.Hour, guideTotal},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				c := newGuideChannel(t, "a")
				rules := guideRules()
				rules[0].Deadline.AttemptTimeout = test.read
				if err := c.out.Update(rules); err != nil {
					t.Fatal(err)
				}
				c.fleet.Behave(steadytest.Hanging(1))
				ctx := context.Background()
				if test.caller > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.caller)
					defer cancel()
				}
				start := time.Now()
				_, err := c.client.Get(ctx, &echov1.EchoRequest{})
				if took := time.Since(start); took != test.want || status.Code(err) != codes.DeadlineExceeded {
					t.Errorf("%v after %v, want DEADLINE_EXCEEDED after %v", err, took, test.want)
				}
			})
		})
	}
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}
