package kube_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/rest"

	"github.com/grpcsteady/steady/interceptors/steady"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
	"github.com/grpcsteady/steady/resolver/kube"
)

// TestReal asks a real kube-apiserver, with servers on real sockets: .ci/heavy/kube builds the programs, makes a
// network namespace in which 198.18.0.0/24 is local (EndpointSlices refuse loopback addresses) and runs it there.
func TestReal(t *testing.T) {
	c := newCluster(t)
	// In this order: what one leaves the next needs.
	for _, part := range []struct {
		name string
		run  func(*testing.T, *cluster)
	}{
		{"rights", realRights},
		{"configurations", realConfigurations},
		{"conditions", realConditions},
		{"families", realFamilies},
		{"weights", realWeights},
		{"outage", realOutage},
		{"gone", realGone},
		{"rolling", realRolling},
		{"thousand", realThousand},
	} {
		ok := t.Run(part.name, func(t *testing.T) {
			c.t = t
			defer func() { c.t = nil }()
			part.run(t, c)
			c.clear()
		})
		if !ok {
			break
		}
	}
	c.t = t
}

// server is a pod.
type server struct {
	echov1.UnimplementedEchoServer
	name string
	srv  *grpc.Server
	done chan struct{}
}

func (s *server) Get(context.Context, *echov1.EchoRequest) (*echov1.EchoResponse, error) {
	return &echov1.EchoResponse{Server: s.name}, nil
}

func startServer(t *testing.T, ip string) *server {
	t.Helper()
	lis, err := net.Listen("tcp", ip+":50051")
	must(t, err)
	s := &server{name: ip, srv: grpc.NewServer(), done: make(chan struct{})}
	echov1.RegisterEchoServer(s.srv, s)
	go func() {
		defer close(s.done)
		_ = s.srv.Serve(lis)
	}()
	t.Cleanup(s.stop)
	return s
}

func (s *server) stop() {
	s.srv.Stop()
	<-s.done
}

func ip(n int) string { return fmt.Sprintf("198.18.0.%d", n) }

func servers(t *testing.T, n int) {
	for i := 1; i <= n; i++ {
		startServer(t, ip(i))
	}
}

func dialReal(t *testing.T, b resolver.Builder, target, policy string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, append([]grpc.DialOption{
		grpc.WithResolvers(b), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"` + policy + `":{}}]}`),
	}, opts...)...)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// asked returns which servers n calls went to.
func asked(t *testing.T, conn *grpc.ClientConn, n int) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for range n {
		name, err := get(t, conn, grpc.WaitForReady(true))
		must(t, err)
		counts[name]++
	}
	return counts
}

// wantServers waits until calls go to these servers and no others.
func wantServers(t *testing.T, c *cluster, conn *grpc.ClientConn, ips ...string) {
	t.Helper()
	began := time.Now()
	slices.Sort(ips)
	var got []string
	c.until(fmt.Sprint("calls go to ", ips), func() bool {
		got = slices.Sorted(maps.Keys(asked(t, conn, 10*len(ips))))
		return slices.Equal(got, ips)
	})
	t.Logf("calls go to %v after %v", got, time.Since(began).Round(time.Millisecond))
}

func (c *cluster) reader() *rest.Config { return c.config(c.token("web", "storefront")) }

// realRights: without the Role a call says what is missing; with it, the same channel works, by itself.
func realRights(t *testing.T, c *cluster) {
	manifest, err := os.ReadFile("rbac.yaml")
	must(t, err)
	account, rest, ok := strings.Cut(string(manifest), "\n---\n")
	if !ok {
		t.Fatal("rbac.yaml has one part")
	}
	c.apply([]byte(account))
	servers(t, 1)
	c.set(slice("a", pod("1", ip(1))))
	conn := dialReal(t, kube.Builder(kube.WithConfig(c.reader())), target, "steady_least_request")
	_, err = get(t, conn)
	for _, part := range []string{
		"kube: orders.shop:grpc", `User "system:serviceaccount:web:storefront" cannot list resource "endpointslices"`,
		`API group "discovery.k8s.io"`, `namespace "shop"`, "needs a Role",
	} {
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), part) {
			t.Errorf("%v, want %s", err, part)
		}
	}
	t.Logf("without rights: %v", err)
	c.apply([]byte(rest))
	wantServers(t, c, conn, ip(1))
	// And no more than that: what the manifest grants is not enough for anything else.
	elsewhere := dialReal(t, kube.Builder(kube.WithConfig(c.reader())), "kube:///orders.web:grpc", "round_robin")
	if _, err := get(t, elsewhere); !strings.Contains(fmt.Sprint(err), `in the namespace "web"`) {
		t.Errorf("%v, want no rights in another namespace", err)
	}
}

// realConfigurations: as a pod finds the API server, and by a kubeconfig; both lend their namespace.
func realConfigurations(t *testing.T, c *cluster) {
	servers(t, 1)
	c.set(slice("a", pod("1", ip(1))))
	token := c.token("web", "storefront")
	config := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: none,
clusters: [{name: k, cluster: {server: %q, certificate-authority: %q}}],
users: [{name: u, user: {token: %q}}],
contexts: [{name: shop, context: {cluster: k, user: u, namespace: shop}}]}`, apiURL, c.path("certs/apiserver.crt"), token)
	c.write("kubeconfig", []byte(config))
	conn := dialReal(t, kube.Builder(kube.WithKubeconfig(c.path("kubeconfig"), "shop")), "kube:///orders:grpc", "round_robin")
	wantServers(t, c, conn, ip(1))
	t.Setenv("KUBECONFIG", c.path("kubeconfig"))
	if _, err := get(t, dialReal(t, kube.Builder(), "kube:///orders:grpc", "round_robin")); !strings.Contains(fmt.Sprint(err), "kube: orders:grpc: ") {
		t.Errorf("%v, want an error about the context none", err)
	}

	const dir = "/var/run/secrets/kubernetes.io/serviceaccount"
	if os.Getenv("STEADY_KUBE_POD") == "" {
		t.Skip("no STEADY_KUBE_POD: " + dir + " is not the test's own")
	}
	ca, err := os.ReadFile(c.path("certs/apiserver.crt"))
	must(t, err)
	must(t, os.MkdirAll(dir, 0o700))
	for name, data := range map[string][]byte{"token": []byte(token), "namespace": []byte("shop\n"), "ca.crt": ca} {
		must(t, os.WriteFile(dir+"/"+name, data, 0o600))
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", apiPort)
	wantServers(t, c, dialReal(t, kube.Builder(), "kube:///orders:grpc", "round_robin"), ip(1))
}

