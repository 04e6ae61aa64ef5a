package static_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"

	_ "github.com/grpcsteady/steady/balancer/weighted"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/proto/document"
	"github.com/grpcsteady/steady/resolver/endpoint"
	"github.com/grpcsteady/steady/resolver/internal/resolvertest"
	"github.com/grpcsteady/steady/resolver/static"
)

func TestMain(m *testing.M) { steadytest.Main(m) }

// dial opens a plain gRPC channel to a fleet of a:1, b:1 and c:1.
func dial(t *testing.T, target string, b resolver.Builder, config string) (*steadytest.Fleet, *grpc.ClientConn) {
	t.Helper()
	fleet := steadytest.NewFleet(t, steadytest.Replicas("a:1", "b:1", "c:1"))
	conn, err := grpc.NewClient(target, append(fleet.DialOptions(), grpc.WithResolvers(b),
		grpc.WithDefaultServiceConfig(config), grpc.WithIdleTimeout(resolvertest.IdleAfter))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return fleet, conn
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		give string
		want string // the list, or a part of the error
		ok   bool
	}{
		{"10.0.0.1:50051", "10.0.0.1:50051", true},
		{"a:1,b:2,[::1]:3", "a:1 b:2 [::1]:3", true},
		{"a:1?weight=3&zone=a,b:2?priority=1&weight=0,c:3", "a:1?weight=3&zone=a b:2?weight=0&priority=1 c:3", true},
		{"a:1?zone=rack%2C7%3F", "a:1?zone=rack,7?", true},
		{"a:1?weight=1000000&priority=100", "a:1?weight=1000000&priority=100", true},
		{"", "no endpoint", false},
		{"a", `endpoint 1: "a", want host:port`, false},
		{":1", `endpoint 1: ":1"`, false},
		{"a:1,,b:2", `endpoint 2: ""`, false},
		{"a:1,b:0", `endpoint 2: port "0"`, false},
		{"a:1,b:01", `port "01"`, false},
		{"a:1,b:65536", `port "65536"`, false},
		{"a:1,b:http", `port "http"`, false},
		{"a:1,b:2,a:1?weight=2", `endpoint 3: "a:1" is endpoint 1 already`, false},
		{"a b:1", "endpoint 1", false},
		{"a/b:1", "endpoint 1", false},
		{"::1:50051", "endpoint 1", false},
		{"[a]:1", "endpoint 1", false},
		{"a:1,b:1?weight=1000001", `endpoint 2: weight: "1000001", want a whole number from 0 to 1000000`, false},
		{"a:1?weight=-1", `weight: "-1"`, false},
		{"a:1?weight=1.5", `weight: "1.5"`, false},
		{"a:1?weight=", `weight: ""`, false},
		{"a:1?weight=1&weight=1", "weight stands twice", false},
		{"a:1?priority=101", `priority: "101"`, false},
		{"a:1?zone=", `zone: ""`, false},
		{"a:1?zone=%zz", `zone: "%zz"`, false},
		{"a:1?zone=" + strings.Repeat("z", 64), "want 1 to 63", false},
		{"a:1?Weight=1", `unknown key "Weight", want weight, zone or priority`, false},
		{"a:1?", `unknown key ""`, false},
		{strings.Repeat("a:1,", 10_001), "at most", false},
	} {
		got, err := static.Parse(tt.give)
		if tt.ok != (err == nil) {
			t.Errorf("%.30q: %v", tt.give, err)
			continue
		}
		text := resolvertest.Describe(got)
		if err != nil {
			text = err.Error()
		}
		if !strings.Contains(text, tt.want) {
			t.Errorf("%.30q: %s, want %s", tt.give, text, tt.want)
		}
	}
}

// TestTargets: what the reader of URLs does to a target is undone.
func TestTargets(t *testing.T) {
	for _, tt := range []struct{ target, want string }{
		{"static:///a:1,b:2", "a:1 b:2"},
		{"static:///a:1?weight=3&zone=a,b:2?weight=2", "a:1?weight=3&zone=a b:2?weight=2"},
		{"static:///a:1,b:2?zone=x%2Cy", "a:1 b:2?zone=x,y"},
		{"static:a:1,b:2", "a:1 b:2"},
		{"static:a:1?weight=2", "a:1?weight=2"},
		{"static:///[::1]:1?weight=2", "[::1]:1?weight=2"},
		{"static://x/a:1", `error: static: the target names the authority "x"`},
		{"static:///a:1#b", "error: static: the target has a fragment"},
		{"static:///a:1?", `error: static: endpoint 1: unknown key ""`},
		{"static:///", "error: static: lists no endpoint"},
	} {
		steadytest.Run(t, func(t *testing.T) {
			c := new(resolvertest.Channel)
			r, err := static.Builder().Build(resolvertest.Target(t, tt.target), c, resolver.BuildOptions{})
			if err != nil {
				if !strings.HasPrefix("error: "+err.Error(), tt.want) {
					t.Errorf("%s: %v, want %s", tt.target, err, tt.want)
				}
				return
			}
			time.Sleep(time.Minute)
			r.ResolveNow(resolver.ResolveNowOptions{})
			time.Sleep(time.Minute)
			c.Expect(t, tt.want)
			r.Close()
		})
	}
}

