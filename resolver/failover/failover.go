// Package failover resolves to a primary group of endpoints and its backups, each found by a resolver of its own:
//
//	conn, err := grpc.NewClient("failover:///orders", steady.Resolvers(failover.Builder([]failover.Group{
//		{Target: "dns:///orders.eu:50051", Builder: dns.Builder()},
//		{Target: "static:///10.9.0.1:50051,10.9.0.2:50051", Builder: static.Builder()},
//	})), ...)
//
// What the target says is only the name of the service, for TLS and the :authority header.
//
// A resolver knows what is listed, and not what is alive: a primary that is down is resolved all the same. So all
// groups are published, with their order as priority (resolver/endpoint), and it is the balancing policy that
// decides which are used. A policy that knows no priorities, as all of gRPC's own, would use all groups alike: for
// those there is [FirstOnly], which publishes one group, the first that resolves, and can not see more than that.
//
// A group that has priorities of its own (SRV records) keeps them within its place. An endpoint that several
// groups have belongs to the first of them. The service config is that of the first group with one.
//
// At the start the first group that resolves is not published before those ahead of it have said something, or
// [Start] has passed: a backup whose list is at hand would get the first calls of every process.
package failover

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/resolver/internal/publish"
)

// Scheme is the scheme of the targets.
const Scheme = "failover"

const (
	defaultStart = 2 * time.Second
	maxStart     = time.Minute
	maxGroups    = 100
)

// Group is a set of endpoints and who finds them.
type Group struct {
	Target  string           // as a channel would dial it
	Builder resolver.Builder // for its scheme
}

// Option changes how groups are put together. One that is out of range is an error that reaches every call.
type Option func(*settings)

type settings struct {
	grace     time.Duration
	start     time.Duration
	firstOnly bool
	onError   func(error)
	random    publish.Random
}

// Grace sets how long the last list of a group is held after its resolver has said that it is empty, or that it can
// not be found. Default 5 min, range 0 to 24 h. The resolvers of this module hold their lists themselves, and then
// this time comes on top.
func Grace(d time.Duration) Option { return func(s *settings) { s.grace = d } }

// Start sets how long a group waits, when the resolver begins, for those ahead of it. Default 2 s, range 0 to
// 1 min.
func Start(d time.Duration) Option { return func(s *settings) { s.start = d } }

// FirstOnly publishes only the first group that has a list, without a priority for being it. A group that comes
// back takes over at once; one that is gone hands over when its list is not held any more. Default: all groups are
// published.
func FirstOnly() Option { return func(s *settings) { s.firstOnly = true } }

// OnError has errors told, those of a group too while others have a list: once each, until it changes or all was
// well in between. It is called from the resolver's goroutine, and must not close the channel. Default: a line in
// the default slog logger.
func OnError(f func(error)) Option { return func(s *settings) { s.onError = f } }

// Random sets where the jitter of repetitions comes from: numbers from 0 up to, but not including, 1. Default:
// math/rand/v2.
func Random(f func() float64) Option { return func(s *settings) { s.random = f } }

// Builder returns the builder for steady.Resolvers or grpc.WithResolvers, of 1 to 100 groups, the primary first. It
// serves any number of channels.
func Builder(groups []Group, opts ...Option) resolver.Builder {
	b := &builder{settings: settings{grace: publish.Grace, start: defaultStart}}
	for _, o := range opts {
		o(&b.settings)
	}
	b.random = b.random.Or()
	var errs []error
	if b.grace < 0 || b.grace > publish.MaxGrace {
		errs = append(errs, fmt.Errorf("failover: Grace is %v, want 0 to %v", b.grace, publish.MaxGrace))
	}
	if b.start < 0 || b.start > maxStart {
		errs = append(errs, fmt.Errorf("failover: Start is %v, want 0 to %v", b.start, maxStart))
	}
	if len(groups) == 0 || len(groups) > maxGroups {
		errs = append(errs, fmt.Errorf("failover: %d groups, want 1 to %d", len(groups), maxGroups))
	}
	for i, g := range groups {
		m, err := g.read()
		if err != nil {
			errs = append(errs, fmt.Errorf("failover: group %d: %w", i, err))
		}
		b.members = append(b.members, m)
	}
	b.err = errors.Join(errs...)
	return b
}

// member is a group that was read.
type member struct {
	resolver.Builder
	text   string
	target resolver.Target
}

func (g Group) read() (m member, err error) {
	if g.Builder == nil {
		return m, fmt.Errorf("target %q has no builder", g.Target)
	}
	u, err := url.Parse(g.Target)
	if err != nil {
		return m, fmt.Errorf("target %q: %w", g.Target, errors.Unwrap(err))
	}
	if u.Scheme != g.Builder.Scheme() {
		return m, fmt.Errorf("target %q has the scheme %q, and its builder %q", g.Target, u.Scheme, g.Builder.Scheme())
	}
	return member{Builder: g.Builder, text: g.Target, target: resolver.Target{URL: *u}}, nil
}
