package failover_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"

	_ "github.com/grpcsteady/steady/balancer/weighted"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/resolver/endpoint"
	"github.com/grpcsteady/steady/resolver/failover"
	"github.com/grpcsteady/steady/resolver/internal/resolvertest"
	"github.com/grpcsteady/steady/resolver/static"
)

func TestMain(m *testing.M) { steadytest.Main(m) }

// child is a resolver whose states a test makes.
type child struct {
	scheme string
	first  string // said while it is built
	fails  error  // to be built

	mu     sync.Mutex
	cc     resolver.ClientConn
	asked  int
	closed bool
}

func (c *child) Scheme() string { return c.scheme }

func (c *child) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	if c.fails != nil {
		return nil, c.fails
	}
	c.mu.Lock()
	c.cc, c.closed = cc, false
	c.mu.Unlock()
	if c.first != "" {
		_ = c.say(c.first)
	}
	return c, nil
}

func (c *child) ResolveNow(resolver.ResolveNowOptions) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
}

func (c *child) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

func (c *child) conn() resolver.ClientConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cc
}

// say publishes endpoints in the form of static's targets; "": an empty list.
func (c *child) say(list string) error {
	var s resolver.State
	if list != "" {
		endpoints, err := static.Parse(list)
		if err != nil {
			return err
		}
		s.Endpoints = endpoints
	}
	return c.conn().UpdateState(s)
}

// story is two groups in a bubble.
type story struct {
	*failing
	t       *testing.T
	channel *resolvertest.Channel
	a, b    *child
	res     resolver.Resolver
}

type failing struct {
	mu   sync.Mutex
	errs []string
}

func (f *failing) hear(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err.Error())
}

// heard returns what was told since the last time.
func (f *failing) heard() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	errs := f.errs
	f.errs = nil
	return errs
}

func tell(t *testing.T, scenario func(s *story), opts ...failover.Option) {
	t.Helper()
	steadytest.Run(t, func(t *testing.T) {
		s := &story{failing: new(failing), t: t, channel: new(resolvertest.Channel), a: &child{scheme: "a"}, b: &child{scheme: "b"}}
		builder := failover.Builder([]failover.Group{{"a:///primary", s.a}, {"b:///backup", s.b}}, append(opts, failover.OnError(s.hear))...)
		s.res = resolvertest.Build(t, builder, "failover:///orders", s.channel)
		scenario(s)
	})
}

