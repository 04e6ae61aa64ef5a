package kube_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/resolver"
	discoveryv1 "k8s.io/api/discovery/v1"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"

	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/resolver/kube"
)

const target = "kube:///orders.shop:grpc"

func parse(s string) (*url.URL, error) { return url.Parse(s) }

// world is an API server and a channel that resolves through it.
type world struct {
	api *apiServer
	cc  *channel
	on  *told
	b   resolver.Builder
}

func newWorld(t *testing.T, opts ...kube.Option) *world {
	w := &world{api: newAPIServer(t, steadytest.NewNetwork()), cc: &channel{}, on: &told{}}
	w.b = kube.Builder(append([]kube.Option{kube.WithConfig(w.api.config()), kube.OnError(w.on.add)}, opts...)...)
	return w
}

// TestAllSlicesAreOneList: an event about one slice takes nothing away from the others.
func TestAllSlicesAreOneList(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		w.api.set(slice("a", pod("1", "10.0.0.1")), slice("b", pod("2", "10.0.0.2")))
		build(t, w.b, target, w.cc)
		synctest.Wait()
		w.cc.want(t, "10.0.0.1:50051 10.0.0.2:50051", 1)
		w.api.set(slice("b", pod("2", "10.0.0.2"), pod("3", "10.0.0.3")))
		synctest.Wait()
		w.cc.want(t, "10.0.0.1:50051 10.0.0.2:50051", 1)
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		w.cc.want(t, "10.0.0.1:50051 10.0.0.2:50051 10.0.0.3:50051", 2)
		w.api.remove("a")
		time.Sleep(time.Second)
		w.cc.want(t, "10.0.0.2:50051 10.0.0.3:50051", 3)
		s := w.cc.states[2]
		if len(s.Addresses) != 2 || s.Addresses[0].Addr != "10.0.0.2:50051" || s.ServiceConfig != nil {
			t.Errorf("state %+v", s)
		}
		if lists, watches := w.api.count(); lists != 1 || watches != 1 {
			t.Errorf("%d lists and %d watches, want one of each", lists, watches)
		}
	})
}

// TestOthersAreNotOurs: slices of other services and namespaces.
func TestOthersAreNotOurs(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		other, elsewhere := slice("o", pod("o", "10.1.0.1")), slice("e", pod("e", "10.2.0.1"))
		other.Labels[discoveryv1.LabelServiceName] = "payments"
		elsewhere.Namespace = "web"
		w.api.set(slice("a", pod("1", "10.0.0.1")), other, elsewhere)
		build(t, w.b, target, w.cc)
		time.Sleep(time.Second)
		w.cc.want(t, "10.0.0.1:50051", 1)
	})
}

// TestChurnIsGathered: a thousand endpoints in ten slices that all change many times a second.
func TestChurnIsGathered(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		round := func(n int) {
			for s := range 10 {
				var pods []discoveryv1.Endpoint
				for p := range 100 {
					pods = append(pods, pod(fmt.Sprintf("%d-%d-%d", n, s, p), fmt.Sprintf("10.%d.%d.%d", n, s, p)))
				}
				w.api.set(slice(fmt.Sprint("s", s), pods...))
			}
		}
		round(0)
		build(t, w.b, target, w.cc)
		synctest.Wait()
		if got, n := w.cc.last(); n != 1 || strings.Count(got, ":50051") != 1000 {
			t.Fatalf("%d updates, the last with %d endpoints", n, strings.Count(got, ":50051"))
		}
		for n := 1; n <= 10; n++ { // 100 events in 90 ms
			round(n)
			time.Sleep(9 * time.Millisecond)
		}
		time.Sleep(time.Second)
		got, n := w.cc.last()
		if n != 2 || strings.Count(got, "10.10.") != 1000 {
			t.Errorf("%d updates, the last with %d endpoints of the last round", n, strings.Count(got, "10.10."))
		}
		if took := w.cc.at[1].Sub(w.cc.at[0]); took != 100*time.Millisecond {
			t.Errorf("published after %v", took)
		}
	})
}

// TestNoNewsIsNotPublished: every update fills gRPC's retry throttle.
func TestNoNewsIsNotPublished(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		w.api.set(slice("a", pod("1", "10.0.0.1")))
		build(t, w.b, target, w.cc)
		synctest.Wait()
		w.api.set(slice("a", pod("1", "10.0.0.1"), unready(pod("2", "10.0.0.2"))))
		time.Sleep(time.Second)
		w.cc.want(t, "10.0.0.1:50051", 1)
		w.api.set(annotated(slice("a", pod("1", "10.0.0.1")), kube.WeightAnnotation, "3"))
		time.Sleep(time.Second)
		w.cc.want(t, "10.0.0.1:50051", 2)
	})
}

