package healthsvc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// drain is one run of Drain.
type drain struct {
	mayResume bool
	resumed   chan struct{} // closed by Resume
	done      chan struct{} // closed at the end
	err       error         // valid after done
}

// Drain ends the servers it knows of without failing a call:
//
//  1. Every name but liveness and startup is NOT_SERVING: open Watches are told, and new ones. Connections are
//     still taken and calls answered, while balancers notice (WithDrainWait, 5 s).
//  2. Watches end with UNAVAILABLE, which GracefulStop would wait for in vain.
//  3. GracefulStop: clients learn by GOAWAY to go elsewhere, calls in flight may end (WithStopLimit, 20 s).
//  4. Stop cuts off what is left; the error is [ErrCut]. A handler that ignores the end of its context runs on; with
//     grpc.WaitForHandlers it is waited for.
//  5. The checks end, as by Close.
//
// The end of ctx skips what is left of 1 and 3. A second call waits for the first. [PhaseChanged] tells of the
// steps. A handler that calls Drain must do it on a goroutine of its own, or the drain waits for the handler.
func (h *Health) Drain(ctx context.Context) error { return h.drainFor(ctx, true) }

func (h *Health) drainFor(ctx context.Context, mayResume bool) error {
	h.mu.Lock()
	if d := h.drain; d != nil {
		d.mayResume = d.mayResume && mayResume
		h.mu.Unlock()
		select {
		case <-d.done:
			return d.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d := &drain{mayResume: mayResume, resumed: make(chan struct{}), done: make(chan struct{})}
	h.drain = d
	h.enter(PhaseDraining, time.Now())
	h.mu.Unlock()
	d.err = h.draining(ctx, d)
	close(d.done)
	return d.err
}

func (h *Health) draining(ctx context.Context, d *drain) error {
	if h.cfg.drainWait > 0 {
		wait := time.NewTimer(h.cfg.drainWait)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
		case <-d.resumed:
		case <-h.ended: // closed: the servers are still to be stopped
		}
	}
	h.mu.Lock()
	if h.drain != d {
		h.mu.Unlock()
		return ErrResumed
	}
	servers := slices.Clone(h.servers)
	h.enter(PhaseStopping, time.Now())
	h.mu.Unlock()
	err := stop(ctx, servers, h.cfg.stopLimit)
	h.Close()
	return err
}

// stop stops servers at once together, gracefully at first. Where Stop was needed it does not wait for
// GracefulStop to return, which waits for handlers.
func stop(ctx context.Context, servers []stoppable, limit time.Duration) error {
	graceful := make(chan struct{})
	go func() {
		defer close(graceful)
		all(servers, stoppable.GracefulStop)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	cause := fmt.Errorf("not ended within %v", limit)
	select {
	case <-graceful:
		return nil
	case <-timer.C:
	case <-ctx.Done():
		cause = ctx.Err()
	}
	// Both may have come at once.
	select {
	case <-graceful:
		return nil
	default:
	}
	all(servers, stoppable.Stop)
	return errors.Join(ErrCut, cause)
}

// all does something with every server at once, and waits for it.
func all(servers []stoppable, do func(stoppable)) {
	done := make(chan struct{}, len(servers))
	for _, s := range servers {
		go func() {
			defer func() { done <- struct{}{} }()
			do(s)
		}()
	}
	for range servers {
		<-done
	}
}
