package dns_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/resolver/dns"
	"github.com/grpcsteady/steady/resolver/internal/resolvertest"
)

// story is a resolver in a bubble.
type story struct {
	*zone
	t       *testing.T
	channel *resolvertest.Channel
	res     resolver.Resolver

	mu   sync.Mutex
	errs []string
}

// tell builds a resolver whose jitter is always the middle: it looks every 27 s.
func tell(t *testing.T, target string, data map[string]any, scenario func(s *story), opts ...dns.Option) {
	t.Helper()
	steadytest.Run(t, func(t *testing.T) {
		s := &story{zone: newZone(data), t: t, channel: new(resolvertest.Channel)}
		half := func() float64 { return 0.5 }
		b := dns.Builder(append([]dns.Option{s.using(), dns.Random(half), dns.OnError(s.hear)}, opts...)...)
		s.res = resolvertest.Build(t, b, target, s.channel)
		scenario(s)
	})
}

func (s *story) hear(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = append(s.errs, err.Error())
}

// after lets time pass, and compares what the channel was told.
func (s *story) after(d time.Duration, want ...string) {
	s.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	s.channel.Expect(s.t, want...)
}

// heard compares the errors that were told, by a part of each.
func (s *story) heard(want ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	same := len(want) == len(s.errs)
	for i := 0; same && i < len(want); i++ {
		same = strings.Contains(s.errs[i], want[i])
	}
	if !same {
		s.t.Errorf("heard %q, want %q", s.errs, want)
	}
	s.errs = nil
}

const name = "dns:///orders:1"

func TestScaleUpIsSeenWithinAPeriod(t *testing.T) {
	tell(t, name, map[string]any{"A orders": "10.0.0.1"}, func(s *story) {
		s.after(0, "10.0.0.1:1")
		s.after(time.Hour) // nothing new is nothing told
		s.set("A orders", "10.0.0.2 10.0.0.1 10.0.0.3")
		s.after(30*time.Second, "10.0.0.2:1 10.0.0.1:1 10.0.0.3:1")
		s.set("A orders", "10.0.0.1 10.0.0.3 10.0.0.2") // name servers turn their answers
		s.after(time.Hour)
		s.set("A orders", "10.0.0.3")
		s.after(30*time.Second, "10.0.0.3:1")
		s.heard()
	})
}

// TestNoPollWithoutJitter: each wait is from four fifths of the period to all of it.
func TestNoPollWithoutJitter(t *testing.T) {
	draws := []float64{0, 0.25, 0.5, 0.999}
	n := 0
	var mu sync.Mutex
	random := func() float64 {
		mu.Lock()
		defer mu.Unlock()
		n++
		return draws[n%len(draws)]
	}
	tell(t, name, map[string]any{"A orders": "10.0.0.1"}, func(s *story) {
		time.Sleep(10 * time.Minute)
		at := s.times()
		var waits []time.Duration
		for i := range at[1:] {
			waits = append(waits, at[i+1].Sub(at[i]).Round(100*time.Millisecond))
		}
		slices.Sort(waits)
		if got := fmt.Sprint(slices.Compact(waits)); got != "[24s 27s 28.5s 30s]" {
			t.Errorf("waited %v, want 24s, 27s, 28.5s and 30s in turn", got)
		}
	}, dns.Random(random))
}

