package steady

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"

	"google.golang.org/protobuf/proto"

	"github.com/grpcsteady/steady/interceptors/fault"
	"github.com/grpcsteady/steady/interceptors/retry"
)

// Option is behaviour of an [Outbound] or an [Inbound]. Rules are data; what has code in it is an option.
type Option func(*settings)

// settings are what options set.
type settings struct {
	mode       Mode
	observers  observers
	faults     *fault.Injector
	budget     retry.BudgetConfig
	gates      []namedGate
	classifier Classifier
	fallbacks  map[string]answerFunc
	successes  map[string]successFunc
	random     func() float64
	pushed     bool // documents that resolvers push are followed
	trust      TrustInbound

	side map[string]bool // options given that are for one side only; true: for an Outbound
	errs []error
}

func newSettings(opts []Option) *settings {
	s := &settings{
		random:    rand.Float64,
		fallbacks: make(map[string]answerFunc),
		successes: make(map[string]successFunc),
		side:      make(map[string]bool),
	}
	for _, o := range opts {
		if o == nil {
			s.errs = append(s.errs, errors.New("option: nil"))
			continue
		}
		o(s)
	}
	return s
}

// check returns what is wrong with the options when given to an Outbound or an Inbound.
func (s *settings) check(outbound bool) error {
	errs := s.errs
	for name, side := range s.side {
		if side == outbound {
			continue
		}
		has := "an Inbound"
		if side {
			has = "an Outbound"
		}
		errs = append(errs, fmt.Errorf("%s: has an effect on %s only", name, has))
	}
	return errors.Join(errs...)
}

// WithMode sets the mode of the whole outbound or inbound. Default: ModeEnforce. See [Outbound.SetMode].
func WithMode(m Mode) Option { return func(s *settings) { s.mode = m } }

// WithObserver adds an observer. It may be given more than once; nil is ignored.
func WithObserver(o Observer) Option {
	return func(s *settings) {
		if o != nil {
			s.observers = append(s.observers, o)
		}
	}
}

// WithFaults injects faults where the injector says so: around every attempt of an Outbound, around every
// handler of an Inbound. An injector is off until it is enabled.
func WithFaults(i *fault.Injector) Option { return func(s *settings) { s.faults = i } }

// WithRetryBudget sets the budget that every channel gets for its retries. Default: the zero config, so
// 20 % of the calls of the last 10 s and at least 1 a second. What a document says of its own counts more.
func WithRetryBudget(cfg retry.BudgetConfig) Option {
	return func(s *settings) {
		s.side["WithRetryBudget"] = true
		if err := cfg.Validate(); err != nil {
			s.errs = append(s.errs, fmt.Errorf("WithRetryBudget: %w", err))
		}
		s.budget = cfg
	}
}

// FollowPushed lets the service config that a channel's resolver pushes (from DNS TXT records, say) be the rules
// of that channel, above those of [Load] or [NewOutbound], as long as it is there: as a whole, nothing is merged.
// It is read leniently, as gRPC demands; one that cannot be read leaves the rules as they are, and [Reloaded]
// tells of each. It works where the resolver's builder is decorated, see [Outbound.DialOptions]. gRPC itself
// then gets the balancing policies and what else it does of a pushed document, but no timeouts and retries.
// Default: a pushed service config is gRPC's alone. Its timeout then cuts each attempt, and its retries are not
// made.
func FollowPushed() Option {
	return func(s *settings) {
		s.side["FollowPushed"] = true
		s.pushed = true
	}
}

// WithGate adds a gate of the user's. Gates are asked for every attempt, after the rule's own, in the order
// given. name labels refusals.
func WithGate(name string, g Gate) Option {
	return func(s *settings) {
		s.side["WithGate"] = true
		if name == "" || g == nil {
			s.errs = append(s.errs, fmt.Errorf("WithGate: name %q and gate %v, want both", name, g))
			return
		}
		s.gates = append(s.gates, namedGate{name, g})
	}
}