func (s *story) after(d time.Duration, want ...string) {
	s.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	s.channel.Expect(s.t, want...)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestGroupsAreMerged(t *testing.T) {
	tell(t, func(s *story) {
		must(t, s.a.say("a:1?weight=3,a:2?priority=1"))
		s.after(0, "a:1?weight=3 a:2?priority=1")
		must(t, s.b.say("b:1,a:1,b:2?priority=2&zone=z")) // a:1 is the primary's
		s.after(0, "a:1?weight=3 a:2?priority=1 b:1?priority=2 b:2?zone=z&priority=4")
		must(t, s.a.say("a:1")) // what a group once had keeps its place, so that the others keep theirs
		s.after(0, "a:1 b:1?priority=2 b:2?zone=z&priority=4")
		s.res.ResolveNow(resolver.ResolveNowOptions{})
		if s.a.asked != 1 || s.b.asked != 1 {
			t.Errorf("asked %d and %d times, want both once", s.a.asked, s.b.asked)
		}
	})
}

func TestTheStartWaitsForThePrimary(t *testing.T) {
	tell(t, func(s *story) {
		must(t, s.b.say("b:1"))
		s.after(2*time.Second - 1)
		s.after(1, "b:1?priority=1")
		must(t, s.a.say("a:1"))
		s.after(0, "a:1 b:1?priority=1")
	})
	tell(t, func(s *story) {
		must(t, s.b.say("b:1"))
		s.after(time.Second)
		s.a.conn().ReportError(errors.New("no answer")) // nothing to wait for
		s.after(0, "b:1?priority=1")
	})
	tell(t, func(s *story) {
		must(t, s.b.say("b:1"))
		s.after(0, "b:1?priority=1")
	}, failover.Start(0))
}

func TestAGroupThatIsGone(t *testing.T) {
	for name, lose := range map[string]func(c *child){
		"empty": func(c *child) {
			if err := c.say(""); err == nil {
				t.Error("an empty list is no error: the resolver does not look again")
			}
		},
		"error": func(c *child) { c.conn().ReportError(errors.New("no answer")) },
	} {
		tell(t, func(s *story) {
			must(t, s.b.say("b:1"))
			must(t, s.a.say("a:1"))
			s.after(0, "a:1 b:1?priority=1")
			lose(s.a)
			s.after(5*time.Minute - 1)
			lose(s.a) // the time counts from the first
			s.after(1, "b:1?priority=1")
			if errs := s.heard(); len(errs) != 1 || !strings.Contains(errs[0], "failover: failover:///orders: group 0 (a:///primary): ") {
				t.Errorf("%s: heard %q, want group 0 once", name, errs)
			}
			must(t, s.a.say("a:2"))
			s.after(0, "a:2 b:1?priority=1")
			lose(s.a)
			s.after(time.Minute)
			must(t, s.a.say("a:2")) // back in time
			s.after(time.Hour)
		})
	}
}

func TestAllGroupsGone(t *testing.T) {
	tell(t, func(s *story) {
		s.a.conn().ReportError(errors.New("no answer"))
		s.after(time.Second)
		s.b.conn().ReportError(errors.New("no name"))
		want := "error: failover: failover:///orders: group 0 (a:///primary): no answer\nfailover: failover:///orders: group 1 (b:///backup): no name"
		s.after(0, want)
		must(t, s.b.say("b:1"))
		s.after(0, "b:1?priority=1")
		s.b.conn().ReportError(errors.New("no name"))
		s.after(time.Minute, "none", want)
		s.b.conn().ReportError(errors.New("no name"))
		s.after(0, want)
	}, failover.Grace(time.Minute))
}

func TestFirstOnly(t *testing.T) {
	tell(t, func(s *story) {
		must(t, s.b.say("b:1"))
		must(t, s.a.say("a:1"))
		s.after(0, "a:1")
		_ = s.a.say("")
		s.after(5*time.Minute, "b:1")
		must(t, s.b.say("b:1,b:2"))
		s.after(0, "b:1 b:2")
		must(t, s.a.say("a:1"))
		s.after(0, "a:1")
	}, failover.FirstOnly())
}

func TestAttributesAndServiceConfigs(t *testing.T) {
	tell(t, func(s *story) {
		state := func(c *child, addr, config string) resolver.State {
			return resolver.State{Addresses: []resolver.Address{{Addr: addr}}, ServiceConfig: c.conn().ParseServiceConfig(config)}
		}
		must(t, s.b.conn().UpdateState(state(s.b, "b:1", "b's"))) // the old form of a list
		s.after(2*time.Second, "b:1?priority=1 b's")
		must(t, s.a.conn().UpdateState(state(s.a, "a:1", "a's")))
		s.after(0, "a:1 b:1?priority=1 a's")
		must(t, s.a.say("a:1"))
		s.after(0, "a:1 b:1?priority=1 b's")
		s.a.conn().NewAddress([]resolver.Address{{Addr: "a:2"}}) //nolint:staticcheck // the old form of a state
		s.after(0, "a:2 b:1?priority=1 b's")
	})
}

func TestARefusedListIsOfferedAgain(t *testing.T) {
	tell(t, func(s *story) {
		s.channel.Refuse(errors.New("not now"))
		must(t, s.a.say("a:1"))
		s.after(1500*time.Millisecond, "a:1", "a:1")
		s.channel.Refuse(nil)
		s.after(time.Minute, "a:1")
		s.after(time.Hour)
	}, failover.Random(func() float64 { return 0.5 }))
}

func TestCloseClosesAll(t *testing.T) {
	tell(t, func(s *story) {
		s.res.Close()
		if !s.a.closed || !s.b.closed {
			t.Error("a group's resolver goes on")
		}
		must(t, s.a.say("a:1")) // too late
		s.after(time.Hour)
	})
}

func TestErrorsReachTheCaller(t *testing.T) {
	ok := &child{scheme: "a"}
	for _, tt := range []struct {
		groups []failover.Group
		opts   []failover.Option
		want   string
	}{
		{nil, nil, "0 groups, want 1 to 100"},
		{slices.Repeat([]failover.Group{{"a:///x", ok}}, 101), nil, "101 groups"},
		{[]failover.Group{{"a:///x", nil}}, nil, `group 0: target "a:///x" has no builder`},
		{[]failover.Group{{"a:///x", ok}, {"b:///x", ok}}, nil, `group 1: target "b:///x" has the scheme "b", and its builder "a"`},
		{[]failover.Group{{"a:///%zz", ok}}, nil, `group 0: target "a:///%zz": invalid URL escape`},
		{[]failover.Group{{"a:///x", ok}, {"static:///a", static.Builder()}}, nil, `group 1 (static:///a): static: endpoint 1: "a"`},
		{[]failover.Group{{"a:///x", ok}}, []failover.Option{failover.Grace(-1), failover.Start(time.Hour)}, "Start is 1h0m0s, want 0 to 1m0s"},
		{[]failover.Group{{"a:///x", &child{scheme: "a", fails: errors.New("no")}}}, nil, "failover: group 0 (a:///x): no"},
	} {
		steadytest.Run(t, func(t *testing.T) {
			ok.closed = true
			_, conn := dial(t, failover.Builder(tt.groups, tt.opts...), resolvertest.RoundRobin)
			resolvertest.Refused(t, conn, tt.want)
			if !ok.closed {
				t.Error("a group's resolver goes on")
			}
		})
	}
	steadytest.Run(t, func(t *testing.T) {
		a := &child{scheme: "a"}
		_, conn := dial(t, failover.Builder([]failover.Group{{"a:///x", a}}, failover.OnError(func(error) {})), resolvertest.RoundRobin)
		conn.Connect()
		synctest.Wait()
		a.conn().ReportError(errors.New("no answer"))
		resolvertest.Refused(t, conn, "failover:///orders: group 0 (a:///x): no answer")
	})
}

// dial opens a channel to a fleet of a:1, b:1 and c:1.
func dial(t *testing.T, b resolver.Builder, config string) (*steadytest.Fleet, *grpc.ClientConn) {
	t.Helper()
	fleet := steadytest.NewFleet(t, steadytest.Replicas("a:1", "b:1", "c:1"))
	conn, err := grpc.NewClient("failover:///orders", append(fleet.DialOptions(), grpc.WithResolvers(b),
		grpc.WithDefaultServiceConfig(config), grpc.WithIdleTimeout(resolvertest.IdleAfter))...)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return fleet, conn
}

func TestWeights(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet, conn := dial(t, failover.Builder([]failover.Group{
			{"static:///a:1?weight=3,b:1?weight=2,c:1", static.Builder()},
			{"static:///b:1?weight=9", static.Builder()}, // which is the primary's
		}), resolvertest.Weighted)
		resolvertest.Weights(t, fleet, conn, "a:1=30 b:1=20 c:1=10")
	})
}

// TestAForeignPolicy hands over to the backup, and back, without a failed call.
func TestAForeignPolicy(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		a := &child{scheme: "a", first: "a:1,b:1"}
		fleet, conn := dial(t, failover.Builder([]failover.Group{{"a:///x", a}, {"static:///backup", static.Endpoints(endpoint.New("c:1"))}},
			failover.FirstOnly(), failover.Grace(time.Minute), failover.OnError(func(error) {})), resolvertest.RoundRobin)
		for _, tt := range []struct{ list, want string }{{"a:1,b:1", "a:1=10 b:1=10"}, {"", "c:1=20"}, {"b:1", "b:1=20"}} {
			resolvertest.Call(t, conn)
			_ = a.say(tt.list)
			time.Sleep(time.Minute)
			if got := resolvertest.Spread(t, fleet, conn, 20); got != tt.want {
				t.Errorf("with %q of the primary 20 calls went %s, want %s", tt.list, got, tt.want)
			}
		}
	})
}
