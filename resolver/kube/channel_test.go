package kube_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
	discoveryv1 "k8s.io/api/discovery/v1"

	_ "github.com/grpcsteady/steady/balancer/leastrequest"
	_ "github.com/grpcsteady/steady/balancer/weighted"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/proto/document"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
	"github.com/grpcsteady/steady/resolver/kube"
)

// fleet is pods that answer, on the network of the API server that lists them.
func fleet(t *testing.T, w *world, ips ...string) *steadytest.Fleet {
	var names []string
	for _, ip := range ips {
		names = append(names, ip+":50051")
	}
	return steadytest.NewFleet(t, steadytest.OnNetwork(w.api.network), steadytest.Replicas(names...))
}

func dial(t *testing.T, w *world, f *steadytest.Fleet, config string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	opts = append(append(f.DialOptions(), grpc.WithResolvers(w.b), grpc.WithDefaultServiceConfig(config)), opts...)
	conn, err := grpc.NewClient(target, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func get(t *testing.T, conn *grpc.ClientConn, opts ...grpc.CallOption) (string, error) {
	ctx, cancel := deadline(t)
	defer cancel()
	r, err := echov1.NewEchoClient(conn).Get(ctx, &echov1.EchoRequest{}, opts...)
	return r.GetServer(), err
}

// TestWeightsArrive: slices of 3, 2 and 1, at our policy on a plain channel.
func TestWeightsArrive(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		f := fleet(t, w, "10.0.0.1", "10.0.0.2", "10.0.0.3")
		for i, weight := range []string{"3", "2", "1"} {
			w.api.set(annotated(slice(fmt.Sprint("s", i), pod(fmt.Sprint(i), fmt.Sprint("10.0.0.", i+1))), kube.WeightAnnotation, weight))
		}
		conn := dial(t, w, f, `{"loadBalancingConfig":[{"steady_weighted":{}}]}`)
		if _, err := get(t, conn, grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute) // all are connected and warm
		f.Forget()
		for range 600 {
			if _, err := get(t, conn); err != nil {
				t.Fatal(err)
			}
		}
		got := f.Count()
		for i, want := range []int{300, 200, 100} {
			if n := got[fmt.Sprintf("10.0.0.%d:50051", i+1)]; n < want-2 || n > want+2 { // the policy's own bound for a window
				t.Errorf("%v, want 300, 200 and 100", got)
			}
		}
	})
}

// TestErrorsReachTheCaller, with target and reason.
func TestErrorsReachTheCaller(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		for name, tt := range map[string]struct {
			set  func(*apiServer)
			want []string
		}{
			"no rights": {func(a *apiServer) { a.fail("list", 403) }, []string{"kube: orders.shop:grpc", "cannot list", `namespace "shop"`, "needs a Role"}},
			"no server": {(*apiServer).stop, []string{"kube: orders.shop:grpc", "refused"}},
			"nothing":   {func(*apiServer) {}, []string{"kube: orders.shop:grpc", "no EndpointSlice has the label"}},
			"unready": {func(a *apiServer) { a.set(slice("a", unready(pod("1", "10.0.0.1")))) },
				[]string{"kube: orders.shop:grpc", "none of its 1 endpoints is ready"}},
		} {
			for _, policy := range []string{"pick_first", "round_robin", "steady_least_request"} {
				w := newWorld(t)
				tt.set(w.api)
				f := fleet(t, w, "10.0.0.1")
				conn := dial(t, w, f, `{"loadBalancingConfig":[{"`+policy+`":{}}]}`)
				_, err := get(t, conn)
				if status.Code(err) != codes.Unavailable {
					t.Errorf("%s, %s: %v", name, policy, err)
				}
				for _, part := range tt.want {
					if !strings.Contains(fmt.Sprint(err), part) {
						t.Errorf("%s, %s: %v, want %s", name, policy, err, part)
					}
				}
			}
		}
		w := newWorld(t)
		f := fleet(t, w, "10.0.0.1")
		conn, err := grpc.NewClient("kube:///orders.shop:http:80", append(f.DialOptions(), grpc.WithResolvers(w.b))...)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := get(t, conn); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), `port "http:80"`) {
			t.Errorf("%v", err)
		}
	})
}

// TestIdleAndBack: a channel that has slept resolves anew, and while it sleeps nothing is watched.
func TestIdleAndBack(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		f := fleet(t, w, "10.0.0.1", "10.0.0.2")
		w.api.set(slice("a", pod("1", "10.0.0.1")))
		conn := dial(t, w, f, `{"loadBalancingConfig":[{"round_robin":{}}]}`, grpc.WithIdleTimeout(10*time.Second))
		for i := range 3 {
			want := fmt.Sprint("10.0.0.", 1+i%2)
			w.api.set(slice("a", pod(want, want)))
			if got, err := get(t, conn); err != nil || got != want+":50051" {
				t.Fatalf("%s, %v, want %s", got, err, want)
			}
			time.Sleep(time.Minute)
			if s := conn.GetState(); s != connectivity.Idle {
				t.Fatalf("the channel is %v", s)
			}
			_, watches := w.api.count()
			w.api.breakWatches(false)
			time.Sleep(time.Minute)
			if _, now := w.api.count(); now != watches || watches != i+1 {
				t.Errorf("%d watches, and %d while it sleeps", watches, now-watches)
			}
		}
	})
}

