package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// jsonReader makes nodes of JSON, with the place of each.
type jsonReader struct {
	*reader
	slab
	data []byte
	dec  *json.Decoder

	offset       int // up to where line and column are counted
	line, column int
}

func (r *reader) parseJSON(data []byte) *node {
	// Checked as a whole first: only so is the place of a mistake exact.
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		offset := 0
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			offset = int(syntax.Offset) - 1
			if offset == len(data)-1 && strings.HasPrefix(err.Error(), "unexpected end") {
				offset = len(data)
			}
		}
		line, column := position(data, offset)
		r.stop(new(slab).new(line, column, ""), "", "%v", err)
		return nil
	}
	j := &jsonReader{reader: r, data: data, dec: json.NewDecoder(bytes.NewReader(data)), line: 1, column: 1}
	j.dec.UseNumber()
	root, err := j.value(0)
	if err != nil {
		r.stop(nil, "", "%v", err)
		return nil
	}
	return root
}

// place counts on to the next token's first character.
func (j *jsonReader) place() (line, column int) {
	start := int(j.dec.InputOffset())
	for start < len(j.data) && strings.IndexByte(" \t\r\n,:", j.data[start]) >= 0 {
		start++
	}
	for j.offset < start {
		c, size := utf8.DecodeRune(j.data[j.offset:])
		j.offset += size
		j.column++
		if c == '\n' {
			j.line, j.column = j.line+1, 1
		}
	}
	return j.line, j.column
}

func (j *jsonReader) value(depth int) (*node, error) {
	line, column := j.place()
	token, err := j.dec.Token()
	if err != nil {
		return nil, err
	}
	n := j.new(line, column, "")
	switch t := token.(type) {
	case nil:
	case bool:
		n.kind, n.text = kindBool, "false"
		if t {
			n.text = "true"
		}
	case json.Number:
		n.kind, n.text = kindNumber, t.String()
	case string:
		n.kind, n.text = kindString, t
	case json.Delim:
		if depth >= maxDepth {
			j.stop(n, "", "more than %d levels deep", maxDepth)
			return nil, errTooDeep
		}
		n.kind = kindList
		if t == '{' {
			n.kind = kindObject
		}
		if err := j.inside(n, depth); err != nil {
			return nil, err
		}
	}
	return n, nil
}

var errTooDeep = errors.New("too deep")

// inside reads what an object or a list holds, and its end.
func (j *jsonReader) inside(n *node, depth int) error {
	for j.dec.More() {
		if n.kind == kindObject {
			k, err := j.value(depth + 1)
			if err != nil {
				return err
			}
			n.keys = append(n.keys, k)
		}
		v, err := j.value(depth + 1)
		if err != nil {
			return err
		}
		n.values = append(n.values, v)
	}
	if n.kind == kindObject {
		j.duplicates(n)
	}
	_, err := j.dec.Token()
	return err
}
