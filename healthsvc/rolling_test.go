package healthsvc_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/health" // lets channels watch
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/grpcsteady/steady/balancer/leastrequest"
	"github.com/grpcsteady/steady/healthsvc"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// policies are the clients that a rolling restart must not hurt, by their service configs. Those that are real
// meet processes as well, which takes seconds each.
var policies = []struct {
	name, serviceConfig string
	real                bool
}{
	{"round_robin that watches", watching(roundRobin, ""), false},
	{"round_robin that watches a service", watching(roundRobin, "steady.echo.v1.Echo"), false},
	{"plain round_robin", roundRobin, true},
	{"steady_least_request that watches", watching(leastrequest.ServiceConfig, ""), true},
	{"plain steady_least_request", leastrequest.ServiceConfig, false},
}

const roundRobin = `{"loadBalancingConfig":[{"round_robin":{}}]}`

// watching adds client-side health checks of a name to a service config.
func watching(config, name string) string {
	return strings.TrimSuffix(config, "}") + `,"healthCheckConfig":{"serviceName":"` + name + `"}}`
}

// echoes answers after a while with the name of its instance.
type echoes struct {
	echov1.UnimplementedEchoServer
	name string
	take func() time.Duration
}

func (e *echoes) Get(ctx context.Context, _ *echov1.EchoRequest) (*echov1.EchoResponse, error) {
	select {
	case <-time.After(e.take()):
		return &echov1.EchoResponse{Server: e.name}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// counter counts answers by who gave them.
type counter struct {
	mu    sync.Mutex
	by    map[string]int
	added sync.Cond
}

func newCounter() *counter {
	c := &counter{by: map[string]int{}}
	c.added.L = &c.mu
	return c
}

func (c *counter) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by[name]++
	c.added.Broadcast()
}

func (c *counter) of(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[name]
}

// more waits until one has given n more answers.
func (c *counter) more(name string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for want := c.by[name] + n; c.by[name] < want; {
		c.added.Wait()
	}
}

// TestRollingRestart: three servers drain, stop and come back one after the other under load, and no call fails.
func TestRollingRestart(t *testing.T) {
	for _, p := range policies {
		t.Run(p.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) { rollingRestart(t, p.serviceConfig) })
		})
	}
}

func rollingRestart(t *testing.T, serviceConfig string) {
	network := steadytest.NewNetwork()
	var n atomic.Int64
	// 1 to 40 ms, so that some calls are under way whenever a server goes.
	take := func() time.Duration { return time.Duration(1+n.Add(7)%40) * time.Millisecond }
	type life struct {
		cancel context.CancelFunc
		served chan error
	}
	begin := func(name string) life {
		lis, err := network.Listen(name)
		if err != nil {
			t.Fatal(err)
		}
		srv := grpc.NewServer()
		echov1.RegisterEchoServer(srv, &echoes{name: name, take: take})
		h, err := healthsvc.New(healthsvc.WithCheck("database", &dep{}))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		l := life{cancel, make(chan error, 1)}
		go func() { l.served <- h.Serve(ctx, srv, lis) }()
		return l
	}
	names := []string{"a", "b", "c"}
	lives := map[string]life{}
	state := resolver.State{}
	for _, name := range names {
		lives[name] = begin(name)
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: name}}})
	}
	synctest.Wait() // until each has seen its database once: who calls before is told that nobody serves
	r := manual.NewBuilderWithScheme("rolling")
	r.InitialState(state)
	conn, err := grpc.NewClient("rolling:///", grpc.WithResolvers(r), grpc.WithContextDialer(network.Dial),
		insecureCreds, grpc.WithDefaultServiceConfig(serviceConfig))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	answers := newCounter()
	client := echov1.NewEchoClient(conn)
	done := make(chan *steadytest.Result, 1)
	go func() {
		done <- steadytest.Load{Rate: 180, For: time.Minute, Timeout: 5 * time.Second, Call: func(ctx context.Context, _ int) error {
			r, err := client.Get(ctx, &echov1.EchoRequest{})
			answers.add(r.GetServer())
			return err
		}}.Run(context.Background())
	}()
	for _, name := range names {
		time.Sleep(2500 * time.Millisecond)
		lives[name].cancel()
		if err := <-lives[name].served; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		time.Sleep(2 * time.Second) // the new process starts
		before := answers.of(name)
		lives[name] = begin(name)
		time.Sleep(8 * time.Second) // longer than gRPC's backoff by then
		if answers.of(name) == before {
			t.Errorf("%s is not called after its return", name)
		}
	}
	result := <-done
	if result.Calls < 10_000 || result.OK != result.Calls {
		t.Errorf("%v", result)
	}
	for _, l := range lives {
		l.cancel()
		if err := <-l.served; err != nil {
			t.Error(err)
		}
	}
}