func TestWeights(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet, conn := dial(t, "static:///a:1?weight=3,b:1?weight=2,c:1", static.Builder(), resolvertest.Weighted)
		resolvertest.Weights(t, fleet, conn, "a:1=30 b:1=20 c:1=10")
	})
}

func TestWeightsInGo(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet, conn := dial(t, "static:///orders", static.Endpoints(endpoint.WithWeight(endpoint.New("a:1"), 3),
			endpoint.WithWeight(endpoint.New("nobody:1", "b:1"), 2), endpoint.New("c:1")), resolvertest.Weighted)
		resolvertest.Weights(t, fleet, conn, "a:1=30 b:1=20 c:1=10")
	})
}

// TestAForeignPolicy: round robin takes what it is given.
func TestAForeignPolicy(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet, conn := dial(t, "static:///a:1,b:1,c:1", static.Builder(), resolvertest.RoundRobin)
		if got, want := resolvertest.Spread(t, fleet, conn, 30), "a:1=10 b:1=10 c:1=10"; got != want {
			t.Errorf("30 calls went %s, want %s", got, want)
		}
	})
}

// TestErrorsReachTheCaller, with the part that is wrong.
func TestErrorsReachTheCaller(t *testing.T) {
	for _, tt := range []struct {
		target string
		with   resolver.Builder
		want   string
	}{
		{"static:///a:1,b", static.Builder(), `endpoint 2: "b", want host:port`},
		{"static:///a:1,b:1?weight=x", static.Builder(), `endpoint 2: weight: "x"`},
		{"static:///x", static.Endpoints(), "0 endpoints, want 1 to 10000"},
		{"static:///x", static.Endpoints(resolver.Endpoint{}), "endpoint 1: has no address"},
		{"static:///x", static.Endpoints(endpoint.New("")), "endpoint 1: has an empty address"},
		{"static:///x", static.Endpoints(endpoint.New("a:1", "b:1"), endpoint.New("b:1", "a:1")), `endpoint 2: "b:1" is endpoint 1 already`},
		{"static:///x", static.Endpoints(endpoint.WithWeight(endpoint.New("a:1"), 1_000_001)), "endpoint 1: weight: 1000001, want 0 to 1000000"},
		{"static:///x", static.Endpoints(endpoint.WithPriority(endpoint.New("a:1"), -1)), "endpoint 1: priority: -1, want 0 to 100"},
	} {
		steadytest.Run(t, func(t *testing.T) {
			_, conn := dial(t, tt.target, tt.with, resolvertest.RoundRobin)
			resolvertest.Refused(t, conn, tt.want)
		})
	}
}

// TestARefusedListIsOfferedAgain, with a backoff that grows.
func TestARefusedListIsOfferedAgain(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		c := new(resolvertest.Channel)
		c.Refuse(errors.New("not now"))
		resolvertest.Build(t, static.Builder(), "static:///a:1", c)
		time.Sleep(time.Hour)
		if n := len(c.Told()); n < 25 || n > 50 { // 1 s to 2 min, a fifth around
			t.Errorf("offered %d times in an hour", n)
		}
		c.Refuse(nil)
		time.Sleep(time.Hour)
		c.Expect(t, "a:1")
	})
}

func TestAuthority(t *testing.T) {
	for target, want := range map[string]string{
		"static:///orders:1?weight=2,b:1": "orders:1",
		"static:///a:1,b:1":               "a:1",
		"static:///":                      "localhost",
	} {
		b, ok := static.Builder().(resolver.AuthorityOverrider)
		if !ok {
			t.Fatal("the builder leaves the authority to gRPC, which takes the whole list")
		}
		if got := b.OverrideAuthority(resolvertest.Target(t, target)); got != want {
			t.Errorf("%s: authority %q, want %q", target, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "a:1", "a:1,b:2", "[::1]:1", ",", "a:99999", "\x00:1", "a:1?weight=3&zone=a%20b,b:1?priority=2", strings.Repeat("\xb5", 81)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := static.Parse(s)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "static: ") {
				t.Errorf("%q: %v does not say whose error it is", s, err)
			}
			return
		}
		for _, e := range list {
			if w, _ := endpoint.Weight(e); w > document.MaxWeight || endpoint.Priority(e) < 0 || endpoint.Priority(e) > document.MaxPriority || len(e.Addresses) != 1 {
				t.Errorf("%q: out of range: %s", s, resolvertest.Describe(list))
			}
		}
		if static.Endpoints(list...).Scheme() != static.Scheme {
			t.Error("another scheme")
		}
	})
}

func ExampleParse() {
	list, err := static.Parse("10.0.0.1:50051?weight=3&zone=a,10.0.0.2:50051")
	fmt.Println(len(list), endpoint.Zone(list[0]), err)
	_, err = static.Parse("10.0.0.1:50051,10.0.0.2")
	fmt.Println(err)
	// Output:
	// 2 a <nil>
	// static: endpoint 2: "10.0.0.2", want host:port
}
