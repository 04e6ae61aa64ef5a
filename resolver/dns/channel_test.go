package dns_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"

	_ "github.com/grpcsteady/steady/balancer/leastrequest"
	_ "github.com/grpcsteady/steady/balancer/weighted"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/proto/document"
	"github.com/grpcsteady/steady/resolver/dns"
	"github.com/grpcsteady/steady/resolver/internal/resolvertest"
)

// dial opens a channel to a fleet of a:1, b:1 and c:1, whose addresses end in 1, 2 and 3.
func dial(t *testing.T, target string, b resolver.Builder, config string) (*steadytest.Fleet, *grpc.ClientConn) {
	t.Helper()
	fleet := steadytest.NewFleet(t, steadytest.Replicas("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"))
	conn, err := grpc.NewClient(target, append(fleet.DialOptions(), grpc.WithResolvers(b),
		grpc.WithDefaultServiceConfig(config), grpc.WithIdleTimeout(resolvertest.IdleAfter))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return fleet, conn
}

func TestWeights(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		z := newZone(map[string]any{"SRV _grpc._tcp.orders": "0 3 1 a.\n0 2 1 b.\n0 1 1 c.", "A a": "10.0.0.1", "A b": "10.0.0.2", "A c": "10.0.0.3"})
		fleet, conn := dial(t, service, dns.Builder(z.using()), resolvertest.Weighted)
		resolvertest.Weights(t, fleet, conn, "10.0.0.1:1=30 10.0.0.2:1=20 10.0.0.3:1=10")
	})
}

// TestHappyEyeballs: a server whose IPv6 address leads nowhere is reached over IPv4.
func TestHappyEyeballs(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		z := newZone(map[string]any{"A orders": "10.0.0.1", "AAAA orders": "2001:db8::1"})
		fleet, conn := dial(t, name, dns.Builder(z.using()), resolvertest.RoundRobin)
		fleet.Network().BlackHole("[2001:db8::1]:1")
		start := time.Now()
		resolvertest.Call(t, conn)
		if took := time.Since(start); took != 250*time.Millisecond { // RFC 8305, as gRFC A61 has it
			t.Errorf("the call took %v, want 250ms", took)
		}
	})
}

func TestErrorsReachTheCaller(t *testing.T) {
	for _, tt := range []struct {
		target string
		data   map[string]any
		words  []string
	}{
		{name, nil, []string{name, "no such host"}},
		{name, map[string]any{"A orders": servfail}, []string{name, "server misbehaving"}},
		{name, map[string]any{"A orders": hang{}}, []string{name, "deadline exceeded"}},
		{"dns:///or,ders:1", nil, []string{"dns:///or,ders:1", "is no name"}},
		{"dns:///_grpc._tcp.orders", nil, []string{"_grpc._tcp.orders", "no such host"}},
	} {
		steadytest.Run(t, func(t *testing.T) {
			_, conn := dial(t, tt.target, dns.Builder(newZone(tt.data).using()), resolvertest.RoundRobin)
			resolvertest.Refused(t, conn, tt.words...)
		})
	}
}

// TestAfterTheGraceTime calls hear why there are no endpoints; before, they go on.
func TestAfterTheGraceTime(t *testing.T) {
	for config, words := range map[string][]string{
		resolvertest.Weighted:   {name, "no such host"},
		`{}`:                    {name, "no such host"},
		resolvertest.RoundRobin: {"no children to pick from"}, // gRPC's policy keeps the reason to itself
	} {
		steadytest.Run(t, func(t *testing.T) {
			z := newZone(map[string]any{"A orders": "10.0.0.1"})
			fleet, conn := dial(t, name, dns.Builder(z.using(), dns.OnError(func(error) {})), config)
			resolvertest.Call(t, conn)
			z.set("A orders", nil)
			time.Sleep(5 * time.Minute)
			if n := fleet.Network().Conns("10.0.0.1:1"); n != 1 {
				t.Errorf("%d connections within the grace time, want 1", n)
			}
			resolvertest.Call(t, conn)
			time.Sleep(31 * time.Second)
			resolvertest.Refused(t, conn, words...)
			z.set("A orders", "10.0.0.2")
			time.Sleep(time.Minute)
			resolvertest.Call(t, conn)
		})
	}
}

const (
	file  = `{"loadBalancingConfig":[{"round_robin":{}}],"methodConfig":[{"name":[{}],"rule":"file"}]}`
	least = `{"loadBalancingConfig":[{"steady_least_request":{}}],"methodConfig":[{"name":[{}],"rule":"least","timeout":"2s"}]}`
	first = `{"loadBalancingConfig":[{"pick_first":{}}],"methodConfig":[{"name":[{}],"rule":"first"}]}`
)

