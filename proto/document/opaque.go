package document

import (
	"bytes"
	"encoding/json"
	"strconv"

	"google.golang.org/protobuf/types/known/structpb"

	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

// policies returns the list of balancing policies. A pushed document may name one as gRPC did before it had
// lists; a name that gRPC does not know then means pick_first.
func (r *reader) policies(root *node) (n *node, path string) {
	if n, _ := root.get(policiesKey); n != nil && (n.kind != kindNull || !r.lenient) {
		return n, policiesKey
	}
	const old = "loadBalancingPolicy"
	name, _ := root.get(old)
	if !r.lenient || name == nil || name.kind != kindString || name.text == "" {
		return nil, ""
	}
	list := &node{kind: kindList, line: name.line, column: name.column}
	for _, policy := range []string{name.text, "pick_first"} {
		key := &node{kind: kindString, line: name.line, column: name.column, text: policy}
		none := &node{kind: kindObject, line: name.line, column: name.column}
		list.values = append(list.values, &node{
			kind: kindObject, line: name.line, column: name.column, keys: []*node{key}, values: []*node{none},
		})
	}
	return list, old
}

// loadBalancing checks the form of the list and copies it into the config. What a foreign policy is told is its
// own matter.
func (r *reader) loadBalancing(n *node, path string, c *steadyv1.Config) {
	if n.kind != kindList || len(n.values) == 0 {
		r.add(n, path, "is %v without a policy, want a list such as [{round_robin: {}}]", n.kind)
		return
	}
	for i, v := range n.values {
		at := path + "[" + strconv.Itoa(i) + "]"
		if v.kind != kindObject || len(v.keys) != 1 {
			r.add(v, at, "want an object with one key, the policy's name, such as {round_robin: {}}")
			continue
		}
		r.policy(v.values[0], at, v.keys[0].text)
		s := new(structpb.Struct)
		if f := r.object(v, s); f != nil {
			r.add(f.at, at+f.path, "%s", f.reason)
			return
		}
		c.LoadBalancingConfig = append(c.LoadBalancingConfig, s)
	}
}

// fault is a finding deep within what is passed on unread. Its path is made on the way out, so that a good
// document pays nothing for it.
type fault struct {
	at     *node
	path   string
	reason string
}

func (r *reader) object(n *node, s *structpb.Struct) *fault {
	s.Fields = make(map[string]*structpb.Value, len(n.keys))
	for i, k := range n.keys {
		v, f := r.any(n.values[i])
		if f != nil {
			f.path = "." + clip(k.text) + f.path
			return f
		}
		s.Fields[k.text] = v
	}
	return nil
}

func (r *reader) any(n *node) (*structpb.Value, *fault) {
	if !r.visit(n) {
		return nil, &fault{at: n, reason: "is too much"}
	}
	switch n.kind {
	case kindBool:
		return structpb.NewBoolValue(n.text == "true"), nil
	case kindNumber:
		f, err := strconv.ParseFloat(n.text, 64)
		if err != nil || !plainNumber(n.text) {
			return nil, &fault{at: n, reason: clip(n.text) + " is no plain decimal number"}
		}
		return structpb.NewNumberValue(f), nil
	case kindString:
		return structpb.NewStringValue(n.text), nil
	case kindList:
		l := &structpb.ListValue{Values: make([]*structpb.Value, 0, len(n.values))}
		for i, v := range n.values {
			value, f := r.any(v)
			if f != nil {
				f.path = "[" + strconv.Itoa(i) + "]" + f.path
				return nil, f
			}
			l.Values = append(l.Values, value)
		}
		return structpb.NewListValue(l), nil
	case kindObject:
		s := new(structpb.Struct)
		f := r.object(n, s)
		return structpb.NewStructValue(s), f
	default:
		return structpb.NewNullValue(), nil
	}
}

// maxRaw bounds what aliases make of the balancing policies, in bytes.
const maxRaw = 2 * MaxSize

// raw writes as JSON what stands in the document: numbers to the last digit and keys in their order, neither
// of which a Struct keeps. loadBalancing has checked it.
func (r *reader) raw(n *node, path string) json.RawMessage {
	var out bytes.Buffer
	write(&out, n)
	if out.Len() > maxRaw {
		r.stop(n, path, "is more than %d bytes large, counting what is behind an alias at each use", maxRaw)
		return nil
	}
	return out.Bytes()
}

func write(out *bytes.Buffer, n *node) {
	if out.Len() > maxRaw {
		return
	}
	switch n.kind {
	case kindNull:
		out.WriteString("null")
	case kindString:
		writeString(out, n.text)
	case kindList:
		for i, v := range n.values {
			out.WriteByte("[,"[min(i, 1)])
			write(out, v)
		}
		if len(n.values) == 0 {
			out.WriteByte('[')
		}
		out.WriteByte(']')
	case kindObject:
		for i, v := range n.values {
			out.WriteByte("{,"[min(i, 1)])
			writeString(out, n.keys[i].text)
			out.WriteByte(':')
			write(out, v)
		}
		if len(n.values) == 0 {
			out.WriteByte('{')
		}
		out.WriteByte('}')
	default: // numbers and booleans
		out.WriteString(n.text)
	}
}

// writeString quotes s without the detours for HTML.
func writeString(out *bytes.Buffer, s string) {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s)           // a string can not fail
	out.Truncate(out.Len() - 1) // the newline
}
