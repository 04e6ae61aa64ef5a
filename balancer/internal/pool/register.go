package pool

import (
	"encoding/json"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/serviceconfig"
	"google.golang.org/protobuf/proto"

	"github.com/grpcsteady/steady/proto/document"
)

// Builder makes the builder of a policy for gRPC's registry. configure makes a config of the policy's message, which
// has been read and checked.
func Builder(name string, configure func(m proto.Message) *Config) balancer.Builder {
	return builder{name: name, configure: configure}
}

type builder struct {
	name      string
	configure func(m proto.Message) *Config
}

func (b builder) Name() string { return b.name }

func (b builder) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	return Build(cc, o)
}

// ParseConfig implements balancer.ConfigParser. The error names field, value and what is allowed.
func (b builder) ParseConfig(data json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	if len(data) == 0 {
		data = json.RawMessage("{}")
	}
	m, err := document.ReadPolicy(b.name, data)
	if err != nil {
		return nil, err // it begins with the policy's name
	}
	c := b.configure(m)
	c.source = data
	return c, nil
}

// MarshalJSON returns what the policy was told. gRPC's xDS policies write the configurations of their children down
// and have them read again.
func (c *Config) MarshalJSON() ([]byte, error) {
	if len(c.source) == 0 {
		return []byte("{}"), nil
	}
	return c.source, nil
}
