package document

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yamlReader makes nodes of YAML: aliases become the node they stand for, merge keys the keys they bring.
type yamlReader struct {
	*reader
	slab
	done map[*yaml.Node]*node // anchors; nil while they are being read
}

func (r *reader) parseYAML(data []byte) *node {
	tree, err := decodeYAML(data)
	if err != nil {
		line, reason := 0, strings.TrimPrefix(err.Error(), "yaml: ")
		if rest, ok := strings.CutPrefix(reason, "line "); ok {
			if number, text, ok := strings.Cut(rest, ": "); ok {
				if n, err := strconv.Atoi(number); err == nil {
					line, reason = n, text
				}
			}
		}
		r.stop(&node{line: int32(min(line, MaxSize))}, "", "%s", reason)
		return nil
	}
	y := &yamlReader{reader: r, done: make(map[*yaml.Node]*node)}
	return y.node(tree, 0)
}

// decodeYAML returns the only document in data.
func decodeYAML(data []byte) (tree *yaml.Node, err error) {
	// A file that changes while a process serves calls must never end it, whatever the parser makes of it.
	defer func() {
		if p := recover(); p != nil {
			tree, err = nil, fmt.Errorf("can not be parsed: %v", p)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	if err := dec.Decode(&first); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("the document is empty; one that says nothing is {}")
		}
		return nil, err
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		if err == nil {
			err = fmt.Errorf("line %d: a second document begins, want one in a file", second.Line)
		}
		return nil, err
	}
	return first.Content[0], nil
}

// node converts one value; nil after an error.
func (y *yamlReader) node(t *yaml.Node, depth int) *node {
	if y.stopped {
		return nil
	}
	if t.Kind == yaml.AliasNode {
		return y.alias(t, depth)
	}
	n := y.new(t.Line, t.Column, t.Value)
	n.height = 1
	if t.Kind != yaml.ScalarNode && depth >= maxDepth {
		y.tooDeep(t)
		return nil
	}
	if t.Anchor != "" {
		y.done[t] = nil
	}
	switch tag := t.ShortTag(); {
	case t.Kind == yaml.SequenceNode && tag == "!!seq":
		n.kind = kindList
		n.values = make([]*node, 0, len(t.Content))
		for _, c := range t.Content {
			n.values = append(n.values, y.node(c, depth+1))
		}
	case t.Kind == yaml.MappingNode && tag == "!!map":
		n.kind = kindObject
		y.object(n, t, depth)
	case t.Kind == yaml.ScalarNode:
		y.scalar(n, tag)
	default:
		y.stop(n, "", "the tag %s is not supported", clip(tag))
	}
	if y.stopped {
		return nil
	}
	for _, v := range n.values {
		n.height = max(n.height, v.height+1)
	}
	if t.Anchor != "" {
		y.done[t] = n
	}
	return n
}

func (y *yamlReader) alias(t *yaml.Node, depth int) *node {
	n, known := y.done[t.Alias]
	if n == nil {
		reason := "the anchor %s contains itself"
		if !known { // a merge key that was read before the keys around it
			reason = "the anchor %s is not known here"
		}
		y.stop(y.new(t.Line, t.Column, ""), "", reason, clip(t.Value))
		return nil
	}
	if depth+int(n.height) > maxDepth {
		y.tooDeep(t)
		return nil
	}
	n.anchored = true
	return n
}

func (y *yamlReader) tooDeep(t *yaml.Node) {
	y.stop(y.new(t.Line, t.Column, ""), "", "more than %d levels deep", maxDepth)
}

func (y *yamlReader) scalar(n *node, tag string) {
	switch tag {
	case "!!null":
	case "!!bool":
		n.kind, n.text = kindBool, strings.ToLower(n.text)
	case "!!int", "!!float":
		n.kind = kindNumber
	case "!!str", "!!timestamp":
		n.kind = kindString
	default:
		y.stop(n, "", "the tag %s is not supported", clip(tag))
	}
}

// object reads the keys of a mapping, its own first, then what merge keys bring: the first to name a key
// wins, as https://yaml.org/type/merge.html has it.
func (y *yamlReader) object(n *node, t *yaml.Node, depth int) {
	var merge *node
	for i := 0; i+1 < len(t.Content); i += 2 {
		k := t.Content[i]
		if k.Kind == yaml.ScalarNode && k.ShortTag() == "!!merge" {
			if merge != nil {
				y.stop(y.new(k.Line, k.Column, ""), "", "a second merge key, want one with a list: <<: [*a, *b]")
				return
			}
			merge = y.node(t.Content[i+1], depth+1)
			continue
		}
		key, value := y.node(k, depth+1), y.node(t.Content[i+1], depth+1)
		if y.stopped {
			return
		}
		if key.kind == kindList || key.kind == kindObject {
			y.stop(key, "", "a key is %v, want a string", key.kind)
			return
		}
		n.keys, n.values = append(n.keys, key), append(n.values, value)
	}
	y.duplicates(n)
	if merge != nil {
		y.merge(n, merge)
	}
}

func (y *yamlReader) merge(n, from *node) {
	sources := []*node{from}
	if from.kind == kindList {
		sources = from.values
	}
	seen := make(map[string]bool, len(n.keys))
	for _, k := range n.keys {
		seen[k.text] = true
	}
	for _, s := range sources {
		if s.kind != kindObject {
			y.stop(s, "", "a merge key with %v, want an object or a list of objects", s.kind)
			return
		}
		for i, k := range s.keys {
			if !y.visit(k) {
				return
			}
			if !seen[k.text] {
				seen[k.text] = true
				n.keys, n.values = append(n.keys, k), append(n.values, s.values[i])
			}
		}
	}
}