func TestStormsAreOneQuestion(t *testing.T) {
	tell(t, name, map[string]any{"A orders": "10.0.0.1"}, func(s *story) {
		s.after(0, "10.0.0.1:1")
		s.times()
		start := time.Now()
		for range 10_000 { // ten seconds of a storm
			s.res.ResolveNow(resolver.ResolveNowOptions{})
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		var got []time.Duration
		for _, at := range s.times() {
			got = append(got, at.Sub(start).Round(100*time.Millisecond))
		}
		if fmt.Sprint(got) != "[5s 10s]" {
			t.Errorf("asked at %v, want at 5s and 10s", got)
		}
		time.Sleep(10 * time.Second)
		s.times()
		s.set("A orders", "10.0.0.2")
		s.res.ResolveNow(resolver.ResolveNowOptions{}) // long after the last answer
		s.after(0, "10.0.0.2:1")
	})
}

func TestErrorsHoldTheList(t *testing.T) {
	tell(t, name, map[string]any{"A orders": "10.0.0.1"}, func(s *story) {
		s.after(0, "10.0.0.1:1")
		s.set("A orders", servfail)
		s.after(24 * time.Hour)
		s.heard("dns: dns:///orders:1: lookup x: server misbehaving")
		s.times()
		time.Sleep(10 * time.Minute)
		if n := len(s.times()); n != 20 {
			t.Errorf("asked %d times in 10 minutes of errors, want 20", n)
		}
		s.set("A orders", "10.0.0.2")
		s.after(time.Minute, "10.0.0.2:1")
		s.heard()
	})
}

func TestEmptyAnswersHoldTheListForTheGraceTime(t *testing.T) {
	for _, empty := range []any{nil, ""} { // no such name, and a name without an address
		tell(t, name, map[string]any{"A orders": "10.0.0.1"}, func(s *story) {
			s.after(0, "10.0.0.1:1")
			s.set("A orders", empty)
			s.after(27*time.Second + 5*time.Minute - 1) // the answer came after 27 s
			s.heard("the last list is held for 5m0s")
			s.after(1, "none", "error: dns: dns:///orders:1: *")
			s.after(30*time.Second, "error: dns: dns:///orders:1: *") // new calls hear it again
			s.set("A orders", "10.0.0.2")
			s.after(time.Minute, "10.0.0.2:1")
		})
	}
}

// TestAnErrorIsNoEmptyAnswer: a list that is held in grace is held on while nobody knows.
func TestAnErrorIsNoEmptyAnswer(t *testing.T) {
	tell(t, name, map[string]any{"A orders": "10.0.0.1"}, func(s *story) {
		s.after(0, "10.0.0.1:1")
		s.set("A orders", nil)
		s.after(time.Minute)
		s.set("A orders", servfail)
		s.after(time.Hour)
		if n := len(s.times()); n > 200 {
			t.Errorf("asked %d times in an hour", n)
		}
		s.set("A orders", "10.0.0.1")
		s.after(time.Minute)
		s.set("A orders", nil)
		s.after(4 * time.Minute) // a grace time of its own
	})
}

func TestTheFirstAnswer(t *testing.T) {
	tell(t, name, map[string]any{"A orders": servfail}, func(s *story) {
		s.after(0, "error: dns: dns:///orders:1: lookup x: server misbehaving")
		s.set("A orders", nil)
		s.after(time.Second, "error: dns: dns:///orders:1: lookup orders: no such host")
		s.set("A orders", "10.0.0.1")
		s.after(1600*time.Millisecond, "10.0.0.1:1")
		s.heard("misbehaving", "no such host")
	})
}

func TestFamilies(t *testing.T) {
	tell(t, name, map[string]any{"A orders": "10.0.0.1", "AAAA orders": "2001:db8::1"}, func(s *story) {
		s.after(0, "[2001:db8::1]:1+10.0.0.1:1") // one server
		s.set("AAAA orders", servfail)           // which says nothing about its addresses
		s.after(time.Hour)
		s.heard("misbehaving")
		s.set("AAAA orders", "2001:db8::1 2001:db8::2") // nobody knows which of them has 10.0.0.1
		s.after(time.Minute, "[2001:db8::1]:1 [2001:db8::2]:1 10.0.0.1:1")
		s.set("AAAA orders", nil)
		s.after(time.Minute, "10.0.0.1:1")
		s.set("A orders", "::ffff:10.0.0.1 10.0.0.1") // the same
		s.after(time.Minute)
		s.set("A orders", nil)
		s.set("AAAA orders", "2001:db8::1")
		s.after(time.Minute, "[2001:db8::1]:1")
	})
}

func TestAFamilyThatWasNeverKnown(t *testing.T) {
	tell(t, name, map[string]any{"A orders": "10.0.0.1", "AAAA orders": servfail}, func(s *story) {
		s.after(0, "10.0.0.1:1")
		s.heard("misbehaving")
	})
}

const service = "dns:///_grpc._tcp.orders"

func TestService(t *testing.T) {
	tell(t, service, map[string]any{
		"SRV _grpc._tcp.orders": "10 1 50053 c.\n5 3 50051 a.\n5 2 50052 b.\n0 0 1 .",
		"A a":                   "10.0.0.1", "AAAA a": "2001:db8::1", "A b": "10.0.0.2", "A c": "10.0.0.3",
	}, func(s *story) {
		s.after(0, "[2001:db8::1]:50051+10.0.0.1:50051?weight=3 10.0.0.2:50052?weight=2 10.0.0.3:50053?weight=1&priority=1")
		s.set("A b", nil) // it left; the others stay
		s.after(time.Minute, "[2001:db8::1]:50051+10.0.0.1:50051?weight=3 10.0.0.3:50053?weight=1&priority=1")
		s.heard()
		s.set("A c", servfail) // nobody knows
		s.after(time.Hour)
		s.heard("misbehaving")
		s.set("SRV _grpc._tcp.orders", "0 0 1 .") // not to be had
		s.after(4 * time.Minute)
		s.after(2*time.Minute, "none", "error: dns: dns:///_grpc._tcp.orders: lookup _grpc._tcp.orders: the service is not to be had", "error: *")
	})
}

func TestServiceWeights(t *testing.T) {
	for _, tt := range []struct{ srv, want string }{
		{"0 0 1 a.\n0 0 2 b.", "10.0.0.1:1?weight=1 10.0.0.2:2?weight=1"},
		{"0 5 1 a.\n0 0 2 b.", "10.0.0.1:1?weight=60 10.0.0.2:2?weight=1"},
		{"0 6 1 a.\n0 6 2 many.", "10.0.0.1:1?weight=72 10.0.0.7:2?weight=24 10.0.0.8:2?weight=24 10.0.0.9:2?weight=24"},
		{"0 1 1 a.\n0 1 1 A.", "10.0.0.1:1?weight=1"},
		{"0 65535 1 a.\n0 0 2 b.", "10.0.0.1:1?weight=786420 10.0.0.2:2?weight=1"},
	} {
		tell(t, service, map[string]any{
			"SRV _grpc._tcp.orders": tt.srv, "A a": "10.0.0.1", "A b": "10.0.0.2", "A many": "10.0.0.7 10.0.0.8 10.0.0.9",
		}, func(s *story) { s.after(0, tt.want) })
	}
}

func TestFirstOnly(t *testing.T) {
	tell(t, service, map[string]any{
		"SRV _grpc._tcp.orders": "1 1 1 gone.\n2 1 1 a.\n3 1 1 b.", "A a": "10.0.0.1", "A b": "10.0.0.2",
	}, func(s *story) {
		s.after(0, "10.0.0.1:1?weight=1")
		s.set("A a", nil)
		s.after(time.Minute, "10.0.0.2:1?weight=1")
	}, dns.FirstOnly())
}

func TestLiteral(t *testing.T) {
	for target, want := range map[string]string{
		"dns:///10.0.0.1":          "10.0.0.1:443",
		"dns:///10.0.0.1:1":        "10.0.0.1:1",
		"dns:///[2001:db8::1]:1":   "[2001:db8::1]:1",
		"dns:///2001:db8::1":       "[2001:db8::1]:443",
		"dns:///[2001:db8::1]":     "[2001:db8::1]:443",
		"dns:///[::ffff:10.0.0.1]": "10.0.0.1:443",
	} {
		tell(t, target, nil, func(s *story) {
			s.res.ResolveNow(resolver.ResolveNowOptions{})
			s.after(time.Hour, want)
		})
	}
}

// TestCloseInTheMiddle of a question takes no time.
func TestCloseInTheMiddle(t *testing.T) {
	tell(t, name, map[string]any{"A orders": hang{}, "AAAA orders": hang{}}, func(s *story) {
		s.after(time.Second)
		start := time.Now()
		s.res.Close()
		if took := time.Since(start); took != 0 {
			t.Errorf("Close took %v", took)
		}
		s.after(time.Hour)
	})
}

func TestTimeout(t *testing.T) {
	tell(t, name, map[string]any{"A orders": hang{}, "AAAA orders": "2001:db8::1"}, func(s *story) {
		s.after(10*time.Second, "[2001:db8::1]:1")
		s.heard("context deadline exceeded")
	})
}

func TestARefusedListIsOfferedAgain(t *testing.T) {
	tell(t, name, map[string]any{"A orders": "10.0.0.1"}, func(s *story) {
		s.channel.Refuse(errors.New("not now"))
		s.after(3*time.Second, "10.0.0.1:1", "10.0.0.1:1", "10.0.0.1:1") // at 0, 1 and 2.6 s
		s.heard("dns:///orders:1: the channel refuses what was resolved: not now")
		s.channel.Refuse(nil)
		s.after(time.Hour, "10.0.0.1:1")
	})
}

func TestBadOptions(t *testing.T) {
	for _, tt := range []struct {
		opt  dns.Option
		want string
	}{
		{dns.Every(0), "Every is 0s, want 100ms to 24h0m0s"},
		{dns.MinInterval(time.Minute), "MinInterval is 1m0s, want 0s to 30s"},
		{dns.Grace(-1), "Grace is -1ns, want 0s to 24h0m0s"},
		{dns.Timeout(time.Hour), "Timeout is 1h0m0s, want 10ms to 1m0s"},
		{dns.Using(nil), "Using is nil"},
	} {
		_, err := dns.Builder(tt.opt).Build(resolvertest.Target(t, name), new(resolvertest.Channel), resolver.BuildOptions{})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
}
