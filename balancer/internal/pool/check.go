package pool

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// check asks one endpoint for its health as long as its connection is ready. Its goroutine belongs to the policy,
// which waits for its end.
type check struct {
	settings Check
	sub      balancer.SubConn
	cancel   context.CancelFunc
	release  func()
	done     chan struct{}
}

// check starts and stops checks as connections come and go. mu is held.
func (p *policy) check(list []*Endpoint, pickers []balancer.Picker, s Check) {
	if s.Interval == 0 && len(p.checks) == 0 {
		return
	}
	subs := make(map[*Endpoint]balancer.SubConn, len(list))
	for i, e := range list {
		if pickers[i] == nil || s.Interval == 0 {
			continue
		}
		if r, err := pickers[i].Pick(balancer.PickInfo{Ctx: context.Background()}); err == nil && r.SubConn != nil {
			subs[e] = r.SubConn
		}
	}
	for e, c := range p.checks {
		if subs[e] != c.sub || c.settings != s {
			delete(p.checks, e)
			p.ending.Go(c.stop) // it may be telling the pool something just now
		}
	}
	for e, sub := range subs {
		if p.checks[e] == nil {
			p.checks[e] = start(e, sub, s)
		}
	}
}

// start begins to check an endpoint on one of its connections.
func start(e *Endpoint, sub balancer.SubConn, s Check) *check {
	made, release := sub.GetOrBuildProducer(clients{})
	ctx, cancel := context.WithCancel(context.Background())
	c := &check{settings: s, sub: sub, cancel: cancel, release: release, done: make(chan struct{})}
	client, _ := made.(healthpb.HealthClient)
	go func() {
		defer close(c.done)
		run(ctx, e, client, s)
	}()
	return c
}

func (c *check) stop() {
	c.cancel()
	<-c.done
	c.release()
}

// run checks until ctx ends. An endpoint begins well: what is known of it from before, or nothing.
func run(ctx context.Context, e *Endpoint, client healthpb.HealthClient, s Check) {
	timer := time.NewTimer(wait(s))
	defer timer.Stop()
	ill, row := e.isIll(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		began := time.Now()
		well, supported := ask(ctx, client, s)
		switch {
		case ctx.Err() != nil:
			return
		case !supported:
			ill, row = false, 0
			e.pool.checked(e, false)
		case well == !ill: // as before
			row = 0
		default:
			if row++; row >= s.Rise && well || row >= s.Fall && !well {
				ill, row = !ill, 0
				e.pool.checked(e, ill)
			}
		}
		timer.Reset(max(wait(s)-time.Since(began), 0))
	}
}

// wait returns the time to the next check.
func wait(s Check) time.Duration {
	return time.Duration(float64(s.Interval) * (1 + s.Jitter*(2*rand.Float64()-1)))
}

// ask makes one check. A server that does not know the service of health checks can not be asked.
func ask(ctx context.Context, client healthpb.HealthClient, s Check) (well, supported bool) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	r, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: s.Service})
	if status.Code(err) == codes.Unimplemented {
		return true, false
	}
	return err == nil && r.GetStatus() == healthpb.HealthCheckResponse_SERVING, true
}

func (e *Endpoint) isIll() bool {
	e.pool.mu.Lock()
	defer e.pool.mu.Unlock()
	return e.ill
}

// clients builds a client for a connection, as gRPC's producers are built: one for each connection, shared by
// whoever asks.
type clients struct{}

// Build implements balancer.ProducerBuilder.
func (clients) Build(conn any) (balancer.Producer, func()) {
	c, ok := conn.(grpc.ClientConnInterface)
	if !ok {
		return nil, func() {}
	}
	return healthpb.NewHealthClient(c), sync.OnceFunc(func() {})
}
