package pool

import (
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// kinds remembers which methods are streams, for calls without a driver: how long a stream lives says nothing
// about latency, and a picker is not told what it picks for. The descriptors linked into the program know.
type kinds struct {
	known sync.Map // full method -> bool
	n     atomic.Int64
}

// maxKinds bounds what is remembered: names of methods may come from strangers.
const maxKinds = 1024

// stream reports whether a method is a stream. A method that nobody described counts as one, so that nothing is
// learned of it that is not known to be true.
func (k *kinds) stream(method string) bool {
	if v, ok := k.known.Load(method); ok {
		return v.(bool)
	}
	is := true
	service, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	if d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service)); err == nil {
		if sd, ok := d.(protoreflect.ServiceDescriptor); ok {
			if m := sd.Methods().ByName(protoreflect.Name(name)); m != nil {
				is = m.IsStreamingClient() || m.IsStreamingServer()
			}
		}
	}
	if k.n.Load() < maxKinds {
		if _, had := k.known.LoadOrStore(method, is); !had {
			k.n.Add(1)
		}
	}
	return is
}
