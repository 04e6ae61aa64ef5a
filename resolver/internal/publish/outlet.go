package publish

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
)

// Outlet hands to one channel what its resolver finds. The newest counts: what is published while gRPC takes the
// one before replaces what still waits. What changes nothing is not handed on, since each update of a resolver
// fills gRPC's retry throttle anew. Its methods may be called from any goroutine and wait for nobody; only Close
// waits for the outlet's own goroutine.
type Outlet struct {
	cc      resolver.ClientConn
	target  string
	random  Random
	onError func(error)
	cancel  context.CancelFunc
	ended   chan struct{}
	wake    chan struct{} // one value: something is wanted

	mu     sync.Mutex // guards what follows
	wanted *State     // not handed on yet; an empty one takes the list away
	reason error      // why there is no list; goes with an empty wanted, or stands alone
	failed error      // to be said
	listed bool       // a list was published, and not taken away since

	// What follows is the goroutine's.
	accepted *State                     // what gRPC has
	given    *serviceconfig.ParseResult // the last that it was given
	result   *serviceconfig.ParseResult
	parsed   *State // what result was made of
	told     string // the last error; "": all is well since
}

// Open starts an outlet. target names the channel in errors. Nil for onError: a line in the default slog logger.
func Open(cc resolver.ClientConn, target string, random Random, onError func(error)) *Outlet {
	if onError == nil {
		onError = func(err error) { slog.Warn("resolver: "+err.Error(), "target", target) }
	}
	ctx, cancel := context.WithCancel(context.Background())
	o := &Outlet{
		cc: cc, target: target, random: random.Or(), onError: onError, cancel: cancel,
		ended: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	go o.run(ctx)
	return o
}

// Publish hands on a state. warn is what went wrong beside it; nil: nothing.
func (o *Outlet) Publish(s State, warn error) {
	o.want(func() { o.wanted, o.reason, o.failed, o.listed = &s, nil, warn, true })
}

// Fail says that something went wrong. As long as there is no list, calls end with the error; a list that was
// published stays.
func (o *Outlet) Fail(err error) {
	o.want(func() {
		o.failed = err
		if !o.listed {
			o.reason = err
		}
	})
}

// Withdraw takes the list away. Calls end with err from then on.
func (o *Outlet) Withdraw(err error) {
	o.want(func() { o.wanted, o.reason, o.failed, o.listed = new(State), err, err, false })
}

// Close ends the outlet and its goroutine. Nothing reaches gRPC afterwards. It waits for a call of onError that
// is under way, which therefore must not close the channel.
func (o *Outlet) Close() {
	o.cancel()
	<-o.ended
}

func (o *Outlet) want(change func()) {
	o.mu.Lock()
	change()
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *Outlet) run(ctx context.Context) {
	defer close(o.ended)
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	failures := 0
	for {
		retry.Stop()
		if failures > 0 {
			retry.Reset(o.random.Backoff(failures, backoffMax))
		}
		fresh := false
		select {
		case <-ctx.Done():
			return
		case <-o.wake:
			fresh = true
		case <-retry.C:
		}
		if ctx.Err() != nil {
			return
		}
		switch ok, tried := o.step(fresh); {
		case ok:
			failures = 0
		case tried:
			failures++
		}
	}
}

// step hands on what is wanted. ok: nothing is left to be tried again. tried: gRPC was asked.
func (o *Outlet) step(fresh bool) (ok, tried bool) {
	o.mu.Lock()
	state, reason, failed := o.wanted, o.reason, o.failed
	o.failed = nil
	if fresh {
		o.reason = nil
	}
	o.mu.Unlock()
	if failed != nil {
		o.tell(failed)
	}
	if state == nil {
		if reason != nil {
			o.cc.ReportError(reason)
		}
		return true, false
	}
	if len(state.Endpoints) == 0 {
		// Policies refuse an empty list, which is what it is to say. It says nothing about rules.
		_ = o.cc.UpdateState(resolver.State{ServiceConfig: o.given})
		o.accepted = nil
		o.done(state)
		o.cc.ReportError(reason)
		return true, true
	}
	if o.accepted != nil && state.same(o.accepted) {
		o.done(state)
		o.well(failed)
		return true, false
	}
	s := state.forGRPC()
	s.ServiceConfig = o.serviceConfig(state)
	o.given = s.ServiceConfig
	if err := o.cc.UpdateState(s); err != nil {
		if r := s.ServiceConfig; r != nil && r.Err != nil {
			err = fmt.Errorf("service config: %w", r.Err)
		}
		o.accepted = nil // gRPC may have taken a part of it
		o.tell(fmt.Errorf("%s: the channel refuses what was resolved: %w", o.target, err))
		return false, true
	}
	o.accepted = state
	o.done(state)
	o.well(failed)
	return true, true
}

// done forgets what was handed on, unless something newer is wanted.
func (o *Outlet) done(s *State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wanted == s {
		o.wanted = nil
	}
}

// tell says an error once, until it changes or all was well in between.
func (o *Outlet) tell(err error) {
	if text := err.Error(); text != o.told {
		o.told = text
		o.onError(err)
	}
}

func (o *Outlet) well(failed error) {
	if failed == nil {
		o.told = ""
	}
}

// serviceConfig has gRPC parse the state's service config, once.
func (o *Outlet) serviceConfig(s *State) *serviceconfig.ParseResult {
	if s.Parsed != nil || s.Config == "" {
		return s.Parsed
	}
	if o.parsed != nil && o.parsed.Config == s.Config && o.parsed.Plain == s.Plain {
		return o.result
	}
	r := o.cc.ParseServiceConfig(s.Config)
	if r.Err != nil && s.Plain != "" {
		if plain := o.cc.ParseServiceConfig(s.Plain); plain.Err == nil {
			r = plain
		}
	}
	o.parsed, o.result = s, r
	return r
}
