// Command balancing holds steady's policies beside those of two proxies that everybody knows: the same three
// servers, two that answer in 2 ms and one in 20, called by 16 callers through nginx, through HAProxy, and by steady's
// own policies, without a proxy.
//
//	balancing -nginx /usr/sbin/nginx -haproxy /usr/sbin/haproxy
//
// It prints how 2,000 calls were spread, and fails if weights of 5, 3 and 2 are not kept exactly, or if
// steady_least_request gives any server's calls a share that differs by more than a tenth of all from nginx's
// least_conn.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/grpcsteady/steady/balancer/leastrequest"
	"github.com/grpcsteady/steady/balancer/weighted"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
	"github.com/grpcsteady/steady/resolver/endpoint"
)

const (
	calls   = 2000
	callers = 16
	fast    = 2 * time.Millisecond
	slow    = 20 * time.Millisecond
)

func main() {
	nginx := flag.String("nginx", "nginx", "the nginx `binary`")
	haproxy := flag.String("haproxy", "haproxy", "the HAProxy `binary`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *nginx, *haproxy)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "balancing:", err)
		os.Exit(1)
	}
}

// way is one way for calls to reach the servers.
type way struct {
	name   string
	target string // of a proxy; "": ours
	config string // of ours
	weight bool   // by 5, 3 and 2
	spread [3]int
}

func run(ctx context.Context, nginx, haproxy string) error {
	var addrs [3]string
	var ends []func()
	defer func() {
		for _, end := range ends {
			end()
		}
	}()
	for i, wait := range []time.Duration{fast, fast, slow} {
		addr, end, err := serve(i, wait)
		if err != nil {
			return err
		}
		ends = append(ends, end)
		addrs[i] = addr
	}
	dir, err := os.MkdirTemp("", "balancing")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	proxies, end, err := startProxies(ctx, dir, nginx, haproxy, addrs)
	if err != nil {
		return err
	}
	defer end()

	ways := []*way{
		{name: "nginx, weights 5 3 2", target: proxies.nginxWeights, weight: true},
		{name: "HAProxy, weights 5 3 2", target: proxies.haproxyWeights, weight: true},
		{name: "steady_weighted, weights 5 3 2", config: weighted.ServiceConfig, weight: true},
		{name: "nginx least_conn", target: proxies.nginxLeast},
		{name: "HAProxy leastconn", target: proxies.haproxyLeast},
		{name: "steady_least_request", config: leastrequest.ServiceConfig},
	}
	fmt.Printf("%d calls of %d callers; a and b answer in %v, c in %v\n\n%-32s %6s %6s %6s\n", calls, callers, fast, slow, "", "a", "b", "c")
	for _, w := range ways {
		conn, err := w.dial(addrs)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		w.spread, err = load(ctx, echov1.NewEchoClient(conn))
		_ = conn.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		fmt.Printf("%-32s %6d %6d %6d\n", w.name, w.spread[0], w.spread[1], w.spread[2])
	}
	return judge(ways)
}

// judge holds ours against the proxies.
func judge(ways []*way) error {
	var errs []error
	if got, want := ways[2].spread, [3]int{calls / 10 * 5, calls / 10 * 3, calls / 10 * 2}; got != want {
		errs = append(errs, fmt.Errorf("%s: %v, want %v", ways[2].name, got, want))
	}
	ours, theirs := ways[5], ways[3]
	for i := range ours.spread {
		if d := ours.spread[i] - theirs.spread[i]; d > calls/10 || d < -calls/10 {
			errs = append(errs, fmt.Errorf("%s: %v, want within %d of %s, %v", ours.name, ours.spread, calls/10, theirs.name, theirs.spread))
			break
		}
	}
	return errors.Join(errs...)
}

// dial connects to a proxy, or to the servers themselves with a policy of ours.
func (w *way) dial(addrs [3]string) (*grpc.ClientConn, error) {
	opts := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if w.config == "" {
		return grpc.NewClient("passthrough:///"+w.target, opts...)
	}
	builder := manual.NewBuilderWithScheme("servers")
	var state resolver.State
	for i, addr := range addrs {
		e := resolver.Endpoint{Addresses: []resolver.Address{{Addr: addr}}}
		if w.weight {
			e = endpoint.WithWeight(e, []uint32{5, 3, 2}[i])
		}
		state.Endpoints = append(state.Endpoints, e)
	}
	builder.InitialState(state)
	return grpc.NewClient("servers:///all", append(opts, grpc.WithResolvers(builder), grpc.WithDefaultServiceConfig(w.config))...)
}
