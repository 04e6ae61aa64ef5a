// Package dns resolves names as gRPC's own resolver of that scheme does, and goes on looking: it asks again every
// half minute, so that servers that join are found while all connections are healthy, where gRPC's asks only once
// a connection is lost.
//
//	conn, err := grpc.NewClient("dns:///orders.prod.svc.cluster.local:50051",
//		steady.Resolvers(dns.Builder()), ...)
//
// It has gRPC's scheme, and takes its place on the channels that it is given to; nothing is registered. Targets:
//
//	dns:///orders:50051             A and AAAA of a name; without a port 443, as in gRPC
//	dns:///_grpc._tcp.orders        SRV: hosts with ports, weights and priorities
//	dns://10.0.0.53:53/orders:50051 another name server; without a port 53
//	dns:///[2001:db8::1]:50051      an address; nobody is asked
//
// An error or an answer without addresses takes no connection down: the last list stays, on errors until there is
// a better one, on an empty answer for a grace time. What is asked costs one A and one AAAA query a period (per
// host of an SRV answer), one SRV query where that is asked for, and one for TXT if [ServiceConfigs] is on.
//
// An IPv4 and an IPv6 address of one name are one endpoint with two addresses, so that gRPC tries both (Happy
// Eyeballs). With more of a family nobody can tell which belong together, and each is an endpoint of its own:
// there, SRV names tell servers apart.
//
// When not to use it: in Kubernetes a resolver that watches EndpointSlices is told at once, and knows zones.
package dns

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/resolver/internal/publish"
)

// Scheme is the scheme of the targets.
const Scheme = "dns"

// Defaults and bounds.
const (
	defaultEvery    = 30 * time.Second
	minEvery        = 100 * time.Millisecond
	maxEvery        = 24 * time.Hour
	defaultInterval = 5 * time.Second
	defaultTimeout  = 10 * time.Second
	minTimeout      = 10 * time.Millisecond
	maxTimeout      = time.Minute
)

// Option changes how names are resolved. One that is out of range is an error that reaches every call.
type Option func(*settings)

type settings struct {
	every     time.Duration
	interval  time.Duration // -1: not said
	grace     time.Duration
	timeout   time.Duration
	txt       bool
	firstOnly bool
	onError   func(error)
	random    publish.Random
	lookup    func(server string) Lookup
	host      string // ours; what a service config may ask for
}

// Every sets the longest time between two looks. Each wait is up to a fifth shorter at random, so that a thousand
// processes do not ask in step. Default 30 s, range 100 ms to 24 h.
func Every(d time.Duration) Option { return func(s *settings) { s.every = d } }

// MinInterval sets how long after an answer the next question may follow, however often gRPC wants to know
// because connections are lost. Default 5 s, or Every if that is less; range 0 to Every.
func MinInterval(d time.Duration) Option { return func(s *settings) { s.interval = d } }

// Grace sets how long the last list is held while the name server says that there is no such name or no address.
// After errors, such as a name server that can not be reached, it is held until there is another answer.
// Default 5 min, range 0 to 24 h.
func Grace(d time.Duration) Option { return func(s *settings) { s.grace = d } }

// Timeout bounds one look, with all its questions. Default 10 s, range 10 ms to 1 min.
func Timeout(d time.Duration) Option { return func(s *settings) { s.timeout = d } }

// ServiceConfigs also asks for a service config in TXT records, as gRFC A2 has it: at _grpc_config.NAME, a text
// that begins with grpc_config= and goes on with a list of choices, of which the first counts whose clientLanguage
// (go), clientHostname and percentage are met. The draw for the percentage is made once for each resolver. What a
// channel makes of it, see steady.FollowPushed.
//
// Default: off, where gRPC's own resolver has it on. Whoever can write the zone could change retries, timeouts and
// balancing of every client, and most zones have none, so that it is a question more in every period.
func ServiceConfigs() Option { return func(s *settings) { s.txt = true } }

// FirstOnly publishes of an SRV answer only the hosts of its first priority, as RFC 2782 wants it of clients that
// can not tell which are alive. It is for balancing policies that know no priorities, such as all of gRPC's own.
// Default: all are published, with their priority as an attribute (resolver/endpoint).
func FirstOnly() Option { return func(s *settings) { s.firstOnly = true } }

// OnError has errors told: once each, until it changes or all was well in between. Calls hear of them only while
// there is no list. It is called from the resolver's goroutine, and must not close the channel. Default: a line
// in the default slog logger.
func OnError(f func(error)) Option { return func(s *settings) { s.onError = f } }

// Random sets where jitter and the draw for percentages come from: numbers from 0 up to, but not including, 1.
// It is called from several goroutines. Default: math/rand/v2.
func Random(f func() float64) Option { return func(s *settings) { s.random = f } }

// Using sets who is asked: server is the target's, host:port, or "" for the system's. Default: a net.Resolver.
func Using(f func(server string) Lookup) Option { return func(s *settings) { s.lookup = f } }

// Builder returns the builder for steady.Resolvers or grpc.WithResolvers. It serves any number of channels.
func Builder(opts ...Option) resolver.Builder {
	s := settings{every: defaultEvery, interval: -1, grace: publish.Grace, timeout: defaultTimeout, lookup: system, host: hostname()}
	for _, o := range opts {
		o(&s)
	}
	return &builder{settings: s, err: s.check()}
}

func (s *settings) check() error {
	var errs []error
	within := func(name string, d, least, most time.Duration) {
		if d < least || d > most {
			errs = append(errs, fmt.Errorf("dns: %s is %v, want %v to %v", name, d, least, most))
		}
	}
	within("Every", s.every, minEvery, maxEvery)
	if s.interval == -1 {
		s.interval = min(defaultInterval, s.every)
	} else {
		within("MinInterval", s.interval, 0, s.every)
	}
	within("Grace", s.grace, 0, publish.MaxGrace)
	within("Timeout", s.timeout, minTimeout, maxTimeout)
	if s.lookup == nil {
		errs = append(errs, errors.New("dns: Using is nil, want a function"))
	}
	s.random = s.random.Or()
	return errors.Join(errs...)
}
