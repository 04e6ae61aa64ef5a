package healthsvc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// Errors of the lifecycle.
var (
	// ErrCut tells that calls were cut off, because they had not ended within the limit.
	ErrCut = errors.New("healthsvc: calls were cut off at the end of the drain")
	// ErrResumed tells that a drain was called off by Resume.
	ErrResumed = errors.New("healthsvc: the drain was called off")
	// ErrStopping tells that it is too late for Resume.
	ErrStopping = errors.New("healthsvc: the server stops")
)

// stoppable is what a drain stops: a *grpc.Server.
type stoppable interface {
	GracefulStop()
	Stop()
	GetServiceInfo() map[string]grpc.ServiceInfo
}

// Register registers grpc.health.v1.Health with a server, starts the checks, and remembers the server for
// [Health.Drain]. It must come before the server's Serve, as every registration; what was registered when
// the first health call comes in, or when [Health.Serve] is called, is answered for by name. More than one
// server may share the service: they drain together.
func (h *Health) Register(s grpc.ServiceRegistrar) {
	healthpb.RegisterHealthServer(s, server{h: h})
	h.mu.Lock()
	if srv, ok := s.(stoppable); ok {
		h.servers = append(h.servers, srv)
		h.unadopted.Store(true)
	} else {
		h.wrapped = true
	}
	h.mu.Unlock()
	h.Start()
}

// adopt gives the servers' services that nobody declared a place beside the declared ones: they follow
// readiness. gRPC's own services (health, reflection) are no reason to call a server.
func (h *Health) adopt() {
	h.mu.Lock()
	servers := slices.Clone(h.servers)
	h.mu.Unlock()
	var names []string
	for _, s := range servers {
		names = slices.AppendSeq(names, maps.Keys(s.GetServiceInfo()))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.unadopted.Load() || len(servers) != len(h.servers) {
		return // somebody else did, or must do it again
	}
	for _, name := range names {
		if h.services[name] == nil && h.check(name) == nil && validName("service", name) == nil && !strings.HasPrefix(name, "grpc.") {
			h.services[name] = &service{follows: true, adopted: true}
		}
	}
	h.publish("registered", time.Now())
	h.unadopted.Store(false)
}

// Serve is the main loop of a server: it serves on lis until ctx ends, then drains as [Health.Drain] does, and
// returns nil, or [ErrCut] if calls had to be cut off. The health service is registered if it was not. If
// serving itself fails, its error comes back at once. Signals are the program's: see signal.NotifyContext.
//
// A server has one life, and so has its health service: Serve is called once.
func (h *Health) Serve(ctx context.Context, srv *grpc.Server, lis net.Listener) error {
	h.mu.Lock()
	known, wrapped, closed := slices.Contains(h.servers, stoppable(srv)), h.wrapped, h.closed
	h.mu.Unlock()
	if closed {
		_ = lis.Close()
		return fmt.Errorf("%w: its life is over", ErrStopping)
	}
	if !known {
		switch _, taken := srv.GetServiceInfo()[healthpb.Health_ServiceDesc.ServiceName]; {
		case !taken:
			h.Register(srv)
		case wrapped: // the server is behind what Register was given
			h.mu.Lock()
			h.servers = append(h.servers, srv)
			h.unadopted.Store(true)
			h.mu.Unlock()
		default:
			_ = lis.Close()
			return errors.New("healthsvc: another health service is registered with the server")
		}
	}
	h.adopt()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	select {
	case err := <-served:
		// Not by us: the listener failed, or somebody stopped the server.
		h.Close()
		return err
	case <-ctx.Done():
	}
	err := h.drainFor(context.WithoutCancel(ctx), false)
	if failed := <-served; err == nil {
		err = failed // nil: it was stopped
	}
	return err
}

// Suspend makes every name but liveness and startup answer NOT_SERVING, until [Health.Resume]: maintenance of
// a server that is to live on.
func (h *Health) Suspend() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.phase >= PhaseDraining {
		return ErrStopping
	}
	h.enter(PhaseSuspended, time.Now())
	return nil
}

// Resume ends Suspend, or calls off a drain that still waits, which then returns [ErrResumed]. Every name
// answers what it would answer had nothing happened, with all that checks found and the program added, removed
// and forced meanwhile. It returns [ErrStopping] when it is too late, or when [Health.Serve] drains.
func (h *Health) Resume() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.phase < PhaseSuspended:
		return nil
	case h.phase == PhaseDraining && h.drain.mayResume:
		close(h.drain.resumed)
		h.drain = nil
	case h.phase != PhaseSuspended:
		return ErrStopping
	}
	p := PhaseStarting
	if h.settled {
		p = PhaseServing
	}
	h.enter(p, time.Now())
	return nil
}