// realConditions: added, unready, ready again, terminating, removed; and in two slices.
func realConditions(t *testing.T, c *cluster) {
	servers(t, 4)
	one, two, three, four := pod("1", ip(1)), pod("2", ip(2)), pod("3", ip(3)), pod("4", ip(4))
	c.set(slice("a", one))
	conn := dialReal(t, kube.Builder(kube.WithConfig(c.reader())), "kube:///orders.shop.svc.cluster.local:50051", "steady_least_request")
	wantServers(t, c, conn, ip(1))
	c.set(slice("b", two)) // the other slice stays
	wantServers(t, c, conn, ip(1), ip(2))
	c.set(slice("a", one, three), slice("b", two, four))
	wantServers(t, c, conn, ip(1), ip(2), ip(3), ip(4))
	c.set(slice("a", unready(one), three))
	wantServers(t, c, conn, ip(2), ip(3), ip(4))
	c.set(slice("a", one, three), slice("b", terminating(two), four))
	wantServers(t, c, conn, ip(1), ip(3), ip(4))
	c.remove("b")
	wantServers(t, c, conn, ip(1), ip(3))
	c.set(slice("a", terminating(one), unready(three))) // nothing better is left
	wantServers(t, c, conn, ip(1))
}

// realFamilies: a pod with an IPv4 and an IPv6 address counts once, beside one with an IPv4 address alone.
func realFamilies(t *testing.T, c *cluster) {
	servers(t, 2)
	const six = "fd00:c612::1"
	if lis, err := net.Listen("tcp", "["+six+"]:50051"); err != nil {
		t.Logf("no IPv6 here, the pod answers on IPv4 alone: %v", err)
	} else {
		lis.Close()
		startServer(t, "["+six+"]")
	}
	over := slice("b", pod("1", six))
	over.AddressType = discoveryv1.AddressTypeIPv6
	c.set(slice("a", pod("1", ip(1)), pod("2", ip(2))), over)
	conn := dialReal(t, kube.Builder(kube.WithConfig(c.reader())), target, "round_robin")
	var got map[string]int
	c.until("100 calls are spread evenly", func() bool {
		got = asked(t, conn, 100)
		return len(got) == 2 && got[ip(2)] == 50
	})
	t.Logf("100 calls to two pods: %v", got)
}

// realWeights: 3:2:1.
func realWeights(t *testing.T, c *cluster) {
	servers(t, 3)
	for i, w := range []string{"3", "2", "1"} {
		c.set(annotated(slice(fmt.Sprint("s", i), pod(fmt.Sprint(i), ip(i+1))), kube.WeightAnnotation, w))
	}
	conn := dialReal(t, kube.Builder(kube.WithConfig(c.reader())), target, "steady_weighted")
	wantServers(t, c, conn, ip(1), ip(2), ip(3))
	var got map[string]int
	c.until("600 calls are spread 3:2:1", func() bool { // slow start ends after a while
		got = asked(t, conn, 600)
		return abs(got[ip(1)]-300) <= 6 && abs(got[ip(2)]-200) <= 6
	})
	t.Logf("600 calls by 3:2:1: %v", got)
}

