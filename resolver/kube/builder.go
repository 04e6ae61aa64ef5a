package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/resolver"
	"k8s.io/client-go/rest"
)

// DefaultGrace is how long the last good list stays when a new one has no usable endpoint.
const DefaultGrace = 30 * time.Second

// settings are what options say.
type settings struct {
	config     *rest.Config
	kubeconfig *kubeconfig
	given      rest.Interface
	zone       string
	grace      time.Duration
	onError    func(target string, err error)
}

type kubeconfig struct{ path, context string }

// An Option changes what [Builder] does by default.
type Option func(*settings)

// WithConfig takes the API server from a client configuration, which is copied. Default: that of the pod if this
// process runs in one with a service account, and else the kubeconfig that kubectl would use.
func WithConfig(c *rest.Config) Option { return func(s *settings) { s.config = c } }

// WithKubeconfig takes the API server from a kubeconfig, also in a pod. path "": $KUBECONFIG, and then
// ~/.kube/config. context "": the file's current one. Targets without a namespace are in the context's.
func WithKubeconfig(path, context string) Option {
	return func(s *settings) { s.kubeconfig = &kubeconfig{path, context} }
}

// WithClient uses a client that exists: clientset.DiscoveryV1().RESTClient(), which a fake clientset does not have. Its
// limit of requests holds for all channels of the builder together, and its connections are not closed. It comes
// before the other two.
func WithClient(c rest.Interface) Option { return func(s *settings) { s.given = c } }

// WithZone says in which zone this client is, the node's topology.kubernetes.io/zone: if all ready endpoints have hints
// for zones (Service spec.trafficDistribution) and one of them names this zone, only those hinted for it are used, as
// kube-proxy does. Default: hints are ignored. Hints for nodes always are.
func WithZone(zone string) Option { return func(s *settings) { s.zone = zone } }

// WithGrace says how long the last good list stays when a new one has no usable endpoint: all pods unready at once
// are more often a wrong probe than dead pods. From 0, which is not at all; less is 0. Default: [DefaultGrace]. An
// API server that can not be reached is another matter: then the last good list stays until it can.
func WithGrace(d time.Duration) Option { return func(s *settings) { s.grace = max(d, 0) } }

// OnError is told what goes wrong: an API server that can not be reached or refuses, a list without a usable endpoint,
// what is wrong in an EndpointSlice. Calls are told only while there is no list. It is called from the resolver's
// goroutine, must return soon, and must not close the channel. The same trouble may be told again with each try.
func OnError(f func(target string, err error)) Option { return func(s *settings) { s.onError = f } }

// Builder returns the builder for grpc.WithResolvers, or steady.Resolvers. It serves any number of channels, which
// share one connection to the API server.
func Builder(opts ...Option) resolver.Builder {
	s := settings{grace: DefaultGrace}
	for _, o := range opts {
		o(&s)
	}
	return &builder{access: &access{settings: s}}
}

type builder struct{ access *access }

// Scheme returns "kube".
func (*builder) Scheme() string { return Scheme }

// OverrideAuthority is the target as it is written, without a port's name.
func (*builder) OverrideAuthority(t resolver.Target) string { return authority(t) }

// Build begins to watch. A target that can not be read and a configuration that is missing are errors, which gRPC
// hands to every call; all that has to do with the network comes later.
func (b *builder) Build(t resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	target, err := targetOf(t)
	if err != nil {
		return nil, err
	}
	client, namespace, err := b.access.acquire()
	if err != nil {
		return nil, fmt.Errorf("kube: %s: %w", target, err)
	}
	if target.Namespace == "" {
		target.Namespace = namespace
	}
	if target.Namespace == "" {
		b.access.release()
		return nil, fmt.Errorf("kube: %s: %w", target, errors.New("no namespace, and this is no pod that could lend its own; "+want))
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &watcher{
		settings: b.access.settings, target: target, name: t.String(), cc: cc, client: client,
		store: newStore(), failed: make(chan error, 1), cancel: cancel, release: b.access.release,
	}
	r.running.Go(func() { r.watch(ctx) })
	r.running.Go(func() { r.publish(ctx) })
	return r, nil
}