// TestRollingReplacement in memory: every pod is replaced, one after another, while calls run, and none fails. A pod
// serves on for 2 s after it is marked, as with a preStop sleep, and then ends gracefully.
func TestRollingReplacement(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		var ips []string
		for i := range 20 {
			ips = append(ips, fmt.Sprint("10.0.0.", i))
		}
		f := fleet(t, w, ips...)
		pods := func(from, to int) (out []discoveryv1.Endpoint) {
			for _, ip := range ips[from:to] {
				out = append(out, pod(ip, ip))
			}
			return out
		}
		w.api.set(slice("a", pods(0, 5)...), slice("b", pods(5, 10)...))
		conn := dial(t, w, f, `{"loadBalancingConfig":[{"steady_least_request":{}}]}`)
		if _, err := get(t, conn, grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
		rolled := make(chan struct{})
		go func() {
			defer close(rolled)
			for i := range 10 {
				// The slice controller writes the new pod into one slice, and marks the old one in another.
				w.api.set(slice("a", append(pods(min(i, 5), 5), pods(10, 11+i)...)...))
				time.Sleep(time.Second)
				left := pods(min(i+1, 5), 5)
				if i < 5 {
					left = append(left, terminating(pod(ips[i], ips[i])))
					w.api.set(slice("a", append(left, pods(10, 11+i)...)...))
				} else {
					w.api.set(slice("b", append(pods(i+1, 10), terminating(pod(ips[i], ips[i])))...))
				}
				time.Sleep(2 * time.Second)
				<-f.Replica(ips[i] + ":50051").Drain()
			}
		}()
		calls := 0
		for {
			if _, err := get(t, conn); err != nil {
				t.Fatalf("call %d: %v", calls, err)
			}
			calls++
			time.Sleep(10 * time.Millisecond)
			select {
			case <-rolled:
				if calls < 2500 {
					t.Errorf("%d calls", calls)
				}
				f.Forget()
				for range 200 {
					if _, err := get(t, conn); err != nil {
						t.Fatal(err)
					}
				}
				for i, ip := range ips {
					if n := f.Count()[ip+":50051"]; (n > 0) != (i >= 10) {
						t.Errorf("%s got %d calls at the end", ip, n)
					}
				}
				return
			default:
			}
		}
	})
}

// TestADocumentBesideKube: steady.Load gives a channel on kube its rules and policies, and a changed document changes
// them under load.
func TestADocumentBesideKube(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		f := fleet(t, w, "10.0.0.1", "10.0.0.2")
		w.api.set(annotated(slice("a", pod("1", "10.0.0.1")), kube.WeightAnnotation, "3"), slice("b", pod("2", "10.0.0.2")))
		path := t.TempDir() + "/orders.yaml"
		if err := os.WriteFile(path, []byte("loadBalancingConfig: [{round_robin: {}}]\nmethodConfig: [{name: [{}], deadline: {default: 7s}}]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := steady.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := grpc.NewClient(target, out.DialOptions(append(f.DialOptions(), steady.Resolvers(w.b))...)...)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		share := func() map[string]int {
			for range 100 {
				if _, err := get(t, conn, grpc.WaitForReady(true)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(10 * time.Minute) // warm, and not idle
			f.Forget()
			for range 100 {
				if _, err := get(t, conn, grpc.WaitForReady(true)); err != nil {
					t.Fatal(err)
				}
			}
			return f.Count()
		}
		if got := share()["10.0.0.1:50051"]; got != 50 {
			t.Errorf("%d of 100 by round_robin", got)
		}
		stop := make(chan struct{})
		failed := make(chan error, 1)
		go func() {
			defer close(failed)
			for {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
					if _, err := get(t, conn); err != nil {
						failed <- err
						return
					}
				}
			}
		}()
		time.Sleep(time.Second)
		d, err := parseDocument("loadBalancingConfig: [{steady_weighted: {}}]\nmethodConfig: [{name: [{}], deadline: {default: 9s}}]\n")
		if err != nil {
			t.Fatal(err)
		}
		if err := out.UpdateDocument(d); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		close(stop)
		if err := <-failed; err != nil {
			t.Errorf("a call failed: %v", err)
		}
		synctest.Wait()
		if got := share()["10.0.0.1:50051"]; got < 73 || got > 77 {
			t.Errorf("%d of 100 by weight", got)
		}
	})
}

func parseDocument(text string) (*document.Document, error) {
	return document.Read("orders.yaml", []byte(text))
}

// TestAfterTheGraceTime what a caller is told is the policy's affair: gRPC's pick_first tells him the reason, and
// those that give each endpoint a policy of its own have nobody to tell when there is no endpoint.
func TestAfterTheGraceTime(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		for policy, want := range map[string]string{
			"pick_first": "kube: orders.shop:grpc: its 1 EndpointSlices are empty", "round_robin": "", "steady_least_request": "kube: orders.shop:grpc: its 1 EndpointSlices are empty",
		} {
			w := newWorld(t)
			f := fleet(t, w, "10.0.0.1")
			w.api.set(slice("a", pod("1", "10.0.0.1")))
			conn := dial(t, w, f, `{"loadBalancingConfig":[{"`+policy+`":{}}]}`)
			if _, err := get(t, conn); err != nil {
				t.Fatal(err)
			}
			w.api.set(slice("a"))
			time.Sleep(20 * time.Second)
			if _, err := get(t, conn); err != nil {
				t.Errorf("%s, within the grace time: %v", policy, err)
			}
			time.Sleep(20 * time.Second)
			_, err := get(t, conn)
			t.Logf("%s: %v", policy, err)
			if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", policy, err, want)
			}
		}
	})
}