// TestGone: a watch that can not go on where it was makes a new list, and what happened in between is in it.
func TestGone(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		w.api.set(slice("a", pod("1", "10.0.0.1")), slice("b", pod("2", "10.0.0.2")))
		build(t, w.b, target, w.cc)
		synctest.Wait()
		w.api.mu.Lock() // not seen by the watch: it breaks first
		w.api.slices = map[string]*discoveryv1.EndpointSlice{"c": slice("c", pod("3", "10.0.0.3"))}
		w.api.mu.Unlock()
		w.api.breakWatches(true)
		time.Sleep(3 * time.Second)
		w.cc.want(t, "10.0.0.3:50051", 2)
		if lists, _ := w.api.count(); lists != 2 {
			t.Errorf("%d lists, want a second one after 410 Gone", lists)
		}
		if errs := w.cc.errors(); len(errs) != 0 {
			t.Errorf("gRPC was told %v", errs)
		}
		w.api.set(slice("c", pod("4", "10.0.0.4")))
		time.Sleep(time.Second)
		w.cc.want(t, "10.0.0.4:50051", 3)
	})
}

// TestABrokenWatchGoesOn where it was, without a list.
func TestABrokenWatchGoesOn(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		w.api.set(slice("a", pod("1", "10.0.0.1")))
		build(t, w.b, target, w.cc)
		time.Sleep(time.Minute) // a watch that breaks within its first second counts as a failure
		w.api.set(slice("a", pod("2", "10.0.0.2")))
		w.api.breakWatches(false)
		time.Sleep(time.Minute)
		w.cc.want(t, "10.0.0.2:50051", 2)
		if lists, watches := w.api.count(); lists != 1 || watches < 2 {
			t.Errorf("%d lists and %d watches", lists, watches)
		}
	})
}

// TestAnOutage of the API server takes nothing away, and is noticed only by OnError.
func TestAnOutage(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		w.api.set(slice("a", pod("1", "10.0.0.1")))
		build(t, w.b, target, w.cc)
		time.Sleep(time.Minute)
		w.api.stop()
		time.Sleep(time.Hour)
		w.cc.want(t, "10.0.0.1:50051", 1)
		if errs := w.cc.errors(); len(errs) != 0 {
			t.Errorf("gRPC was told %v", errs)
		}
		told := w.on.take()
		// Waits end at 10 to 30 s: an hour has at most 3600/10 of them, and at least 3600/40.
		if len(told) < 90 || len(told) > 370 || !strings.Contains(told[0], target+"|kube: orders.shop:grpc: ") || !strings.Contains(told[0], "refused") {
			t.Errorf("OnError was told %d times, first %q", len(told), told[:min(1, len(told))])
		}
		w.api.set(slice("a", pod("2", "10.0.0.2")))
		w.api.start()
		time.Sleep(time.Minute)
		w.cc.want(t, "10.0.0.2:50051", 2)
	})
}

// TestOverload: an API server that answers 429 or 503 for a while, to lists and to watches.
func TestOverload(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		w.api.fail("list", 503)
		w.api.set(slice("a", pod("1", "10.0.0.1")))
		build(t, w.b, target, w.cc)
		time.Sleep(time.Minute)
		w.cc.want(t, "", 0)
		if errs := w.cc.errors(); len(errs) == 0 || !strings.Contains(errs[0].Error(), "kube: orders.shop:grpc: ") {
			t.Errorf("gRPC was told %v", errs)
		}
		lists, _ := w.api.count()
		w.api.fail("list", 0)
		w.api.fail("watch", 429)
		time.Sleep(time.Minute)
		w.cc.want(t, "10.0.0.1:50051", 1)
		w.api.fail("watch", 0)
		time.Sleep(time.Minute)
		w.api.set(slice("a", pod("2", "10.0.0.2")))
		time.Sleep(time.Second)
		w.cc.want(t, "10.0.0.2:50051", 2)
		if lists > 40 {
			t.Errorf("%d lists in a minute of refusals", lists)
		}
	})
}

