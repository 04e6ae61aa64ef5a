package failover

import (
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/grpcsteady/steady/resolver/endpoint"
)

// group stands between the resolver of a group and the channel: to the resolver it is the channel.
type group struct {
	resolver.ClientConn // to parse service configs
	merger              *merger
	target              string
	resolver            resolver.Resolver // set by Build, and used by Close

	// merger.mu guards what follows.
	list   []resolver.Endpoint
	config *serviceconfig.ParseResult
	attrs  *attributes.Attributes
	said   bool      // something, good or bad
	err    error     // the last; nil: all is well
	lost   time.Time // since when it is not
	depth  int       // how many priorities it has had at most
}

// errEmpty makes a resolver that heeds it look again soon.
var errEmpty = errors.New("the resolver has an empty list")

// UpdateState takes a list from the group's resolver. Whether the channel takes it is the merger's business.
func (g *group) UpdateState(s resolver.State) error {
	list := slices.Clone(s.Endpoints)
	if len(list) == 0 {
		for _, a := range s.Addresses {
			list = append(list, resolver.Endpoint{Addresses: []resolver.Address{a}})
		}
	}
	if len(list) == 0 {
		g.fail(errEmpty)
		return errEmpty
	}
	g.merger.change(func() {
		g.list, g.config, g.attrs = list, s.ServiceConfig, s.Attributes
		g.said, g.err, g.lost = true, nil, time.Time{}
		for _, e := range list {
			g.depth = max(g.depth, endpoint.Priority(e)+1)
		}
	})
	return nil
}

// ReportError takes an error from the group's resolver.
func (g *group) ReportError(err error) { g.fail(err) }

// NewAddress is the old form of UpdateState.
func (g *group) NewAddress(addrs []resolver.Address) {
	_ = g.UpdateState(resolver.State{Addresses: addrs}) // the old form has no error
}

func (g *group) fail(err error) {
	g.merger.change(func() {
		g.said, g.err = true, err
		if g.lost.IsZero() {
			g.lost = time.Now()
		}
	})
}

// expire drops a list that was held for long enough, and returns how long one is held on; 0: none is only held.
// merger.mu is held.
func (g *group) expire(grace time.Duration) time.Duration {
	if g.list == nil || g.lost.IsZero() {
		return 0
	}
	left := time.Until(g.lost.Add(grace))
	if left <= 0 {
		g.list, g.config, g.attrs = nil, nil, nil
		return 0
	}
	return left
}
