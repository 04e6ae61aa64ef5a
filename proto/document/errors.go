package document

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Error is one finding about a document.
type Error struct {
	File   string // the name the document was read under
	Line   int    // from 1; 0: the finding is about the document as a whole
	Column int    // from 1, in characters; 0: not known
	Path   string // "methodConfig[0].retryPolicy.maxAttempts"; "" for syntax
	Reason string // what is wrong, and what is allowed

	key *node // whose path is not known before the whole document is read
}

// Error returns the finding in one line: file:line:column: path: reason.
func (e *Error) Error() string {
	s := e.File
	if e.Line > 0 {
		s = fmt.Sprintf("%s:%d", s, e.Line)
		if e.Column > 0 {
			s = fmt.Sprintf("%s:%d", s, e.Column)
		}
	}
	if e.Path != "" {
		s += ": " + e.Path
	}
	return s + ": " + e.Reason
}

// maxFindings bounds what is told of one document: who wrote a YAML file of something else learns it from
// the first few.
const maxFindings = 20

// reader is one reading of one document.
type reader struct {
	name    string
	lenient bool

	findings []*Error
	visits   int // values looked at, those behind aliases counted each time
	stopped  bool
}

// add notes a finding at a node; nil: about the whole document.
func (r *reader) add(at *node, path, format string, args ...any) {
	e := &Error{File: r.name, Path: path, Reason: fmt.Sprintf(format, args...)}
	if at != nil {
		e.Line, e.Column = int(at.line), int(at.column)
	}
	r.findings = append(r.findings, e)
	if len(r.findings) > maxFindings {
		r.stopped = true
	}
}

// stop ends the reading with a finding that makes all further ones meaningless.
func (r *reader) stop(at *node, path, format string, args ...any) {
	if !r.stopped {
		r.add(at, path, format, args...)
		r.stopped = true
	}
}

// err joins the findings in the order of the document.
func (r *reader) err(root *node) error {
	if len(r.findings) == 0 {
		return nil
	}
	for _, f := range r.findings {
		if f.key != nil && root != nil {
			f.Path, _ = root.pathTo(f.key, make(map[*node]bool))
		}
	}
	slices.SortStableFunc(r.findings, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	var errs []error
	for i, f := range r.findings {
		if i == maxFindings {
			errs = append(errs, fmt.Errorf("%s: and more", r.name))
			break
		}
		errs = append(errs, f)
	}
	return errors.Join(errs...)
}