// TestWithoutRights the error names verb, resource, group and namespace, and what to do.
func TestWithoutRights(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		w.api.fail("list", 403)
		build(t, w.b, target, w.cc)
		time.Sleep(time.Minute)
		errs := w.cc.errors()
		if len(errs) != 1 { // the same text once
			t.Fatalf("gRPC was told %v", errs)
		}
		for _, part := range []string{"orders.shop:grpc", "cannot list", "endpointslices", "discovery.k8s.io", `"shop"`, "Role"} {
			if !strings.Contains(errs[0].Error(), part) {
				t.Errorf("%q does not name %s", errs[0], part)
			}
		}
		lists, _ := w.api.count()
		if lists > 10 {
			t.Errorf("%d lists in a minute", lists)
		}
		w.api.fail("list", 0)
		w.api.set(slice("a", pod("1", "10.0.0.1")))
		time.Sleep(time.Minute)
		w.cc.want(t, "10.0.0.1:50051", 1)
	})
}

// TestCloseInAList neither waits nor leaves a goroutine: goleak and the bubble would know.
func TestCloseInAList(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		w.api.slow(true)
		r := build(t, w.b, target, w.cc)
		time.Sleep(time.Second)
		if lists, _ := w.api.count(); lists != 1 {
			t.Fatalf("%d lists", lists)
		}
		began := time.Now()
		r.Close()
		r.Close()
		if took := time.Since(began); took != 0 {
			t.Errorf("Close took %v", took)
		}
	})
}

// TestASlowListEnds after its time and is made again.
func TestASlowListEnds(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		w.api.slow(true)
		w.api.set(slice("a", pod("1", "10.0.0.1")))
		build(t, w.b, target, w.cc)
		time.Sleep(time.Minute)
		w.api.slow(false)
		time.Sleep(2 * time.Second)
		w.cc.want(t, "10.0.0.1:50051", 1)
		if errs := w.cc.errors(); len(errs) != 1 || !strings.Contains(errs[0].Error(), "deadline") {
			t.Errorf("gRPC was told %v", errs)
		}
	})
}

// TestCloseWhileNobodyAnswers, in every kind of wait.
func TestCloseWhileNobodyAnswers(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		for _, down := range []func(*apiServer){
			func(a *apiServer) { a.network.Refuse(apiAddr) },
			func(a *apiServer) { a.network.BlackHole(apiAddr) },
			func(a *apiServer) { a.fail("list", 503) },
			func(a *apiServer) { a.fail("watch", 503) },
			func(a *apiServer) { a.fail("watch", 429) },
			func(a *apiServer) { a.fail("watch", 403) },
		} {
			w := newWorld(t)
			down(w.api)
			r := build(t, w.b, target, w.cc)
			time.Sleep(10 * time.Second)
			began := time.Now()
			r.Close()
			if took := time.Since(began); took != 0 {
				t.Errorf("Close took %v", took)
			}
		}
	})
}

// TestResolveNow does nothing, however often.
func TestResolveNow(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		w.api.set(slice("a", pod("1", "10.0.0.1")))
		r := build(t, w.b, target, w.cc)
		for range 10_000 {
			r.ResolveNow(resolver.ResolveNowOptions{})
		}
		time.Sleep(time.Minute)
		w.cc.want(t, "10.0.0.1:50051", 1)
		if lists, watches := w.api.count(); lists != 1 || watches != 1 {
			t.Errorf("%d lists and %d watches", lists, watches)
		}
	})
}

// TestARefusedUpdateIsTriedAgain with waits of 0.5 to 1.5 s, 1 to 3 s and so on, until it is taken.
func TestARefusedUpdateIsTriedAgain(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		w.cc.setRefuse(errors.New("no"))
		w.api.set(slice("a", pod("1", "10.0.0.1")))
		build(t, w.b, target, w.cc)
		time.Sleep(10 * time.Minute)
		_, n := w.cc.last()
		for i := 1; i < n; i++ {
			wait, want := w.cc.at[i].Sub(w.cc.at[i-1]), min(time.Second<<(i-1), 30*time.Second)
			if wait < want/2 || wait > want*3/2 {
				t.Errorf("wait %d is %v, want %v times 0.5 to 1.5", i, wait, want)
			}
		}
		if n < 12 {
			t.Errorf("%d tries in ten minutes", n)
		}
		w.cc.setRefuse(nil)
		time.Sleep(10 * time.Minute)
		if _, after := w.cc.last(); after != n+1 {
			t.Errorf("%d updates after it would be taken, want 1", after-n)
		}
	})
}

