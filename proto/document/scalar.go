package document

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// off is how a document switches something off whose default is on; the word none for durations.
const (
	off     = -1
	offTime = -time.Second
)

// number reads an integer or a fraction. Only what JSON takes is one, so that YAML and JSON agree on what
// 010 or 1_000 is: nothing.
func (r *reader) number(n *node, path string, field protoreflect.FieldDescriptor) (protoreflect.Value, bool) {
	none := protoreflect.Value{}
	if n.kind != kindNumber {
		r.wrong(n, path, "a number")
		return none, false
	}
	f, err := strconv.ParseFloat(n.text, 64)
	if !plainNumber(n.text) || err != nil {
		r.add(n, path, "%s is no plain decimal number", clip(n.text))
		return none, false
	}
	kind := field.Kind()
	whole := kind != protoreflect.DoubleKind
	limits := numbers[field.FullName()]
	if whole && f > limits.most && r.lenient && limits.clamp {
		f = limits.most
	}
	if !whole && f > 0 && r.lenient && limits.clamp {
		f = min(max(f, limits.least), limits.most)
	}
	if !limits.allow(f) || whole && f != math.Trunc(f) {
		r.add(n, path, "%s, want %v", clip(n.text), limits)
		return none, false
	}
	switch kind {
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(f)), true
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(f)), true
	default:
		return protoreflect.ValueOfFloat64(f), true
	}
}

// plainNumber reports whether s is a number in JSON.
func plainNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	whole := digits(s)
	if whole == 0 || whole > 1 && s[0] == '0' {
		return false
	}
	s = s[whole:]
	if rest, ok := strings.CutPrefix(s, "."); ok {
		fraction := digits(rest)
		if fraction == 0 {
			return false
		}
		s = rest[fraction:]
	}
	if s == "" {
		return true
	}
	if s[0] != 'e' && s[0] != 'E' {
		return false
	}
	s = s[1:]
	if s != "" && (s[0] == '+' || s[0] == '-') {
		s = s[1:]
	}
	return s != "" && digits(s) == len(s)
}

func digits(s string) int {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return i
		}
	}
	return len(s)
}

// duration reads 250ms, 0.25s or, where that is allowed, none.
func (r *reader) duration(n *node, path string, field protoreflect.FullName) (time.Duration, bool) {
	limits := durations[field]
	if n.kind != kindString {
		want := "a duration such as 250ms or 0.25s"
		if limits.none {
			want += ", or none"
		}
		r.wrong(n, path, want)
		return 0, false
	}
	if n.text == "none" && limits.none {
		return offTime, true
	}
	d, err := time.ParseDuration(n.text)
	if err != nil {
		r.add(n, path, "%s is no duration, want one such as 250ms or 0.25s", quoted(n))
		return 0, false
	}
	if r.lenient && limits.clamp && d > 0 {
		d = min(max(d, limits.least), limits.most)
	}
	if !limits.allow(d) {
		r.add(n, path, "%s, want %v", clip(n.text), limits)
		return 0, false
	}
	return d, true
}

// enum reads the name of a value: without its prefix, in the case that fits, or in full as other tools that
// know the schema write it. Codes may be numbers, as in gRPC.
func (r *reader) enum(n *node, path string, e protoreflect.EnumDescriptor) (protoreflect.Value, bool) {
	code := e.FullName() == "steady.v1.Code"
	prefix := prefixOf(e)
	if code && r.lenient && slices.Contains([]string{"OK", "0", "CANCELLED", "1"}, n.text) {
		return protoreflect.Value{}, false // gRPC takes it; it changes nothing
	}
	for i := 1; i < e.Values().Len(); i++ { // 0 is that nothing is written
		v := e.Values().Get(i)
		if n.kind == kindString && (n.text == written(v, prefix, code) || n.text == string(v.Name())) ||
			n.kind == kindNumber && code && n.text == strconv.Itoa(int(v.Number())) {
			if code && v.Number() == cancelled {
				break
			}
			return protoreflect.ValueOfEnum(v.Number()), true
		}
	}
	if code {
		r.add(n, path, "%s, want a code from 2 (UNKNOWN) to 16 (UNAUTHENTICATED)", quoted(n))
		return protoreflect.Value{}, false
	}
	var all []string
	for i := 1; i < e.Values().Len(); i++ {
		all = append(all, written(e.Values().Get(i), prefix, code))
	}
	r.add(n, path, "%s, want one of %s", quoted(n), strings.Join(all, ", "))
	return protoreflect.Value{}, false
}

// cancelled is what a caller does, and no failure to retry on or to count.
const cancelled = 1

// prefixOf is what the names of an enum's values share: MODE_ of MODE_UNSPECIFIED.
func prefixOf(e protoreflect.EnumDescriptor) string {
	return strings.TrimSuffix(string(e.Values().Get(0).Name()), "UNSPECIFIED")
}

// written is how a document has a value of an enum.
func written(v protoreflect.EnumValueDescriptor, prefix string, code bool) string {
	s := strings.TrimPrefix(string(v.Name()), prefix)
	if !code {
		s = strings.ToLower(s)
	}
	return s
}