// WithClassifier reads the health of the server from what its code does not say. See [Classifier].
func WithClassifier(c Classifier) Option {
	return func(s *settings) {
		s.side["WithClassifier"] = true
		s.classifier = c
	}
}

// WithRandom replaces the source of jitter, for tests. f returns numbers in [0, 1) and must be safe for
// concurrent use. Default: math/rand/v2.
func WithRandom(f func() float64) Option {
	return func(s *settings) {
		s.side["WithRandom"] = true
		if f == nil {
			s.errs = append(s.errs, errors.New("WithRandom: nil, want a function"))
			return
		}
		s.random = f
	}
}

type (
	answerFunc  func(ctx context.Context, req, reply any, cause error) error
	successFunc func(ctx context.Context, req, reply any)
)

// Fallback answers calls of one method that the server could not: refused by a gate, failed for a reason
// that lies with the server, or out of time. An error of the caller's own making (NOT_FOUND, say) and a
// caller who went away are not answered. fn runs in the caller's own context, after the last attempt; its
// reply, typically from a cache that [OnSuccess] filled, is copied into the caller's message, and the call
// succeeds. If fn fails, panics or returns nil, the caller gets the original error.
//
// method is the full name, such as orderspb.Orders_Get_FullMethodName.
func Fallback[Req, Reply any](method string, fn func(ctx context.Context, req *Req, cause error) (*Reply, error)) Option {
	return func(s *settings) {
		s.side["Fallback"] = true
		if !s.method("Fallback", method, fn == nil, s.fallbacks[method] != nil) {
			return
		}
		s.fallbacks[method] = func(ctx context.Context, req, reply any, cause error) error {
			in, ok := req.(*Req)
			out, ok2 := reply.(*Reply)
			if !ok || !ok2 {
				return fmt.Errorf("fallback of %s is for %T and %T, the call has %T and %T", method, in, out, req, reply)
			}
			got, err := fn(ctx, in, cause)
			if err != nil {
				return err
			}
			if got == nil {
				return fmt.Errorf("fallback of %s returned no reply", method)
			}
			assign(out, got)
			return nil
		}
	}
}

// OnSuccess is told every reply that the server gave to calls of one method, typically to fill the cache
// of a [Fallback]. It runs before the call returns; the messages are the caller's, so keep a clone.
func OnSuccess[Req, Reply any](method string, fn func(ctx context.Context, req *Req, reply *Reply)) Option {
	return func(s *settings) {
		s.side["OnSuccess"] = true
		if !s.method("OnSuccess", method, fn == nil, s.successes[method] != nil) {
			return
		}
		s.successes[method] = func(ctx context.Context, req, reply any) {
			in, ok := req.(*Req)
			out, ok2 := reply.(*Reply)
			if ok && ok2 {
				fn(ctx, in, out)
			}
		}
	}
}

// method checks the arguments of an option that is for one method.
func (s *settings) method(option, method string, noFunc, twice bool) bool {
	err := validPattern(method)
	switch {
	case err != nil || method == "" || method[len(method)-1] == '/':
		s.errs = append(s.errs, fmt.Errorf(`%s: %q, want a full method name "/service/Method"`, option, method))
	case noFunc:
		s.errs = append(s.errs, fmt.Errorf("%s: %s has no function", option, method))
	case twice:
		s.errs = append(s.errs, fmt.Errorf("%s: %s is given twice, want one for each method", option, method))
	default:
		return true
	}
	return false
}

// assign copies a reply into the caller's message.
func assign[T any](dst, src *T) {
	if dst == src {
		return
	}
	if d, ok := any(dst).(proto.Message); ok {
		if s, ok := any(src).(proto.Message); ok {
			proto.Reset(d)
			proto.Merge(d, s)
			return
		}
	}
	reflect.ValueOf(dst).Elem().Set(reflect.ValueOf(src).Elem())
}