// TestNothingUsable: the last good list stays for the grace time, then goes, and the reason is told.
func TestNothingUsable(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		w.api.set(slice("a", pod("1", "10.0.0.1")))
		build(t, w.b, target, w.cc)
		synctest.Wait()
		began := time.Now()
		w.api.set(slice("a", unready(pod("1", "10.0.0.1"))))
		time.Sleep(20 * time.Second)
		w.cc.want(t, "10.0.0.1:50051", 1)
		w.api.set(slice("a")) // another kind of nothing does not begin anew
		time.Sleep(time.Minute)
		w.cc.want(t, "", 2)
		if got, want := w.cc.at[1].Sub(began), kube.DefaultGrace+100*time.Millisecond; got != want {
			t.Errorf("taken down after %v, want %v", got, want)
		}
		if errs := w.cc.errors(); len(errs) != 1 || !strings.Contains(errs[0].Error(), "kube: orders.shop:grpc: its 1 EndpointSlices are empty") {
			t.Errorf("gRPC was told %v", errs)
		}
		if told := w.on.take(); len(told) != 1 || !strings.Contains(told[0], "none of its 1 endpoints is ready; the last good list stays for 30s") {
			t.Errorf("OnError was told %q", told)
		}
		w.api.set(slice("a", pod("2", "10.0.0.2")))
		time.Sleep(time.Second)
		w.cc.want(t, "10.0.0.2:50051", 3)
	})
}

// TestAShortGap within the grace time is not seen.
func TestAShortGap(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		for range 3 { // a second gap has a whole grace time again
			w.api.set(slice("a", pod("1", "10.0.0.1")))
			if _, n := w.cc.last(); n == 0 {
				build(t, w.b, target, w.cc)
			}
			time.Sleep(time.Second)
			w.api.remove("a")
			time.Sleep(25 * time.Second)
		}
		w.cc.want(t, "10.0.0.1:50051", 1)
	})
}

// TestFromTheStartNothing is told at once, and why.
func TestFromTheStartNothing(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		for _, tt := range []struct {
			give   []*discoveryv1.EndpointSlice
			target string
			want   string
		}{
			{nil, target, "no EndpointSlice has the label kubernetes.io/service-name=orders"},
			{[]*discoveryv1.EndpointSlice{slice("a", unready(pod("1", "10.0.0.1")))}, target, "none of its 1 endpoints is ready"},
			{[]*discoveryv1.EndpointSlice{slice("a")}, target, "its 1 EndpointSlices are empty"},
			{[]*discoveryv1.EndpointSlice{slice("a", pod("1", "10.0.0.1"))}, "kube:///orders.shop:http", "no port http, there are: grpc=50051"},
			{[]*discoveryv1.EndpointSlice{slice("a", pod("1", "10.0.0.1"))}, "kube:///orders.shop:80", "a number is the pods' port, not the Service's"},
		} {
			w := newWorld(t)
			w.api.set(tt.give...)
			build(t, w.b, tt.target, w.cc)
			synctest.Wait()
			if errs := w.cc.errors(); len(errs) != 1 || !strings.Contains(errs[0].Error(), tt.want) {
				t.Errorf("gRPC was told %v, want %s", errs, tt.want)
			}
			w.cc.want(t, "", 0)
		}
	})
}

// TestABadSliceIsTold once, and does not harm the others.
func TestABadSliceIsTold(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		w.api.set(annotated(slice("a", pod("1", "10.0.0.1")), kube.WeightAnnotation, "heavy"))
		build(t, w.b, target, w.cc)
		synctest.Wait()
		w.api.set(slice("b", pod("2", "10.0.0.2")))
		time.Sleep(time.Minute)
		w.cc.want(t, "10.0.0.1:50051 10.0.0.2:50051", 2)
		if told := w.on.take(); len(told) != 1 || !strings.Contains(told[0], `EndpointSlice a: annotation grpcsteady.github.io/weight: "heavy", want 0 to 1000000`) {
			t.Errorf("OnError was told %q", told)
		}
	})
}

// TestManyChannels of one builder share a connection, which ends with the last of them.
func TestManyChannels(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		w.api.set(slice("a", pod("1", "10.0.0.1")))
		var all []resolver.Resolver
		began := time.Now()
		for range 100 {
			r, err := tryBuild(w.b, target, w.cc)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
		}
		synctest.Wait()
		w.cc.want(t, "10.0.0.1:50051", 100)
		if took := w.cc.at[99].Sub(began); took != 0 {
			t.Errorf("the last channel waited %v", took)
		}
		for _, r := range all {
			r.Close()
		}
		build(t, w.b, target, w.cc) // and again
		synctest.Wait()
		w.cc.want(t, "10.0.0.1:50051", 101)
	})
}

