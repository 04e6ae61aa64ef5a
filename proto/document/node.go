package document

import "strconv"

// kind is what a value is, in the terms of JSON.
type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindString
	kindList
	kindObject
)

var kindNames = [...]string{"null", "a boolean", "a number", "a string", "a list", "an object"}

func (k kind) String() string { return kindNames[k] }

// node is a value of a document, whatever it was written in. Anchors share their nodes, so that a document
// is a graph without circles; merge keys are resolved.
type node struct {
	kind         kind
	anchored     bool  // something refers to it
	line, column int32 // of the first character
	height       int32 // levels of the value, itself included; counted for YAML alone, where aliases add up
	text         string
	keys         []*node // of an object
	values       []*node // of an object beside keys, of a list alone
}

// get returns the value of a key and the key itself; nil: an object without it.
func (n *node) get(key string) (value, at *node) {
	for i, k := range n.keys {
		if k.text == key {
			return n.values[i], k
		}
	}
	return nil, nil
}

// child returns the value at a key or an index, and what says where it stands.
func (n *node) child(step string) (value, at *node) {
	switch n.kind {
	case kindObject:
		return n.get(step)
	case kindList:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.values) {
			return n.values[i], n.values[i]
		}
	default:
	}
	return nil, nil
}

// at returns the value of a key, or the node itself where there is none: the place to report something about
// the key.
func (n *node) at(key string) *node {
	if v, _ := n.get(key); v != nil {
		return v
	}
	return n
}

// pathTo returns the path of a key below n. What several aliases share is looked into once.
func (n *node) pathTo(key *node, seen map[*node]bool) (path string, found bool) {
	if seen[n] {
		return "", false
	}
	seen[n] = true
	for i, v := range n.values {
		step := "[" + strconv.Itoa(i) + "]"
		if n.kind == kindObject {
			step = clip(n.keys[i].text)
			if n.keys[i] == key {
				return step, true
			}
		}
		if rest, ok := v.pathTo(key, seen); ok {
			if rest == "" || rest[0] != '[' {
				step += "."
			}
			return step + rest, true
		}
	}
	return "", false
}

// referred reports whether an alias refers to something in n.
func (n *node) referred() bool {
	if n.anchored {
		return true
	}
	for _, v := range n.values {
		if v.referred() {
			return true
		}
	}
	return false
}

// slab hands out nodes from larger pieces: a document has many, and all live as long as it does.
type slab struct{ free []node }

func (s *slab) new(line, column int, text string) *node {
	if len(s.free) == 0 {
		s.free = make([]node, 128)
	}
	n := &s.free[0]
	s.free = s.free[1:]
	n.line, n.column, n.text = int32(line), int32(column), text //nolint:gosec // a document is at most MaxSize
	return n
}
