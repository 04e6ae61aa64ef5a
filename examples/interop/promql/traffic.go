package main

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	_ "github.com/grpcsteady/steady/balancer/weighted"
	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/prom"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/resolver/static"
)

// Each round, on each channel, are these calls of Get: seven that are answered at once, one whose second attempt is
// answered, one that fails twice, and one that hangs until its attempt is cut at 50 ms, and again. With them come one
// call of Put, which always fails and whose breaker opens again and again, and one of Post under a rule that only
// observes, which fails as well.
const (
	answered  = 7
	calls     = answered + 3 + 2.0
	attempts  = answered + 2 + 2 + 2 + 1.0 // of Get and Post; whether there is one of Put is up to its breaker
	attemptIs = 50 * time.Millisecond
)

func rules() []steady.Rule {
	const service = "/steady.echo.v1.Echo/"
	off := &breaker.Config{ConsecutiveFailures: -1, FailureRatio: -1} // counts, and never opens
	again := &retry.Config{MaxAttempts: 2, InitialBackoff: 10 * time.Millisecond, Jitter: retry.NoJitter}
	return []steady.Rule{
		{Name: "get", Methods: []string{service + "Get"}, Retry: again, Breaker: off, Deadline: &deadline.Config{AttemptTimeout: attemptIs, Feasibility: deadline.FeasibilityOff}},
		{Name: "put", Methods: []string{service + "Put"}, Breaker: &breaker.Config{OpenTime: 500 * time.Millisecond, OpenMultiplier: 1, OpenJitter: -1}},
		{Name: "post", Methods: []string{service + "Post"}, Mode: steady.ModeObserve, Idempotent: true, Retry: again},
	}
}

// balance goes round, and counts what it would eject for without ejecting anybody: the failures are the rounds'.
const balance = `{"loadBalancingConfig":[{"steady_weighted":{"ejection":{"consecutiveFailures":-1,"successRatio":-1}}}]}`

// server does what a request asks for.
type server struct{ echov1.UnimplementedEchoServer }

func (server) Get(ctx context.Context, in *echov1.EchoRequest) (*echov1.EchoResponse, error) {
	switch md, _ := metadata.FromIncomingContext(ctx); {
	case in.GetText() == "hang":
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	case in.GetText() == "fail", in.GetText() == "once" && len(md.Get("grpc-previous-rpc-attempts")) == 0:
		return nil, status.Error(codes.Unavailable, "as asked")
	}
	return &echov1.EchoResponse{}, nil
}

func (server) Put(context.Context, *echov1.EchoRequest) (*echov1.EchoResponse, error) {
	return nil, status.Error(codes.Unavailable, "always")
}

func (server) Post(context.Context, *echov1.EchoRequest) (*echov1.EchoResponse, error) {
	return nil, status.Error(codes.Unavailable, "always")
}

// traffic is two servers, two channels that call both of them, and the page that Prometheus reads.
type traffic struct {
	addr string // of the metrics
	stop func()
}

func startTraffic(ctx context.Context) (*traffic, error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var ends []func()
	t := &traffic{stop: func() {
		cancel()
		for _, end := range slices.Backward(ends) {
			end()
		}
		wg.Wait()
	}}
	serve := func(f func(net.Listener) error) (string, error) {
		lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		wg.Go(func() { _ = f(lis) }) // it ends when it is stopped
		return lis.Addr().String(), nil
	}
	var addrs []string
	for range 2 {
		srv := grpc.NewServer()
		echov1.RegisterEchoServer(srv, server{})
		ends = append(ends, srv.Stop)
		addr, err := serve(srv.Serve)
		if err != nil {
			t.stop()
			return nil, err
		}
		addrs = append(addrs, addr)
	}
	metrics := prom.New()
	registry := prometheus.NewRegistry()
	if err := registry.Register(metrics); err != nil {
		t.stop()
		return nil, err
	}
	out, err := steady.NewOutbound(rules(), steady.WithObserver(metrics), steady.WithRetryBudget(retry.BudgetConfig{Ratio: 5, MaxRatio: 5}),
		steady.Fallback(echov1.Echo_Put_FullMethodName, func(context.Context, *echov1.EchoRequest, error) (*echov1.EchoResponse, error) {
			return &echov1.EchoResponse{}, nil
		}))
	if err != nil {
		t.stop()
		return nil, err
	}
	for _, name := range []string{"orders", "stock"} {
		conn, err := grpc.NewClient(static.Scheme+":///"+strings.Join(addrs, ","), out.DialOptions(steady.ChannelName(name),
			steady.Resolvers(static.Builder()), grpc.WithNoProxy(), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultServiceConfig(balance))...)
		if err != nil {
			t.stop()
			return nil, err
		}
		ends = append(ends, func() { _ = conn.Close() })
		client := echov1.NewEchoClient(conn)
		for range 10 { // a rate begins with a series: let each of them be there before it is read
			round(ctx, client)
		}
		wg.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				round(ctx, client)
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	page := &http.Server{Handler: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), ReadHeaderTimeout: 5 * time.Second}
	ends = append(ends, func() { _ = page.Close() })
	if t.addr, err = serve(page.Serve); err != nil {
		t.stop()
		return nil, err
	}
	return t, nil
}

// round makes the calls of a round, one after the other, and waits for none that hangs longer than it must.
func round(ctx context.Context, c echov1.EchoClient) {
	for range answered {
		_, _ = c.Get(ctx, &echov1.EchoRequest{})
	}
	for _, text := range []string{"once", "fail", "hang"} {
		_, _ = c.Get(ctx, &echov1.EchoRequest{Text: text})
	}
	_, _ = c.Put(ctx, &echov1.EchoRequest{})
	_, _ = c.Post(ctx, &echov1.EchoRequest{})
}
