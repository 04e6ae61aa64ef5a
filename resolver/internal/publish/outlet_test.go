package publish_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/resolver/endpoint"
	"github.com/grpcsteady/steady/resolver/internal/publish"
	"github.com/grpcsteady/steady/resolver/internal/resolvertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// outlet is an outlet in a bubble, and what it told.
type outlet struct {
	*publish.Outlet
	channel *resolvertest.Channel
	errs    []string
}

func run(t *testing.T, scenario func(t *testing.T, o *outlet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o := &outlet{channel: new(resolvertest.Channel)}
		half := func() float64 { return 0.5 } // no jitter
		o.Outlet = publish.Open(o.channel, "x:///y", half, func(err error) { o.errs = append(o.errs, err.Error()) })
		scenario(t, o)
		o.Close()
	})
}

// told compares the errors since the last time.
func (o *outlet) told(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	if !slices.Equal(o.errs, want) {
		t.Errorf("told %q, want %q", o.errs, want)
	}
	o.errs = nil
}

func list(addrs ...string) (s publish.State) {
	for _, a := range addrs {
		s.Endpoints = append(s.Endpoints, endpoint.New(a))
	}
	return s
}

func TestTheNewestCountsAndNothingTwice(t *testing.T) {
	run(t, func(t *testing.T, o *outlet) {
		o.Publish(list("a"), nil)
		o.Publish(list("a", "b"), nil)
		synctest.Wait()
		o.channel.Expect(t, "a b")
		o.Publish(list("b", "a"), nil) // another order
		synctest.Wait()
		o.channel.Expect(t)
		s := list("b", "a")
		s.Endpoints[0] = endpoint.WithWeight(s.Endpoints[0], 2)
		o.Publish(s, nil)
		synctest.Wait()
		o.channel.Expect(t, "b?weight=2 a")
	})
}

func TestErrors(t *testing.T) {
	run(t, func(t *testing.T, o *outlet) {
		o.Fail(errors.New("no answer"))
		synctest.Wait()
		o.channel.Expect(t, "error: no answer")
		o.told(t, "no answer")
		o.Fail(errors.New("no answer"))
		synctest.Wait()
		o.channel.Expect(t, "error: no answer") // a call that begins now hears it
		o.told(t)                               // the log does not
		o.Publish(list("a"), nil)
		synctest.Wait()
		o.channel.Expect(t, "a")
		o.Fail(errors.New("no answer"))
		o.told(t, "no answer")
		o.channel.Expect(t) // calls have a list
		o.Publish(list("a"), errors.New("half an answer"))
		o.told(t, "half an answer")
		o.Publish(list("a"), errors.New("half an answer"))
		o.told(t)
		o.Withdraw(errors.New("nobody is left"))
		o.told(t, "nobody is left")
		o.channel.Expect(t, "none", "error: nobody is left")
		o.Fail(errors.New("still nobody"))
		synctest.Wait()
		o.channel.Expect(t, "error: still nobody")
		o.Publish(list("a"), nil)
		synctest.Wait()
		o.channel.Expect(t, "a")
	})
}

func TestBackoff(t *testing.T) {
	run(t, func(t *testing.T, o *outlet) {
		start := time.Now()
		o.channel.Refuse(errors.New("no"))
		o.Publish(list("a"), nil)
		o.told(t, "x:///y: the channel refuses what was resolved: no")
		var at []int64
		for time.Since(start) < 10*time.Minute {
			if n := len(o.channel.Told()); n > 0 {
				at = append(at, time.Since(start).Round(100*time.Millisecond).Milliseconds())
			}
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		// 1 s, 1.6 s, 2.56 s, and so on, as seen ten times a second.
		want := []int64{0, 1000, 2600, 5200, 9300, 15900, 26300, 43100, 70000, 112900, 181600, 291600, 411600, 531600}
		if !slices.Equal(at, want) {
			t.Errorf("offered at %v ms, want %v", at, want)
		}
		o.told(t) // once is enough
		o.channel.Refuse(nil)
		o.Publish(list("b"), nil) // no waiting
		synctest.Wait()
		o.channel.Expect(t, "b")
		time.Sleep(time.Hour)
		o.channel.Expect(t)
	})
}

func TestServiceConfigs(t *testing.T) {
	run(t, func(t *testing.T, o *outlet) {
		s := list("a")
		s.Config, s.Plain = "full", "plain"
		o.Publish(s, nil)
		synctest.Wait()
		o.channel.Expect(t, "a full")
		o.Withdraw(errors.New("nobody is left")) // which says nothing about rules
		synctest.Wait()
		o.channel.Expect(t, "none full", "error: nobody is left")
		o.told(t, "nobody is left")
		s.Config = "bad full"
		o.Publish(s, nil)
		synctest.Wait()
		o.channel.Expect(t, "a plain")
		s.Plain = "bad plain"
		o.Publish(s, nil)
		synctest.Wait()
		o.channel.Expect(t, "a bad full")
		o.told(t, "x:///y: the channel refuses what was resolved: service config: it is bad")
	})
}

// TestAnEndpointThatIsOut stays out of the form that knows no weights.
func TestAnEndpointThatIsOut(t *testing.T) {
	run(t, func(t *testing.T, o *outlet) {
		c := &addresses{Channel: o.channel}
		other := publish.Open(c, "x", nil, nil)
		defer other.Close()
		s := list("a", "b")
		s.Endpoints[0] = endpoint.WithWeight(s.Endpoints[0], 0)
		other.Publish(s, nil)
		synctest.Wait()
		other.Publish(publish.State{Endpoints: s.Endpoints[:1]}, nil)
		synctest.Wait()
		if want := []string{"b", "a"}; !slices.Equal(c.seen, want) {
			t.Errorf("addresses %q, want %q", c.seen, want)
		}
	})
}

type addresses struct {
	*resolvertest.Channel
	seen []string
}

func (a *addresses) UpdateState(s resolver.State) error {
	for _, addr := range s.Addresses {
		a.seen = append(a.seen, addr.Addr)
	}
	return nil
}
