package interop_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	etcdresolver "go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	_ "github.com/grpcsteady/steady/balancer/leastrequest"
	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// TestEtcd: etcd's official resolver, with a real etcd, gives a channel with steady its endpoints: they are registered and
// removed while rules and steady_least_request are in force, also while etcd is killed and restarted, and no call fails.
// .ci/heavy/etcd runs it.
func TestEtcd(t *testing.T) {
	program := os.Getenv("STEADY_ETCD")
	if program == "" {
		t.Skip("no STEADY_ETCD: .ci/heavy/etcd runs this test")
	}
	etcd := startEtcd(t, program)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd.addr}, DialTimeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	registry, err := endpoints.NewManager(client, "orders")
	if err != nil {
		t.Fatal(err)
	}
	fleet := map[string]string{} // name to address
	register := func(name string) {
		t.Helper()
		fleet[name] = echoServer(t, name)
		if err := registry.AddEndpoint(t.Context(), "orders/"+name, endpoints.Endpoint{Addr: fleet[name]}); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(name string) {
		t.Helper()
		if err := registry.DeleteEndpoint(t.Context(), "orders/"+name); err != nil {
			t.Fatal(err)
		}
	}
	register("a")
	register("b")

	var picked sync.Map // addresses
	out, err := steady.NewOutbound([]steady.Rule{{
		Methods: []string{""}, Idempotent: true,
		Retry: &retry.Config{}, Breaker: &breaker.Config{},
	}}, steady.WithObserver(steady.ObserverFunc(func(e steady.Event) {
		if e, ok := e.(*steady.AttemptEnded); ok {
			picked.Store(e.Picked, e.Code)
		}
	})))
	if err != nil {
		t.Fatal(err)
	}
	builder, err := etcdresolver.NewBuilder(client)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("etcd:///orders", out.DialOptions(
		steady.Resolvers(builder), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"steady_least_request":{}}]}`))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client1 := echov1.NewEchoClient(conn)
	call := func(opts ...grpc.CallOption) (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		r, err := client1.Get(ctx, &echov1.EchoRequest{}, opts...)
		return r.GetServer(), err
	}
	// until calls until the last 100 went to these servers and no others.
	until := func(want ...string) {
		t.Helper()
		var got []string
		for began := time.Now(); time.Since(began) < time.Minute; {
			counts := map[string]int{}
			for range 100 {
				name, err := call(grpc.WaitForReady(true))
				if err != nil {
					t.Fatalf("a call failed: %v", err)
				}
				counts[name]++
			}
			if got = slices.Sorted(maps.Keys(counts)); slices.Equal(got, want) {
				return
			}
		}
		t.Fatalf("calls go to %v, want %v", got, want)
	}
	until("a", "b")

	var (
		load          sync.WaitGroup
		stop          = make(chan struct{})
		calls, failed atomic.Int64
		first         atomic.Value
	)
	for range 8 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				calls.Add(1)
				if _, err := call(); err != nil {
					failed.Add(1)
					first.CompareAndSwap(nil, err.Error())
				}
			}
		})
	}
	for i := range 10 { // everything is replaced, five times over
		register(fmt.Sprint("c", i))
		until(slices.Sorted(maps.Keys(fleet))...)
		gone := slices.Sorted(maps.Keys(fleet))[0]
		remove(gone)
		delete(fleet, gone)
		until(slices.Sorted(maps.Keys(fleet))...)
	}
	// Without etcd the last list stays, and changes are seen once it is back.
	etcd.kill()
	until(slices.Sorted(maps.Keys(fleet))...)
	etcd.start(t)
	register("d")
	until(slices.Sorted(maps.Keys(fleet))...)
	close(stop)
	load.Wait()
	t.Logf("%d calls, %d failed; now %v", calls.Load(), failed.Load(), slices.Sorted(maps.Keys(fleet)))
	if failed.Load() > 0 || calls.Load() < 1000 {
		t.Errorf("%d of %d calls failed, first: %v", failed.Load(), calls.Load(), first.Load())
	}
	if code, ok := picked.Load(fleet["d"]); !ok || code != codes.OK {
		t.Errorf("attempts at %s: %v: the driver and the picker do not talk", fleet["d"], code)
	}
}

// etcdServer is a real etcd on loopback.
type etcdServer struct {
	program, dir, addr, peer string
	cmd                      *exec.Cmd
	done                     chan struct{} // closed when it has ended
}

func startEtcd(t *testing.T, program string) *etcdServer {
	t.Helper()
	e := &etcdServer{program: program, dir: t.TempDir()}
	for _, url := range []*string{&e.addr, &e.peer} {
		lis, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free
		if err != nil {
			t.Fatal(err)
		}
		*url = "http://" + lis.Addr().String()
		lis.Close()
	}
	e.start(t)
	t.Cleanup(e.kill)
	return e
}

func (e *etcdServer) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(e.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	e.cmd = exec.Command(e.program, "--data-dir", filepath.Join(e.dir, "data"), "--listen-client-urls", e.addr, "--advertise-client-urls", e.addr,
		"--listen-peer-urls", e.peer, "--initial-advertise-peer-urls", e.peer, "--initial-cluster", "default="+e.peer)
	e.cmd.Stdout, e.cmd.Stderr = log, log
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = e.cmd.Wait() // it is killed
		log.Close()
	}()
	e.done = done
}

// kill is kill -9.
func (e *etcdServer) kill() {
	_ = e.cmd.Process.Kill()
	<-e.done
}