func abs(n int) int { return max(n, -n) }

// requests counts what is asked of the API server.
type requests struct {
	http.RoundTripper
	lists, watches atomic.Int64
}

func (r *requests) wrap(c *rest.Config) *rest.Config {
	c.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		r.RoundTripper = rt
		return r
	})
	return c
}

func (r *requests) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Query().Get("watch") != "" {
		r.watches.Add(1)
	} else {
		r.lists.Add(1)
	}
	return r.RoundTripper.RoundTrip(req)
}

// load calls without a pause until it is stopped.
type load struct {
	running sync.WaitGroup
	end     chan struct{}
	calls   atomic.Int64
	failed  atomic.Int64
	first   atomic.Value // of the errors
}

func startLoad(conns ...*grpc.ClientConn) *load {
	l := &load{end: make(chan struct{})}
	for _, conn := range conns {
		for range 4 {
			l.running.Go(func() {
				for {
					select {
					case <-l.end:
						return
					default:
					}
					ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
					_, err := echov1.NewEchoClient(conn).Get(ctx, &echov1.EchoRequest{})
					cancel()
					l.calls.Add(1)
					if err != nil {
						l.failed.Add(1)
						l.first.CompareAndSwap(nil, fmt.Sprintf("%s: %v", conn.Target(), err))
					}
				}
			})
		}
	}
	return l
}

func (l *load) stop(t *testing.T) {
	t.Helper()
	close(l.end)
	l.running.Wait()
	if n := l.failed.Load(); n > 0 || l.calls.Load() < 1000 {
		t.Errorf("%d of %d calls failed, first: %v", n, l.calls.Load(), l.first.Load())
	}
	t.Logf("%d calls, %d failed", l.calls.Load(), l.failed.Load())
}

// realOutage: the API server is killed under load, changes are made as soon as it is back, and are seen.
func realOutage(t *testing.T, c *cluster) {
	servers(t, 3)
	c.set(slice("a", pod("1", ip(1)), pod("2", ip(2))), slice("b"))
	var r requests
	on := &told{}
	conn := dialReal(t, kube.Builder(kube.WithConfig(r.wrap(c.reader())), kube.OnError(on.add)), target, "round_robin")
	wantServers(t, c, conn, ip(1), ip(2))
	l := startLoad(conn)
	for round := range 2 {
		c.api.kill()
		if got := asked(t, conn, 100); len(got) != 2 {
			t.Errorf("without an API server calls go to %v", got)
		}
		var first string
		c.until("OnError is told", func() bool {
			if errs := on.take(); len(errs) > 0 {
				first = errs[0]
			}
			return first != ""
		})
		t.Logf("OnError: %s", first)
		c.startAPI()
		c.set(slice("b", pod("3", ip(3))))
		wantServers(t, c, conn, ip(1), ip(2), ip(3))
		c.set(slice("b"))
		wantServers(t, c, conn, ip(1), ip(2))
		t.Logf("round %d: %d lists and %d watches so far", round, r.lists.Load(), r.watches.Load())
	}
	l.stop(t)
}

// realGone: a watch that could not be resumed while the API server was restarted is refused with 410 Gone, since the new
// process knows no versions from before it; a new list has what has changed.
func realGone(t *testing.T, c *cluster) {
	servers(t, 2)
	c.set(slice("a", pod("1", ip(1))))
	var (
		r     requests
		mu    sync.Mutex
		apart bool
		open  []net.Conn
	)
	config := r.wrap(c.reader())
	config.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if apart {
			return nil, syscall.ECONNREFUSED // after which client-go tries to resume
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err == nil {
			open = append(open, conn)
		}
		return conn, err
	}
	conn := dialReal(t, kube.Builder(kube.WithConfig(config)), target, "round_robin")
	wantServers(t, c, conn, ip(1))
	<-time.After(2 * time.Second)                                // a watch that ends within its first second is begun anew with a list anyway
	c.set(slice("a", pod("1", ip(1)), unready(pod("3", ip(3))))) // seen: there is a version to resume from
	l := startLoad(conn)
	mu.Lock()
	apart = true
	for _, conn := range open {
		conn.Close()
	}
	mu.Unlock()
	c.set(slice("b", pod("2", ip(2))))
	c.remove("a")
	c.api.kill()
	c.startAPI()
	c.set(slice("c", unready(pod("3", ip(3)))))
	before := r.lists.Load()
	mu.Lock()
	apart = false
	mu.Unlock()
	wantServers(t, c, conn, ip(2))
	if lists := r.lists.Load(); lists != before+1 {
		t.Errorf("%d lists since it can ask again, want one after 410 Gone", lists-before)
	}
	l.stop(t)
}

