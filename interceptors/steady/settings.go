package steady

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"

	"github.com/grpcsteady/steady/proto/document"
	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
	"github.com/grpcsteady/steady/resolver/follow"
)

// dialSettings are what a document says about connections. gRPC takes it once, when the channel is made. The
// zero value says nothing.
type dialSettings struct {
	connect time.Duration // 0: not written
	ping    bool
	keepalive.ClientParameters
}

// Defaults of a keepalive that is written. The time is above the 5 minutes that gRPC servers insist on, since
// the two clocks differ a little.
const (
	defaultPingTime    = 6 * time.Minute
	defaultPingTimeout = 20 * time.Second
)

func dialSettingsOf(d *document.Document) dialSettings {
	var s dialSettings
	if d == nil {
		return s
	}
	c := d.Config.GetChannel()
	s.connect = timeOf(c.GetConnectTimeout())
	if k := c.GetKeepalive(); k != nil {
		s.ping = true
		s.ClientParameters = pingsOf(k)
	}
	return s
}

func pingsOf(k *steadyv1.Keepalive) keepalive.ClientParameters {
	p := keepalive.ClientParameters{
		Time: timeOf(k.GetTime()), Timeout: timeOf(k.GetTimeout()), PermitWithoutStream: k.GetPermitWithoutStream(),
	}
	if p.Time == 0 {
		p.Time = defaultPingTime
	}
	if p.Timeout == 0 {
		p.Timeout = defaultPingTimeout
	}
	return p
}

// options returns what tells gRPC.
func (s dialSettings) options() []grpc.DialOption {
	var out []grpc.DialOption
	if s.connect > 0 {
		out = append(out, grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: s.connect}))
	}
	if s.ping {
		out = append(out, grpc.WithKeepaliveParams(s.ClientParameters))
	}
	return out
}

// ChannelName names a channel in events, metrics and snapshots. It is for [Outbound.DialOptions]; elsewhere
// it does nothing. Default: the target of the connection.
func ChannelName(name string) grpc.DialOption { return nameOption{name: name} }

type nameOption struct {
	grpc.EmptyDialOption
	name string
}

// Resolvers gives a connection builders of resolvers, as grpc.WithResolvers does, and names them to
// [Outbound.DialOptions], which can not look into gRPC's own option: so that the document in force reaches
// balancing policies, and pushed documents the rules, with other resolvers than gRPC's as well. It is also for
// builders that are registered: Resolvers(resolver.Get("consul")). Elsewhere it is grpc.WithResolvers.
func Resolvers(builders ...follow.Builder) grpc.DialOption {
	return resolversOption{withResolvers(builders...), builders}
}

type resolversOption struct {
	grpc.DialOption
	builders []follow.Builder
}
