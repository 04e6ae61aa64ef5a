package document

import (
	"encoding/json"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

// Names of messages and fields that are not read by their type alone.
const (
	durationName = protoreflect.FullName("google.protobuf.Duration")
	policiesKey  = "loadBalancingConfig"
	extensionKey = "x-"
)

// notYet are the keys of gRPC's service config that have no effect here: taking them would be a promise.
// The value says what to do instead.
var notYet = map[protoreflect.FullName]map[string]string{
	"steady.v1.Config": {
		"loadBalancingPolicy": "deprecated by gRPC, want loadBalancingConfig: [{NAME: {}}]",
		"connectionScaling":   "not supported yet",
	},
	"steady.v1.MethodConfig": {"hedgingPolicy": "not supported yet"},
	"steady.v1.RetryPolicy":  {"perAttemptRecvTimeout": "not supported yet; see deadline.attemptTimeout"},
}

// config reads the whole document and returns its balancing policies as they were written.
func (r *reader) config(root *node, c *steadyv1.Config) json.RawMessage {
	r.message(root, "", c.ProtoReflect())
	if r.stopped {
		return nil
	}
	policies, path := r.policies(root)
	if policies != nil {
		r.loadBalancing(policies, path, c)
	}
	r.rules(root, c)
	if policies == nil || len(r.findings) > 0 {
		return nil
	}
	return r.raw(policies, path)
}

// message reads an object into a message.
func (r *reader) message(n *node, path string, m protoreflect.Message) {
	if !r.visit(n) {
		return
	}
	if n.kind != kindObject {
		r.wrong(n, path, "an object")
		return
	}
	fields := m.Descriptor().Fields()
	for i, key := range n.keys {
		value, field := n.values[i], fields.ByJSONName(key.text)
		if r.stopped {
			return
		}
		if field == nil {
			r.unknown(m.Descriptor(), path, key, value)
			continue
		}
		switch at := join(path, key.text); {
		case value.kind == kindNull && r.lenient:
		case value.kind == kindNull:
			r.add(value, at, "has no value: leave the key out%s", orEmpty(field))
		case path == "" && key.text == policiesKey: // not ours to read
		case field.IsList():
			r.list(value, at, m, field)
		case field.Message() != nil && field.Message().FullName() != durationName:
			r.message(value, at, m.Mutable(field).Message())
		default:
			if v, ok := r.scalar(value, at, field); ok {
				m.Set(field, v)
			}
		}
	}
	r.checkMessage(n, path, m)
}

func orEmpty(field protoreflect.FieldDescriptor) string {
	if field.Message() != nil && !field.IsList() && field.Message().FullName() != durationName {
		return ", or write {} for all defaults"
	}
	return ""
}

func (r *reader) list(n *node, path string, m protoreflect.Message, field protoreflect.FieldDescriptor) {
	if !r.visit(n) {
		return
	}
	if n.kind != kindList {
		r.wrong(n, path, "a list")
		return
	}
	if len(n.values) == 0 && !r.lenient {
		r.add(n, path, "is empty: leave the key out")
		return
	}
	l := m.Mutable(field).List()
	for i, v := range n.values {
		at := path + "[" + strconv.Itoa(i) + "]"
		if r.stopped {
			return
		}
		if field.Message() != nil {
			r.message(v, at, l.AppendMutable().Message())
		} else if value, ok := r.scalar(v, at, field); ok {
			if field.Enum() != nil && has(l, value) {
				if !r.lenient {
					r.add(v, at, "%s stands twice", clip(v.text))
				}
				continue
			}
			l.Append(value)
		}
	}
}

func has(l protoreflect.List, v protoreflect.Value) bool {
	for i := range l.Len() {
		if l.Get(i).Equal(v) {
			return true
		}
	}
	return false
}

// scalar reads a value that is neither object nor list, and checks its range.
func (r *reader) scalar(n *node, path string, field protoreflect.FieldDescriptor) (protoreflect.Value, bool) {
	if !r.visit(n) {
		return protoreflect.Value{}, false
	}
	switch field.Kind() {
	case protoreflect.BoolKind:
		if n.kind != kindBool {
			r.wrong(n, path, "true or false")
			return protoreflect.Value{}, false
		}
		return protoreflect.ValueOfBool(n.text == "true"), true
	case protoreflect.StringKind:
		if n.kind != kindString {
			r.wrong(n, path, "a string in quotes")
			return protoreflect.Value{}, false
		}
		return protoreflect.ValueOfString(n.text), true
	case protoreflect.EnumKind:
		return r.enum(n, path, field.Enum())
	case protoreflect.MessageKind:
		d, ok := r.duration(n, path, field.FullName())
		return protoreflect.ValueOfMessage(durationpb.New(d).ProtoReflect()), ok
	default:
		return r.number(n, path, field)
	}
}

// unknown tells of a key that the schema does not have.
func (r *reader) unknown(m protoreflect.MessageDescriptor, path string, key, value *node) {
	at := join(path, clip(key.text))
	if r.lenient {
		return
	}
	if path == "" && strings.HasPrefix(key.text, extensionKey) {
		if !value.referred() {
			r.add(key, at, "nothing refers to it: such a key holds anchors for other places")
		}
		return
	}
	if reason, ok := notYet[m.FullName()][key.text]; ok {
		r.add(key, at, "%s", reason)
		return
	}
	if similar := nearest(key.text, m.Fields()); similar != "" {
		r.add(key, at, "unknown key, did you mean %s?", similar)
		return
	}
	r.add(key, at, "unknown key, want one of %s", strings.Join(names(m.Fields()), ", "))
}

// wrong tells of a value of the wrong type.
func (r *reader) wrong(n *node, path, want string) {
	if n.kind == kindNumber || n.kind == kindString || n.kind == kindBool {
		r.add(n, path, "%s is %v, want %s", quoted(n), n.kind, want)
		return
	}
	r.add(n, path, "is %v, want %s", n.kind, want)
}

// quoted is the text of a value as the document has it.
func quoted(n *node) string {
	if n.kind == kindString {
		return strconv.Quote(clip(n.text))
	}
	return clip(n.text)
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func names(fields protoreflect.FieldDescriptors) []string {
	var out []string
	for i := range fields.Len() {
		out = append(out, fields.Get(i).JSONName())
	}
	return out
}

// nearest returns the key that was meant, if there is one that differs only in case and punctuation, or in
// one or two letters.
func nearest(key string, fields protoreflect.FieldDescriptors) string {
	plain := func(s string) string { return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s)) }
	const longest = 64 // longer ones are no slip of the pen, and distance is quadratic
	if len(key) > longest {
		return ""
	}
	for most := range 3 {
		for _, name := range names(fields) {
			if most < len(name)/2 && distance(plain(key), plain(name)) <= most {
				return name
			}
		}
	}
	return ""
}

// distance is Levenshtein's: how many letters are to be added, left out or changed.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