func record(config string) []string {
	return []string{"v=spf1 -all", `grpc_config=[{"clientLanguage":["java"],"serviceConfig":{}},{"serviceConfig":` + config + `}]`}
}

// events keeps what reloads said, and which rules calls followed.
type events struct {
	mu      sync.Mutex
	reloads []steady.Reloaded
	rules   map[string]int
}

func (e *events) Observe(ev steady.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch ev := ev.(type) {
	case *steady.Reloaded:
		e.reloads = append(e.reloads, *ev)
	case *steady.CallEnded:
		if e.rules == nil {
			e.rules = make(map[string]int)
		}
		e.rules[ev.Rule]++
	}
}

// phase returns the rules of calls and the outcome of reloads since the last time.
func (e *events) phase() (rules map[string]int, reloads []steady.Reloaded) {
	e.mu.Lock()
	defer e.mu.Unlock()
	rules, reloads, e.rules, e.reloads = e.rules, e.reloads, nil, nil
	return rules, reloads
}

// TestAWithdrawnServiceConfig leaves a channel without a document the policy that it has: gRPC keeps the last one.
func TestAWithdrawnServiceConfig(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		z := newZone(map[string]any{"A orders": "10.0.0.1 10.0.0.2 10.0.0.3", "TXT _grpc_config.orders": record(first)})
		fleet, conn := dial(t, name, dns.Builder(z.using(), dns.ServiceConfigs()), resolvertest.RoundRobin)
		for range 2 {
			if got := resolvertest.Spread(t, fleet, conn, 30); strings.Contains(got, " ") {
				t.Errorf("30 calls went %s, want all to one", got)
			}
			z.set("TXT _grpc_config.orders", nil)
			time.Sleep(time.Minute)
		}
	})
}

// TestAPushedDocument changes rules and balancer of a channel under load, and no call fails; a bad one is refused,
// and said to be so.
func TestAPushedDocument(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		z := newZone(map[string]any{"A orders": "10.0.0.1 10.0.0.2 10.0.0.3", "TXT _grpc_config.orders": record(least)})
		var ev events
		doc, err := document.Read("file.yaml", []byte(file))
		if err != nil {
			t.Fatal(err)
		}
		out, err := steady.FromDocument(doc, steady.FollowPushed(), steady.WithObserver(&ev))
		if err != nil {
			t.Fatal(err)
		}
		fleet := steadytest.NewFleet(t, steadytest.Replicas("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"))
		conn, err := grpc.NewClient(name, out.DialOptions(append(fleet.DialOptions(),
			steady.Resolvers(dns.Builder(z.using(), dns.ServiceConfigs(), dns.OnError(func(error) {}))))...)...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		load := steadytest.Load{Rate: 20, For: 7 * time.Minute, Call: steadytest.Get(conn)}
		var result *steadytest.Result
		var wg sync.WaitGroup
		wg.Go(func() { result = load.Run(t.Context()) })
		phase := func(wantRule string, wantReplicas, wantReloads int, wantErr string) {
			t.Helper()
			time.Sleep(35 * time.Second)
			_, reloads := ev.phase()
			fleet.Forget()
			time.Sleep(30 * time.Second)
			rules, _ := ev.phase()
			used := 0
			for _, n := range fleet.Count() {
				used += min(n, 1)
			}
			if len(rules) != 1 || rules[wantRule] == 0 || used != wantReplicas || len(reloads) != wantReloads {
				t.Errorf("rules %v on %d replicas after %d reloads, want %s on %d after %d", rules, used, len(reloads), wantRule, wantReplicas, wantReloads)
			}
			for _, r := range reloads {
				if (r.Err != nil) != (wantErr != "") || wantErr != "" && !strings.Contains(r.Err.Error(), wantErr) {
					t.Errorf("reloaded with %v, want %q", r.Err, wantErr)
				}
			}
		}
		phase("least", 3, 2, "") // the file's, and this one
		z.set("TXT _grpc_config.orders", record(first))
		phase("first", 1, 1, "")
		z.set("TXT _grpc_config.orders", record(`{"loadBalancingConfig":[{"nobody_has_this":{}}]}`))
		phase("first", 1, 1, "nobody_has_this")
		z.set("TXT _grpc_config.orders", []string{"grpc_config=["}) // no document at all: all stays as it is
		phase("first", 1, 0, "")
		z.set("TXT _grpc_config.orders", servfail)
		phase("first", 1, 0, "")
		z.set("TXT _grpc_config.orders", nil) // withdrawn
		phase("file", 3, 1, "")
		wg.Wait()
		if a := result.Availability(); a != 1 {
			t.Errorf("%v", result)
		}
	})
}
