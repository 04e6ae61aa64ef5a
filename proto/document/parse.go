package document

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// Bounds of a document beside MaxSize. Each keeps the work of reading below what a process can afford while
// it serves calls; all are far above what a document for people needs.
const (
	maxDepth  = 64      // objects and lists around a value
	maxMarks  = 250_000 // lines, commas and colons, which bound how many values there can be
	maxVisits = 400_000 // values, those behind aliases and merge keys counted at each use
)

// parse makes nodes of a document; nil after an error.
func (r *reader) parse(data []byte) *node {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // the mark that some editors write
	if !r.affordable(data) {
		return nil
	}
	var root *node
	trimmed := bytes.TrimSpace(data)
	switch {
	case len(trimmed) == 0:
		// Also what a file looks like that is being written just now.
		r.stop(nil, "", "the document is empty; one that says nothing is {}")
	case strings.EqualFold(filepath.Ext(r.name), ".json"), trimmed[0] == '{' && json.Valid(data):
		root = r.parseJSON(data)
	default:
		root = r.parseYAML(data)
	}
	if r.stopped || root == nil {
		return nil
	}
	if root.kind != kindObject {
		r.stop(root, "", "the document is %v, want an object; one that says nothing is {}", root.kind)
		return nil
	}
	return root
}

// affordable holds the bounds that can be told from the bytes alone, before a parser sees them.
func (r *reader) affordable(data []byte) bool {
	if len(data) > MaxSize {
		r.stop(nil, "", "the document is larger than %d bytes", MaxSize)
		return false
	}
	if !utf8.Valid(data) {
		good := 0
		for {
			c, size := utf8.DecodeRune(data[good:])
			if c == utf8.RuneError && size == 1 {
				break
			}
			good += size
		}
		line, column := position(data, good)
		r.stop(&node{line: int32(line), column: int32(column)}, "", "byte 0x%02x is no UTF-8", data[good]) //nolint:gosec // within MaxSize
		return false
	}
	marks := bytes.Count(data, []byte{'\n'}) + bytes.Count(data, []byte{','}) + bytes.Count(data, []byte{':'})
	if marks > maxMarks {
		r.stop(nil, "", "the document has %d lines, commas and colons, want at most %d", marks, maxMarks)
		return false
	}
	return true
}

// position returns line and column, from 1, of an offset.
func position(data []byte, offset int) (line, column int) {
	before := data[:min(max(offset, 0), len(data))]
	start := bytes.LastIndexByte(before, '\n') + 1
	return bytes.Count(before, []byte{'\n'}) + 1, utf8.RuneCount(before[start:]) + 1
}

// visit counts one value, and reports whether reading may go on.
func (r *reader) visit(at *node) bool {
	r.visits++
	if r.visits > maxVisits {
		r.stop(at, "", "the document has more than %d values, counting what is behind an alias at each use", maxVisits)
	}
	return !r.stopped
}

// duplicates notes keys of an object that stand twice.
func (r *reader) duplicates(n *node) {
	if len(n.keys) <= 8 { // most objects; no map to be made
		for i, k := range n.keys {
			for _, earlier := range n.keys[:i] {
				if earlier.text == k.text {
					r.twice(k, earlier)
				}
			}
		}
		return
	}
	seen := make(map[string]*node, len(n.keys))
	for _, k := range n.keys {
		if earlier := seen[k.text]; earlier != nil {
			r.twice(k, earlier)
		}
		seen[k.text] = k
	}
}

func (r *reader) twice(k, earlier *node) {
	if !r.stopped {
		r.add(k, "", "the key %q stands on line %d already", clip(k.text), earlier.line)
		r.findings[len(r.findings)-1].key = k
	}
}

// clip keeps a document's text from flooding an error.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > most-utf8.UTFMax && !utf8.RuneStart(s[cut]) { // a target may be no UTF-8
		cut--
	}
	return s[:cut] + "..."
}
