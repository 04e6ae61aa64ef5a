package healthsvc_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/grpcsteady/steady/healthsvc"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// TestClientsThatWatch: a server whose dependency is down leaves the picker at that instant and comes back with
// it, while a channel that watches another service goes on calling it: what groups are for.
func TestClientsThatWatch(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		network, state := steadytest.NewNetwork(), resolver.State{}
		dbs := map[string]*dep{}
		for _, name := range []string{"a", "b"} {
			lis, err := network.Listen(name)
			if err != nil {
				t.Fatal(err)
			}
			dbs[name] = &dep{}
			h := newHealth(t, healthsvc.WithCheck("database", dbs[name], healthsvc.Jitter(0)),
				healthsvc.WithService("steady.echo.v1.Echo", "database"), healthsvc.WithService("free"))
			srv := grpc.NewServer()
			echov1.RegisterEchoServer(srv, &echoes{name: name, take: func() time.Duration { return 0 }})
			h.Register(srv)
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = srv.Serve(lis)
			}()
			t.Cleanup(func() {
				srv.Stop()
				<-done
			})
			state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: name}}})
		}
		synctest.Wait() // the first probe of each
		dial := func(service string) echov1.EchoClient {
			r := manual.NewBuilderWithScheme("watching")
			r.InitialState(state)
			conn, err := grpc.NewClient("watching:///", grpc.WithResolvers(r), grpc.WithContextDialer(network.Dial), insecureCreds,
				grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{"serviceName":"`+service+`"}}`))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			return echov1.NewEchoClient(conn)
		}
		needs, free := dial("steady.echo.v1.Echo"), dial("free")
		count := func(client echov1.EchoClient) map[string]int {
			by := map[string]int{}
			for range 20 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				r, err := client.Get(ctx, &echov1.EchoRequest{})
				cancel()
				if err != nil {
					t.Error(err)
				}
				by[r.GetServer()]++
			}
			return by
		}
		want := func(when string, client echov1.EchoClient, a, b int) {
			t.Helper()
			if got := count(client); got["a"] != a || got["b"] != b {
				t.Errorf("%s: %v, want a %d, b %d", when, got, a, b)
			}
		}
		count(needs)
		count(free)
		time.Sleep(s)
		want("all well", needs, 10, 10)
		dbs["a"].set(errDown) // fails at 5, 6 and 7 s
		time.Sleep(6*s - time.Millisecond)
		want("before it falls", needs, 10, 10)
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		want("down", needs, 0, 20)
		want("down, for those who need nothing of it", free, 10, 10)
		dbs["a"].set(nil) // good at 12 and 13 s
		time.Sleep(6 * s)
		synctest.Wait()
		want("up again", needs, 10, 10)
	})
}
