package document

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

// MaxSize is the largest document that is read, in bytes: the most that a Kubernetes ConfigMap holds.
const MaxSize = 1 << 20

// Document is what was read: checked, and never changed afterwards. It may be used from any goroutine.
type Document struct {
	// Config is what the document says, without defaults filled in. It is shared: do not change it.
	Config *steadyv1.Config

	name     string
	root     *node
	policies json.RawMessage // loadBalancingConfig as it was written; nil: none
	sum      [sha256.Size]byte
}

// Option changes how a document is read.
type Option func(*reader)

// Lenient reads as gRPC demands of a service config that a resolver pushes: what is unknown is ignored, so
// that a newer document does not break an older client, and null is as good as left out. A value that gRPC
// would take and steady would not (10 attempts, a backoff of an hour) counts as the nearest that it takes.
// Everything else is as strict as without.
func Lenient() Option { return func(r *reader) { r.lenient = true } }

// Read reads a document. name is what errors and [Document.Position] call it, usually its path; if it ends
// in .json the document must be JSON, otherwise it is JSON or YAML. data is not kept.
//
// The error joins up to 20 findings of type [*Error], in the order of their lines.
func Read(name string, data []byte, opts ...Option) (*Document, error) {
	r := &reader{name: name}
	for _, o := range opts {
		o(r)
	}
	d := &Document{Config: new(steadyv1.Config), name: name, sum: sha256.Sum256(data)}
	d.root = r.parse(data)
	if d.root != nil {
		d.policies = r.config(d.root, d.Config)
	}
	if err := r.err(d.root); err != nil {
		return nil, err
	}
	return d, nil
}

// Load reads the file at path, which must be a regular file or a link to one.
func Load(path string, opts ...Option) (*Document, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return Read(path, data, opts...)
}

// readFile reads at most one byte more than is allowed, which Read then complains about.
func readFile(path string) ([]byte, error) {
	// Opening a pipe that nobody writes to would block for ever.
	if info, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("document: %w", err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("document: %s is no regular file", path)
	}
	f, err := os.Open(path) //nolint:gosec // the file that the caller named
	if err != nil {
		return nil, fmt.Errorf("document: %w", err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("document: %w", err)
	}
	return data, nil
}

// Name returns the name under which the document was read.
func (d *Document) Name() string { return d.name }

// Position returns where something stands, as name and line: "orders.yaml:12". path is written as in errors,
// "methodConfig[3].retryPolicy.maxAttempts"; of what is not in the document, the nearest thing around it is
// told. What came in by an anchor stands where the anchor is.
func (d *Document) Position(path string) string {
	n, line := d.root, d.root.line
	for _, step := range steps(path) {
		next, at := n.child(step)
		if next == nil {
			break
		}
		n, line = next, at.line
	}
	return d.name + ":" + strconv.Itoa(int(line))
}

// steps cuts a path into keys and indexes: a[3].b is a, 3, b.
func steps(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
}

// Errorf returns a finding about what stands at path, or about the nearest thing around it: for those who
// check more of a document than this package can. path is written as in errors, "loadBalancingConfig[0]".
func (d *Document) Errorf(path, format string, args ...any) *Error {
	n := d.root
	e := &Error{File: d.name, Path: path, Reason: fmt.Sprintf(format, args...)}
	for _, step := range steps(path) {
		next, _ := n.child(step)
		if next == nil {
			break
		}
		n = next
	}
	e.Line, e.Column = int(n.line), int(n.column)
	return e
}

// Lines returns where the first n values of the list at a key of the document itself stand, each as
// [Document.Position] has it.
func (d *Document) Lines(key string, n int) []string {
	out := make([]string, n)
	list, _ := d.root.get(key)
	for i := range out {
		at := d.root
		if list != nil && i < len(list.values) {
			at = list.values[i]
		}
		out[i] = d.name + ":" + strconv.Itoa(int(at.line))
	}
	return out
}
