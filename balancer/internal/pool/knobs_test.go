package pool_test

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/grpcsteady/steady/balancer/internal/pool"
	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

// own are the knobs of one policy alone, which its chooser has. What they do is in that policy's tests.
var own = map[protoreflect.FullName]bool{
	"steady.v1.LeastRequest.choice_count": true,
	"steady.v1.ConsistentHash.header":     true,
	"steady.v1.ConsistentHash.peer":       true,
}

// TestNoKnobIsIgnored walks the messages of the policies: whatever field is set to whatever is not its default, the
// settings differ from those of a configuration that says nothing of it.
func TestNoKnobIsIgnored(t *testing.T) {
	walked := 0
	for name, m := range map[string]proto.Message{
		leastRequest: new(steadyv1.LeastRequest), weighted: new(steadyv1.Weighted), consistentHash: new(steadyv1.ConsistentHash),
	} {
		parser, ok := balancer.Get(name).(balancer.ConfigParser)
		if !ok {
			t.Fatalf("%s is not registered, or takes no configuration", name)
		}
		settings := func(config string) (pool.Settings, error) {
			c, err := parser.ParseConfig([]byte(config))
			if err != nil {
				return pool.Settings{}, err
			}
			return c.(*pool.Config).Settings, nil
		}
		var walk func(m protoreflect.MessageDescriptor, before, after string)
		walk = func(m protoreflect.MessageDescriptor, before, after string) {
			base, err := settings(before + "{}" + after)
			if err != nil {
				t.Fatal(err)
			}
			for i := range m.Fields().Len() {
				f := m.Fields().Get(i)
				open, end := before+`{"`+f.JSONName()+`":`, "}"+after
				if f.Message() != nil && f.Message().ParentFile().Package() == "steady.v1" {
					walk(f.Message(), open, end)
					continue
				}
				walked++
				changed, taken := false, false
				for _, value := range []string{"true", `"observe"`, `"x-user"`, `"7s"`, `"700ms"`, `"2m"`, "-1", "7", "0.35", "1.25"} {
					if s, err := settings(open + value + end); err == nil {
						taken = true
						changed = changed || s != base
					}
				}
				if !taken {
					t.Errorf("%s: %s takes none of the values", name, f.FullName())
				}
				if changed == own[f.FullName()] {
					t.Errorf("%s: %s changes the settings: %v", name, f.FullName(), changed)
				}
			}
		}
		walk(m.ProtoReflect().Descriptor(), "", "")
	}
	if walked < 60 {
		t.Errorf("%d knobs walked", walked)
	}
}

// TestConfigurationIsRefused: in gRPC's words, which the user of a bad service config sees.
func TestConfigurationIsRefused(t *testing.T) {
	for _, name := range []string{leastRequest, weighted, consistentHash} {
		parser, _ := balancer.Get(name).(balancer.ConfigParser)
		for _, config := range []string{`[]`, `{`, `{"ejection":1}`, `{"panicThreshold":2}`, `{"slowStart":{"window":"1ns"}}`} {
			if c, err := parser.ParseConfig([]byte(config)); err == nil || c != nil {
				t.Errorf("%s takes %s", name, config)
			}
		}
		for _, config := range []string{``, `null`, `{}`, `{"unknown":1}`} {
			c, err := parser.ParseConfig([]byte(config))
			if err != nil {
				t.Errorf("%s refuses %q: %v", name, config, err)
				continue
			}
			s := c.(*pool.Config).Settings
			if got, want := fmt.Sprintf("%+v", s.Ejection), "{Off:false Observe:false Consecutive:5 Ratio:0.8 Margin:0.1 MinimumCalls:20 Window:10s Base:30s Max:5m0s Share:0.3}"; got != want {
				t.Errorf("%s, %q: ejection is %s by default, want %s", name, config, got, want)
			}
			if s.SlowStart != (pool.SlowStart{Window: 30e9, MinShare: 0.1, Aggression: 1}) || s.Check != (pool.Check{}) || s.Panic != 0.5 {
				t.Errorf("%s, %q: %+v", name, config, s)
			}
		}
	}
}
