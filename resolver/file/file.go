// Package file resolves to the endpoints in a file, and follows it: written in place, replaced by a rename, or
// swapped as Kubernetes does with a ConfigMap.
//
//	conn, err := grpc.NewClient("file:///etc/orders/endpoints.yaml", steady.Resolvers(file.Builder()), ...)
//
// The file is YAML or JSON:
//
//	endpoints:
//	  - address: 10.0.0.1:50051
//	    weight: 3        # 0 to 1,000,000; 0 takes it out; default 1
//	    zone: a
//	    priority: 0      # 0 to 100, 0 first
//	  - addresses: [10.0.0.2:50051, "[2001:db8::2]:50051"] # of one server
//	  - 10.0.0.3:50051?weight=2&zone=b                     # the short form
//	document:            # rules and balancer; may be left out
//	  loadBalancingConfig: [{steady_weighted: {}}]
//
// The document stands in the same file so that endpoints and rules change together or not at all. A channel with
// steady and steady.FollowPushed gets its rules and balancer from it; for others it is a service config as near as
// gRPC comes to it.
//
// The file is read strictly. One that is no good, or gone, changes nothing: the last good one stays, and the error,
// with file and line, is told ([OnError]) and reaches calls as long as there was no good one. So a list without
// endpoints is an error too, and no way to take a service down by a slip.
package file

import (
	"fmt"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/resolver/internal/publish"
)

// Scheme is the scheme of the targets: file:///absolute/path, or file:path from where the program runs.
const Scheme = "file"

const (
	defaultEvery = time.Second
	minEvery     = 10 * time.Millisecond
	maxEvery     = time.Hour
)

// Option changes how files are followed. One that is out of range is an error that reaches every call.
type Option func(*settings)

type settings struct {
	every   time.Duration
	onError func(error)
	random  publish.Random
}

// Every sets how long to wait between looks at the file; each wait is up to a tenth longer or shorter at random. A
// change counts once it has stayed for 100 ms. Default 1 s, range 10 ms to 1 h.
func Every(d time.Duration) Option { return func(s *settings) { s.every = d } }

// OnError has errors told: once each, until it changes or all was well in between. It is called from the
// resolver's goroutine, and must not close the channel. Default: a line in the default slog logger.
func OnError(f func(error)) Option { return func(s *settings) { s.onError = f } }

// Random sets where jitter comes from: numbers from 0 up to, but not including, 1. It is called from several
// goroutines. Default: math/rand/v2.
func Random(f func() float64) Option { return func(s *settings) { s.random = f } }

// Builder returns the builder for steady.Resolvers or grpc.WithResolvers. It serves any number of channels.
func Builder(opts ...Option) resolver.Builder {
	b := builder{settings: settings{every: defaultEvery}}
	for _, o := range opts {
		o(&b.settings)
	}
	if b.every < minEvery || b.every > maxEvery {
		b.err = fmt.Errorf("file: Every is %v, want %v to %v", b.every, minEvery, maxEvery)
	}
	b.random = b.random.Or()
	return b
}
