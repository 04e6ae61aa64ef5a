package document

import (
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

// policyMessages are steady's own balancing policies and what each is told. What others are told is passed on
// unread.
var policyMessages = map[string]func() proto.Message{
	"steady_least_request":   func() proto.Message { return new(steadyv1.LeastRequest) },
	"steady_weighted":        func() proto.Message { return new(steadyv1.Weighted) },
	"steady_consistent_hash": func() proto.Message { return new(steadyv1.ConsistentHash) },
}

// ReadPolicy reads what one of steady's own balancing policies is told, JSON, and checks it. Keys that it does
// not know are passed over, as gRPC demands of a service config, whoever has written it; in the file of a
// document they are errors.
func ReadPolicy(name string, data []byte) (proto.Message, error) {
	build := policyMessages[name]
	if build == nil {
		panic("document: " + name + " is no policy of steady's")
	}
	r := &reader{name: name, lenient: true}
	m := build()
	var root *node
	if r.affordable(data) {
		root = r.parseJSON(data)
		if root != nil && root.kind != kindNull {
			r.message(root, "", m.ProtoReflect())
		}
	}
	if err := r.err(root); err != nil {
		return nil, err
	}
	return m, nil
}

// policy checks what a policy of ours is told.
func (r *reader) policy(n *node, path, name string) {
	build := policyMessages[name]
	if build == nil || n.kind == kindNull && r.lenient {
		return
	}
	r.message(n, join(path, name), build().ProtoReflect())
}

const (
	defaultEjection    = 30 * time.Second
	defaultCheckPeriod = 5 * time.Second
)

func (r *reader) checkEjection(n *node, path string, c *steadyv1.Ejection) {
	said := 0 // a key without a field, or without a value, is none
	c.ProtoReflect().Range(func(protoreflect.FieldDescriptor, protoreflect.Value) bool { said++; return true })
	if c.Mode == steadyv1.Mode_MODE_OFF && said > 1 {
		r.add(n, path, "is off, and says more: leave the rest out")
	}
	if c.GetSuccessRatio() == off && !r.lenient {
		for _, key := range []string{"margin", "minimumCalls"} {
			if v, _ := n.get(key); v != nil {
				r.add(v, join(path, key), "goes only with successRatio")
			}
		}
	}
	base := or(c.BaseTime, defaultEjection)
	if c.MaxTime != nil && c.MaxTime.AsDuration() < base {
		r.add(n.at("maxTime"), join(path, "maxTime"), "%v is below baseTime, %v", c.MaxTime.AsDuration(), base)
	}
}

func (r *reader) checkSlowStart(n *node, path string, c *steadyv1.SlowStart) {
	if c.Window == nil || c.Window.AsDuration() != offTime || r.lenient {
		return
	}
	for _, key := range []string{"minShare", "aggression"} {
		if v, _ := n.get(key); v != nil {
			r.add(v, join(path, key), "goes only with a window")
		}
	}
}

func (r *reader) checkActive(n *node, path string, c *steadyv1.ActiveCheck) {
	every := or(c.Interval, defaultCheckPeriod)
	if c.Timeout != nil && c.Timeout.AsDuration() > every {
		r.add(n.at("timeout"), join(path, "timeout"), "%v is above interval, %v", c.Timeout.AsDuration(), every)
	}
	if len(c.Service) > maxName {
		r.add(n.at("service"), join(path, "service"), "is %d bytes long, want at most %d", len(c.Service), maxName)
	}
}

func (r *reader) checkHash(n *node, path string, c *steadyv1.ConsistentHash) {
	h := c.Header
	if h == "" {
		return
	}
	at, path := n.at("header"), join(path, "header")
	switch {
	case len(h) > 256:
		r.add(at, path, "is %d bytes long, want at most 256", len(h))
	case strings.Trim(h, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "":
		r.add(at, path, "%q, want a header in lower case: a to z, 0 to 9, and - _ .", clip(h))
	case strings.HasSuffix(h, "-bin"):
		r.add(at, path, "%q holds bytes, want a header of text", clip(h))
	case strings.HasPrefix(h, "grpc-"):
		r.add(at, path, "%q is gRPC's own, want one that the caller sets", clip(h))
	}
}
