package kube

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

// gather is for how long further changes are waited for after one: a rolling update changes slices many times a
// second, and the IPv4 and the IPv6 slice of a pod change one after the other.
const gather = 100 * time.Millisecond

// After UpdateState has failed, the next try is in half to one and a half of these times.
const (
	firstRetry = time.Second
	longRetry  = 30 * time.Second
)

// watcher is the resolver of one channel. One goroutine watches, another publishes: what gRPC and its policies do
// in an update does not hold up the watch.
type watcher struct {
	settings
	target  Target
	name    string // the target, as the channel has it
	cc      resolver.ClientConn
	client  rest.Interface
	store   *store
	failed  chan error // from the watch, the newest
	cancel  context.CancelFunc
	running sync.WaitGroup
	closing sync.Once
	release func()

	// What follows belongs to publish.
	published  []resolver.Endpoint // the last list that gRPC was given; nil: none, or an empty one
	refused    bool                // it did not take it
	emptySince time.Time           // no usable endpoint since then, and the grace is not over
	reported   string              // the last error that gRPC was told
	problems   string              // the last ones that OnError was told
	retry      backoff
}

// ResolveNow does nothing: what the API server has is here as soon as it changes.
func (r *watcher) ResolveNow(resolver.ResolveNowOptions) {}

// Close ends the watch, also in the middle of a list, and waits for its end.
func (r *watcher) Close() {
	r.closing.Do(func() {
		r.cancel()
		r.running.Wait()
		r.release()
	})
}

// publish tells gRPC what is in the store, whenever it has changed.
func (r *watcher) publish(ctx context.Context) {
	r.retry = backoff{first: firstRetry, last: longRetry}
	wake := time.NewTimer(0)
	defer wake.Stop()
	<-wake.C
	waiting := false // wake is set to gather
	first := true
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-r.failed:
			r.fell(err)
			continue
		case <-r.store.changed:
			if !first {
				if !waiting {
					waiting = true
					wake.Reset(gather)
				}
				continue
			}
			first = false
		case <-wake.C:
			waiting = false
		}
		if again := r.look(time.Now()); again > 0 {
			wake.Reset(again)
		} else {
			wake.Stop()
		}
	}
}

// fell deals with an error of the watch. While there is a list, it is none of gRPC's business: being told an error, it
// would fill up its retry throttle.
func (r *watcher) fell(err error) {
	err = fmt.Errorf("kube: %s: %w", r.target, err)
	if apierrors.IsForbidden(err) {
		err = fmt.Errorf("%w (resolver/kube needs a Role that allows list and watch of endpointslices, and its documentation has it)", err)
	}
	if _, synced := r.store.all(); !synced {
		r.report(err)
	}
	r.tell(err)
}

// look publishes what is in the store if it is news. It returns after which time to look again; 0: when it changes.
func (r *watcher) look(now time.Time) time.Duration {
	all, synced := r.store.all()
	if !synced {
		return 0
	}
	v := unite(all, r.target, r.zone)
	r.complain(v.problems)
	if len(v.endpoints) == 0 {
		return r.empty(now, fmt.Errorf("kube: %s: %w", r.target, v.reason))
	}
	r.emptySince = time.Time{}
	if !r.refused && same(r.published, v.endpoints) {
		return 0 // also for gRPC's retry throttle, which is full again after an update
	}
	r.published, r.reported = v.endpoints, ""
	err := r.cc.UpdateState(stateOf(v.endpoints))
	if r.refused = err != nil; r.refused {
		r.tell(fmt.Errorf("kube: %s: the channel does not take the list: %w", r.target, err))
		return r.retry.next()
	}
	r.retry.reset()
	return 0
}

// empty deals with a list without a usable endpoint.
func (r *watcher) empty(now time.Time, reason error) time.Duration {
	if r.published != nil {
		if r.emptySince.IsZero() {
			r.emptySince = now
			r.tell(fmt.Errorf("%w; the last good list stays for %v", reason, r.grace))
		}
		if left := r.emptySince.Add(r.grace).Sub(now); left > 0 {
			return left
		}
		// A policy answers to an empty list with an error: that is no reason to send it again.
		_ = r.cc.UpdateState(resolver.State{})
		r.published, r.refused = nil, false
	}
	r.report(reason)
	return 0
}

// report tells gRPC an error, once.
func (r *watcher) report(err error) {
	if text := err.Error(); text != r.reported {
		r.reported = text
		r.cc.ReportError(err)
	}
}

// complain tells OnError what is wrong in the slices, once.
func (r *watcher) complain(problems []error) {
	text := ""
	if all := errors.Join(problems...); all != nil {
		text = all.Error()
	}
	if text == r.problems {
		return
	}
	r.problems = text
	for _, p := range problems {
		r.tell(fmt.Errorf("kube: %s: %w", r.target, p))
	}
}

func (r *watcher) tell(err error) {
	if r.onError != nil {
		r.onError(r.name, err)
	}
}

// stateOf has both forms: policies built on gRPC's base balancer read only addresses.
func stateOf(endpoints []resolver.Endpoint) (s resolver.State) {
	s.Endpoints = endpoints
	for _, e := range endpoints {
		s.Addresses = append(s.Addresses, e.Addresses...)
	}
	return s
}
