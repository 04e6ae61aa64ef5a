package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/resolver/endpoint"
	"github.com/grpcsteady/steady/resolver/internal/publish"
)

type builder struct {
	settings
	err error
}

func (*builder) Scheme() string { return Scheme }

// OverrideAuthority is gRPC's own rule, but for SRV names: what certificates are made for is the domain.
func (*builder) OverrideAuthority(t resolver.Target) string {
	text := t.Endpoint()
	if isService(text) {
		return domainOf(text)
	}
	if _, err := parse(t); err != nil {
		return url.PathEscape(text) // no call gets that far
	}
	return text
}

// Build starts to look. An option or a target that makes no sense is an error; gRPC hands it to every call.
func (b *builder) Build(target resolver.Target, cc resolver.ClientConn, opts resolver.BuildOptions) (resolver.Resolver, error) {
	if b.err != nil {
		return nil, b.err
	}
	n, err := parse(target)
	if err != nil {
		return nil, err
	}
	r := &looker{
		settings: b.settings, target: target.String(), draw: b.random(),
		outlet: publish.Open(cc, target.String(), b.random, b.onError),
		now:    make(chan struct{}, 1), ended: make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	if n.addr.IsValid() {
		text := net.JoinHostPort(n.addr.Unmap().String(), strconv.Itoa(int(n.port)))
		r.outlet.Publish(publish.State{Endpoints: []resolver.Endpoint{endpoint.New(text)}}, nil)
		close(r.ended)
		return r, nil
	}
	r.txt = r.txt && !opts.DisableServiceConfig
	r.asker = &asker{Lookup: b.lookup(n.server), name: n, first: b.firstOnly}
	go r.run(ctx)
	return r, nil
}

// looker is one resolver. Its goroutine asks, and its outlet hands on.
type looker struct {
	settings
	target string
	draw   float64
	outlet *publish.Outlet
	cancel context.CancelFunc
	now    chan struct{} // one value: gRPC wants to know
	ended  chan struct{}

	// What follows is the goroutine's.
	asker  *asker
	config string    // the last good one
	listed bool      // something was published, and not withdrawn since
	empty  time.Time // since when there are no addresses; zero: there are, or nobody knows
}

// ResolveNow asks sooner. However many come before the next question, there is one.
func (r *looker) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case r.now <- struct{}{}:
	default:
	}
}

// Close ends the resolver, a question under way included.
func (r *looker) Close() {
	r.cancel()
	<-r.ended
	r.outlet.Close()
}

func (r *looker) run(ctx context.Context) {
	defer close(r.ended)
	timer := time.NewTimer(r.every)
	defer timer.Stop()
	for failures := 0; ; {
		select {
		case <-r.now: // this look is the answer
		default:
		}
		well := r.look(ctx)
		if ctx.Err() != nil {
			return
		}
		last, wait, hurry := time.Now(), r.random.Period(r.every), r.now
		if well {
			failures = 0
		} else {
			failures++
			wait = r.random.Backoff(failures, r.every)
			if left := r.untilGraceEnds(); left > 0 {
				wait = min(wait, left)
			}
			hurry = nil // whoever wants to know sooner than that makes it worse
		}
		timer.Reset(wait)
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
				waiting = false
			case <-hurry:
				hurry = nil // the others are part of it
				timer.Reset(min(time.Until(last.Add(r.interval)), time.Until(last.Add(wait))))
			}
		}
	}
}

// look asks once, and hands on what that came to. It reports whether all was well.
func (r *looker) look(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	list, err := r.asker.ask(ctx)
	if err != nil {
		err = fmt.Errorf("dns: %s: %w", r.target, err)
	}
	if len(list) == 0 {
		r.nothing(ctx, err)
		return false
	}
	r.listed, r.empty = true, time.Time{}
	if r.txt {
		config, txtErr := r.serviceConfig(ctx, r.asker, r.asker.name, r.draw)
		switch {
		case txtErr == nil:
			r.config = config
		case err == nil:
			err = fmt.Errorf("dns: %s: service config: %w", r.target, txtErr)
		}
	}
	r.outlet.Publish(publish.State{Endpoints: list, Config: r.config}, err)
	return err == nil
}

// nothing deals with an answer without addresses, or none at all.
func (r *looker) nothing(ctx context.Context, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return // closed
	}
	if !absent(err) || !r.listed {
		r.outlet.Fail(err)
		return
	}
	if r.empty.IsZero() {
		r.empty = time.Now()
	}
	if r.untilGraceEnds() > 0 {
		r.outlet.Fail(fmt.Errorf("%w; the last list is held for %v", err, r.grace))
		return
	}
	r.listed, r.empty = false, time.Time{}
	r.outlet.Withdraw(err)
}

// untilGraceEnds returns how long the list is held on, if it is only held.
func (r *looker) untilGraceEnds() time.Duration {
	if r.empty.IsZero() {
		return maxEvery
	}
	return time.Until(r.empty.Add(r.grace))
}