// TestListsWithoutWatches: a Role that forgot the watch. The list is made again after each wait, and OnError is told.
func TestListsWithoutWatches(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		w.api.fail("watch", 403)
		w.api.set(slice("a", pod("1", "10.0.0.1")))
		build(t, w.b, target, w.cc)
		time.Sleep(5 * time.Minute)
		w.api.set(slice("a", pod("2", "10.0.0.2")))
		time.Sleep(time.Minute)
		w.cc.want(t, "10.0.0.2:50051", 2)
		if errs := w.cc.errors(); len(errs) != 0 {
			t.Errorf("gRPC was told %v", errs)
		}
		told := w.on.take()
		if len(told) == 0 || !strings.Contains(told[0], "cannot watch") || !strings.Contains(told[0], "needs a Role") {
			t.Errorf("OnError was told %q", told)
		}
		if lists, _ := w.api.count(); lists > 40 {
			t.Errorf("%d lists in six minutes", lists)
		}
	})
}

// TestAGivenClient is used as it is.
func TestAGivenClient(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		client, err := discoveryclient.NewForConfig(w.api.config())
		if err != nil {
			t.Fatal(err)
		}
		w.api.set(slice("a", pod("1", "10.0.0.1")))
		r := build(t, kube.Builder(kube.WithClient(client.RESTClient())), target, w.cc)
		synctest.Wait()
		w.cc.want(t, "10.0.0.1:50051", 1)
		r.Close()
	})
}

// TestWithoutAConfiguration: not in a pod, and no kubeconfig, or a pod without a namespace to lend.
func TestWithoutAConfiguration(t *testing.T) {
	t.Setenv("KUBECONFIG", t.TempDir()+"/none")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	t.Setenv("POD_NAMESPACE", "")
	if _, err := tryBuild(kube.Builder(), target, &channel{}); err == nil ||
		!strings.Contains(err.Error(), "kube: orders.shop:grpc: this is no pod with a service account, and there is no kubeconfig") {
		t.Errorf("%v", err)
	}
	if _, err := tryBuild(kube.Builder(kube.WithKubeconfig(t.TempDir()+"/missing", "")), target, &channel{}); err == nil ||
		!strings.Contains(err.Error(), "missing") {
		t.Errorf("%v", err)
	}
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		if _, err := tryBuild(w.b, "kube:///orders:grpc", w.cc); err == nil || !strings.Contains(err.Error(), "kube: orders:grpc: no namespace") {
			t.Errorf("%v", err)
		}
	})
	t.Setenv("POD_NAMESPACE", "shop")
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		w.api.set(slice("a", pod("1", "10.0.0.1")))
		build(t, w.b, "kube:///orders:grpc", w.cc)
		synctest.Wait()
		w.cc.want(t, "10.0.0.1:50051", 1)
	})
}

// TestRandomTrouble: whatever breaks, in the end the list is what the API server has, and nothing is left behind.
func TestRandomTrouble(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		for seed := range uint64(20) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t)
			w.api.set(slice("a", pod("0", "10.0.0.1")))
			build(t, w.b, target, w.cc)
			last := ""
			for i := range 50 {
				switch rnd.IntN(8) {
				case 0:
					w.api.breakWatches(rnd.IntN(2) == 0)
				case 1:
					w.api.fail("watch", []int{0, 410, 429, 500, 503}[rnd.IntN(5)])
				case 2:
					w.api.fail("list", []int{0, 429, 500, 503}[rnd.IntN(4)])
				case 3:
					w.api.stop()
				case 4:
					if w.api.srv == nil {
						w.api.start()
					}
				default:
					last = fmt.Sprintf("10.%d.%d.1", seed, i)
					w.api.set(slice("a", pod(last, last)))
				}
				time.Sleep(time.Duration(rnd.Int64N(int64(20 * time.Second))))
			}
			w.api.fail("watch", 0)
			w.api.fail("list", 0)
			if w.api.srv == nil {
				w.api.start()
			}
			time.Sleep(2 * time.Minute)
			if got, _ := w.cc.last(); got != last+":50051" {
				t.Errorf("seed %d: %q, want %s", seed, got, last)
			}
		}
	})
}
