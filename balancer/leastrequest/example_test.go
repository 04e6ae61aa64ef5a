package leastrequest_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/grpcsteady/steady/balancer/leastrequest"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// Calls that take their time are spread over the endpoints as evenly as can be.
func Example() {
	s := serve("a", "b", "c")
	client, end := s.dial(leastrequest.ServiceConfig, address("a"), address("b"), address("c"))
	defer end()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s.connected(func(int) {
		if _, err := client.Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
			panic(err)
		}
	})
	// Thirty watches stay open.
	var open sync.WaitGroup
	watching, stop := context.WithCancel(ctx)
	for range 30 {
		watch, err := client.Watch(watching, &healthpb.HealthCheckRequest{})
		if err != nil {
			panic(err)
		}
		if _, err := watch.Recv(); err != nil {
			panic(err)
		}
		open.Go(func() { _, _ = watch.Recv() })
	}
	fmt.Println(s.counts["a"].Load(), s.counts["b"].Load(), s.counts["c"].Load())
	stop()
	open.Wait()
	// Output: 10 10 10
}

// servers are some servers in memory, which count their calls.
type servers struct {
	network *steadytest.Network
	all     []*grpc.Server
	counts  map[string]*atomic.Int64
}

func serve(names ...string) *servers {
	s := &servers{network: steadytest.NewNetwork(), counts: make(map[string]*atomic.Int64)}
	for _, name := range names {
		count := new(atomic.Int64)
		s.counts[name] = count
		server := grpc.NewServer(grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			count.Add(1)
			return h(srv, ss)
		}), grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			count.Add(1)
			return h(ctx, req)
		}))
		healthpb.RegisterHealthServer(server, health.NewServer())
		lis, err := s.network.Listen(name)
		if err != nil {
			panic(err)
		}
		go func() { _ = server.Serve(lis) }()
		s.all = append(s.all, server)
	}
	return s
}

// dial returns a client of a channel to the endpoints.
func (s *servers) dial(serviceConfig string, endpoints ...resolver.Endpoint) (client healthpb.HealthClient, end func()) {
	r := manual.NewBuilderWithScheme("example")
	r.InitialState(resolver.State{Endpoints: endpoints})
	conn, err := grpc.NewClient("example:///servers", grpc.WithResolvers(r), grpc.WithContextDialer(s.network.Dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(serviceConfig))
	if err != nil {
		panic(err)
	}
	return healthpb.NewHealthClient(conn), func() {
		_ = conn.Close()
		for _, server := range s.all {
			server.Stop()
		}
		s.network.Close()
	}
}

// connected calls until every server has been called, and forgets those calls.
func (s *servers) connected(call func(i int)) {
	for i := 0; ; i++ {
		call(i)
		missing := false
		for _, n := range s.counts {
			missing = missing || n.Load() == 0
		}
		if !missing {
			break
		}
	}
	for _, n := range s.counts {
		n.Store(0)
	}
}

func address(addr string) resolver.Endpoint {
	return resolver.Endpoint{Addresses: []resolver.Address{{Addr: addr}}}
}
