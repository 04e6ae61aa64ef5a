package follow

import (
	"reflect"

	"google.golang.org/grpc/resolver"
)

// Builder is gRPC's builder of resolvers. The name is for those who must not import gRPC's experimental
// package themselves.
type Builder = resolver.Builder

// Connection is what is known of a connection when its resolver is built: at its first call, and again each
// time it comes back from idle mode.
type Connection struct {
	// Key is the same for every resolver of one connection and differs between connections; nil: not known.
	Key any
	// Target is the connection's target in full, with scheme, as its CanonicalTarget returns it.
	Target string
	// Disabled: grpc.WithDisableServiceConfig makes gRPC ignore every service config of a resolver.
	Disabled bool
}

// Standard returns the builders that gRPC brings along and this package decorates without being asked: those
// for dns, passthrough, unix and unix-abstract.
func Standard() []Builder {
	var out []Builder
	for _, scheme := range []string{"dns", "passthrough", "unix", "unix-abstract"} {
		if b := resolver.Get(scheme); b != nil {
			out = append(out, b)
		}
	}
	return out
}

// Decorate returns builders that build what the given ones build, and make it follow the hub. open is called
// for each resolver that is built, from within gRPC, and must return the same channel for the same
// connection. Builders that are nil are left out.
func (h *Hub) Decorate(open func(Connection) *Channel, builders ...Builder) []Builder {
	out := make([]Builder, 0, len(builders))
	for _, b := range builders {
		if b == nil {
			continue
		}
		d := &builder{Builder: b, hub: h, open: open}
		if a, ok := b.(resolver.AuthorityOverrider); ok {
			out = append(out, overrider{d, a})
			continue
		}
		out = append(out, d)
	}
	return out
}

type builder struct {
	Builder
	hub  *Hub
	open func(Connection) *Channel
}

// overrider is for schemes whose names are no authority, such as unix.
type overrider struct {
	*builder
	resolver.AuthorityOverrider
}

// Build builds the resolver inside and stands between it and gRPC.
func (b *builder) Build(target resolver.Target, cc resolver.ClientConn, opts resolver.BuildOptions) (resolver.Resolver, error) {
	name := target.String()
	c := newConn(b.hub, cc, name, b.open(Connection{Key: keyOf(opts), Target: name, Disabled: opts.DisableServiceConfig}))
	c.passive = opts.DisableServiceConfig || target.URL.Scheme == "xds"
	b.hub.add(c)
	r, err := b.Builder.Build(target, c, opts)
	if err != nil {
		b.hub.remove(c)
		return nil, err
	}
	return closing{r, c}, nil
}

// keyOf tells connections apart. gRPC does not say to a builder which connection it builds for, but the
// recorder of metrics is one object for each connection, made with it and kept over idle mode.
func keyOf(opts resolver.BuildOptions) any {
	if opts.MetricsRecorder == nil || reflect.TypeOf(opts.MetricsRecorder).Kind() != reflect.Pointer {
		return nil
	}
	return opts.MetricsRecorder
}

// closing is a resolver that leaves the hub when it is closed.
type closing struct {
	resolver.Resolver
	conn *conn
}

// Close closes the resolver inside.
func (c closing) Close() {
	c.conn.hub.remove(c.conn)
	c.conn.close()
	c.Resolver.Close()
}