// realRolling: all pods are replaced one after another, under load on a plain channel and on one with steady, and the
// API server is killed and restarted in the middle. No call fails. Neither channel retries: gRPC's own is off, and
// the rules have none.
func realRolling(t *testing.T, c *cluster) {
	const n = 10
	pods := map[int]*server{}
	old, young := map[int]discoveryv1.Endpoint{}, map[int]discoveryv1.Endpoint{}
	for i := 1; i <= n; i++ {
		pods[i], old[i] = startServer(t, ip(i)), pod(ip(i), ip(i))
	}
	write := func() {
		ordered := func(m map[int]discoveryv1.Endpoint) (out []discoveryv1.Endpoint) {
			for _, i := range slices.Sorted(maps.Keys(m)) {
				out = append(out, m[i])
			}
			return out
		}
		c.set(slice("young", ordered(young)...), slice("old", ordered(old)...))
	}
	write()
	out, err := steady.NewOutbound([]steady.Rule{{Methods: []string{""}}})
	must(t, err)
	b := kube.Builder(kube.WithConfig(c.reader()))
	plain := dialReal(t, b, target, "round_robin", grpc.WithDisableRetry())
	ours, err := grpc.NewClient(target, out.DialOptions(steady.Resolvers(b), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(), grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"steady_least_request":{}}]}`))...)
	must(t, err)
	defer ours.Close()
	var all []string
	for i := 1; i <= n; i++ {
		all = append(all, ip(i))
	}
	wantServers(t, c, plain, slices.Clone(all)...)
	wantServers(t, c, ours, slices.Clone(all)...)
	l := startLoad(plain, ours)
	pause := func(d time.Duration) { <-time.After(d) } // what a pod does by the clock
	for i := 1; i <= n; i++ {
		pods[n+i] = startServer(t, ip(n+i))
		young[i] = unready(pod(ip(n+i), ip(n+i)))
		write()
		pause(50 * time.Millisecond)
		young[i] = pod(ip(n+i), ip(n+i))
		write()
		if i == n/2 {
			c.api.kill()
			pause(time.Second)
			c.startAPI()
		}
		old[i] = terminating(old[i])
		write()
		// A preStop of kubelet's sleep, which is longer than any watch takes to come back here.
		if i == n/2 {
			wantServers(t, c, plain, append(slices.Clone(all[i:]), list(n+1, n+i)...)...)
			wantServers(t, c, ours, append(slices.Clone(all[i:]), list(n+1, n+i)...)...)
		} else {
			pause(time.Second)
		}
		pods[i].srv.GracefulStop()
		delete(old, i)
		write()
	}
	wantServers(t, c, plain, list(n+1, 2*n)...)
	wantServers(t, c, ours, list(n+1, 2*n)...)
	l.stop(t)
}

func list(from, to int) (out []string) {
	for i := from; i <= to; i++ {
		out = append(out, ip(i))
	}
	return out
}

// realThousand: 1,000 endpoints in 10 slices, and all of them replaced ten times.
func realThousand(t *testing.T, c *cluster) {
	round := func(n int) {
		for s := range 10 {
			var pods []discoveryv1.Endpoint
			for p := range 100 {
				addr := fmt.Sprintf("198.19.%d.%d", 10*n+s, p)
				pods = append(pods, pod(fmt.Sprintf("%d-%d-%d", n, s, p), addr))
			}
			c.set(slice(fmt.Sprint("s", s), pods...))
		}
	}
	round(0)
	var r requests
	cc := &channel{}
	began := time.Now()
	build(t, kube.Builder(kube.WithConfig(r.wrap(c.reader()))), target, cc)
	c.until("a thousand endpoints", func() bool { got, _ := cc.last(); return strings.Count(got, ":50051") == 1000 })
	_, first := cc.last()
	t.Logf("the first list of 1000 endpoints in 10 slices took %v", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	for n := 1; n <= 10; n++ {
		round(n)
	}
	wrote := time.Since(began)
	c.until("the last round is seen", func() bool {
		got, _ := cc.last()
		return strings.Count(got, "198.19.10") == 1000
	})
	_, updates := cc.last()
	t.Logf("100 changes of 100 endpoints each, written in %v, were %d updates; %d list, %d watch",
		wrote.Round(time.Millisecond), updates-first, r.lists.Load(), r.watches.Load())
	if first != 1 || updates-first > int(wrote/(100*time.Millisecond))+2 || r.lists.Load() != 1 {
		t.Errorf("%d first updates, %d further ones in %v, %d lists", first, updates-first, wrote, r.lists.Load())
	}
}
