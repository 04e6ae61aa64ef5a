package steady

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/grpcsteady/steady/interceptors/deadline"
)

// Inbound is the server's half of the rules. For every call that comes in it makes its deadline the budget of
// the calls that the handler makes through an [Outbound], and answers with negative pushback if one of those
// has already spent its retries: the layer next to the failure retries, and none above it.
type Inbound struct {
	*settings
	table *table
}

// TrustInbound says which of the caller's words a server believes. The zero value is the default.
type TrustInbound struct {
	// IgnoreAttempts makes every call count as a first attempt, whatever grpc-previous-rpc-attempts says.
	// Otherwise outgoing calls on behalf of a retried call make one attempt each.
	IgnoreAttempts bool
}

// WithTrustInbound sets what an [Inbound] believes of its callers' metadata.
func WithTrustInbound(t TrustInbound) Option {
	return func(s *settings) {
		s.side["WithTrustInbound"] = false
		s.trust = t
	}
}

// NewInbound checks the rules and returns an inbound that follows them. Of a rule, Mode and the Default and Max
// of its Deadline have a meaning on a server: a deadline for unary calls that come without one, and a cap for
// longer ones. Anything else is an error. Use one for a whole server; no rules are fine.
func NewInbound(rules []Rule, opts ...Option) (*Inbound, error) {
	in := &Inbound{settings: newSettings(opts)}
	errs := []error{in.check(false)}
	for i, r := range rules {
		for field, set := range map[string]bool{
			"Retry": r.Retry != nil, "RetryOn": len(r.RetryOn) > 0, "Idempotent": r.Idempotent,
			"Breaker": r.Breaker != nil, "PerMethod": r.PerMethod, "FailOn": len(r.FailOn) > 0,
		} {
			if set {
				errs = append(errs, fmt.Errorf("rules[%d]%s: %s: is for an Outbound, has no effect on a server", i, labelOf(r), field))
			}
		}
		if d := r.Deadline; d != nil && *d != (deadline.Config{Default: d.Default, Max: d.Max}) {
			errs = append(errs, fmt.Errorf("rules[%d]%s: Deadline: only Default and Max have an effect on a server", i, labelOf(r)))
		}
	}
	t, err := compile(rules, in.mode)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, fmt.Errorf("steady: %w", err)
	}
	in.table = t
	return in, nil
}

// ServerOptions returns the options that make a server follow the rules. Interceptors that the caller gives
// before run outside, those after inside.
func (in *Inbound) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(in.unary), grpc.ChainStreamInterceptor(in.stream)}
}

// Interceptors returns the pair for a chain of the caller's own.
func (in *Inbound) Interceptors() (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
	return in.unary, in.stream
}

// hop is a server call on whose behalf a process makes calls.
type hop struct {
	earlier  int         // attempts that the caller made before this one
	deadline time.Time   // until when the handler must answer; zero: no limit
	spent    atomic.Bool // an outgoing call has spent its retries: another attempt from above is of no use
}

type hopKey struct{}

// hopContext carries a hop; one object for both.
type hopContext struct {
	context.Context
	hop hop
}

func (c *hopContext) Value(k any) any {
	if _, ok := k.(hopKey); ok {
		return &c.hop
	}
	return c.Context.Value(k)
}

// hopFrom returns the server call on whose behalf ctx is used, or nil.
func hopFrom(ctx context.Context) *hop {
	h, _ := ctx.Value(hopKey{}).(*hop)
	return h
}

// maxEarlier clamps a number that comes from outside.
const maxEarlier = 100

// readAttempts reads grpc-previous-rpc-attempts as its sender may have meant it: what is no small natural
// number counts as none.
func readAttempts(values []string) int {
	if len(values) == 0 {
		return 0
	}
	n, err := strconv.ParseUint(values[0], 10, 32)
	if err != nil {
		return 0
	}
	return int(min(n, maxEarlier))
}

// enter makes the context of a server call.
func (in *Inbound) enter(ctx context.Context) *hopContext {
	hc := &hopContext{Context: ctx}
	hc.hop.deadline, _ = ctx.Deadline()
	if !in.trust.IgnoreAttempts {
		hc.hop.earlier = readAttempts(metadata.ValueFromIncomingContext(ctx, attemptsKey))
	}
	return hc
}

// noMore is the trailer that stops the retries of steady and of plain gRPC above.
func noMore() metadata.MD { return metadata.Pairs(pushbackKey, "-1") }

func (in *Inbound) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	rule, named := in.table.match(info.FullMethod)
	if rule.mode == ModeOff {
		return handler(ctx, req)
	}
	about := About{Method: info.FullMethod, Rule: rule.Name, Known: named || describe(info.FullMethod) != nil}
	hc := in.enter(ctx)
	start := time.Now()
	limit, origin, derive := rule.budget(ctx, start, 0, false)
	var inner context.Context = hc
	if derive && rule.mode == ModeEnforce {
		var cancel context.CancelFunc
		inner, cancel = context.WithDeadline(hc, limit)
		defer cancel()
		hc.hop.deadline = limit
	}
	if in.faults != nil {
		if err := injectFault(inner, in.faults, about, 1, true, in.observers); err != nil {
			return nil, err
		}
	}
	reply, err := handler(inner, req)
	if now := time.Now(); derive && !now.Before(limit) && ctx.Err() == nil && in.observers.on() {
		in.observers.tell(&DeadlineCut{
			About: about, Number: 1, Origin: origin, Limit: limit.Sub(start), At: limit, WouldHave: rule.mode == ModeObserve,
		})
	}
	if err != nil && hc.hop.spent.Load() && rule.mode == ModeEnforce {
		if e := grpc.SetTrailer(ctx, noMore()); e != nil {
			return reply, err // no transport below, as in a test that calls the interceptor itself
		}
	}
	return reply, err
}

func (in *Inbound) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	rule, named := in.table.match(info.FullMethod)
	if rule.mode == ModeOff {
		return handler(srv, ss)
	}
	hc := in.enter(ss.Context())
	if in.faults != nil {
		about := About{Method: info.FullMethod, Rule: rule.Name, Stream: true, Known: named || describe(info.FullMethod) != nil}
		if err := injectFault(hc, in.faults, about, 1, true, in.observers); err != nil {
			return err
		}
	}
	err := handler(srv, &serverStream{ss, hc})
	if err != nil && hc.hop.spent.Load() && rule.mode == ModeEnforce {
		ss.SetTrailer(noMore())
	}
	return err
}

// serverStream is a stream with the context of its hop.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *serverStream) Context() context.Context { return s.ctx }
