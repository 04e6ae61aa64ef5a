package document

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

// Endpoints is what a file of endpoints says: checked, and never changed afterwards.
type Endpoints struct {
	// List has at least one endpoint.
	List []Endpoint
	// Document is what stands at the key document; nil: nothing does.
	Document *Document

	raw json.RawMessage // of the document
}

// Keys of a file of endpoints.
const (
	endpointsKey = "endpoints"
	documentKey  = "document"
	addressKey   = "address"
	addressesKey = "addresses"
)

// ReadEndpoints reads a file of endpoints, YAML or JSON under the bounds and with the errors of [Read]:
//
//	endpoints:
//	  - address: 10.0.0.1:50051
//	    weight: 3        # 0 to 1,000,000; 0 takes it out; default 1
//	    zone: a
//	    priority: 0      # 0 to 100, 0 first
//	  - addresses: [10.0.0.2:50051, "[2001:db8::2]:50051"] # of one server
//	  - 10.0.0.3:50051?weight=2&zone=b                     # the short form
//	document: {}         # rules and balancer, as [Read] takes them; may be left out
//
// Reading is strict. In errors, paths of what stands in the document begin there.
func ReadEndpoints(name string, data []byte) (*Endpoints, error) {
	r := &reader{name: name}
	out := new(Endpoints)
	root := r.parse(data)
	if root != nil {
		r.endpointsFile(root, out)
	}
	if err := r.err(root); err != nil {
		return nil, err
	}
	return out, nil
}

// DocumentJSON returns the document as JSON, as it was written: what a channel that follows pushed documents is
// given. "": there is none.
func (e *Endpoints) DocumentJSON() string { return string(e.raw) }

// WatchEndpoints follows a file of endpoints as [Watch] follows a document.
func WatchEndpoints(ctx context.Context, path string, report func(*Endpoints, error), opts ...WatchOption) error {
	tell := func(l look) {
		if l.err != nil {
			report(nil, l.err)
			return
		}
		report(ReadEndpoints(path, l.data))
	}
	if report == nil {
		tell = nil
	}
	return watch(ctx, path, tell, opts)
}

func (r *reader) endpointsFile(root *node, out *Endpoints) {
	for i, key := range root.keys {
		value := root.values[i]
		switch {
		case r.stopped:
			return
		case key.text == endpointsKey:
			out.List = r.endpointList(value)
		case key.text == documentKey:
			out.Document, out.raw = r.embedded(value)
		case strings.HasPrefix(key.text, extensionKey):
			if !value.referred() {
				r.add(key, clip(key.text), "nothing refers to it: such a key holds anchors for other places")
			}
		default:
			r.add(key, clip(key.text), "unknown key, want %s or %s", endpointsKey, documentKey)
		}
	}
	if n, _ := root.get(endpointsKey); n == nil {
		r.add(root, endpointsKey, "is missing, want a list of endpoints")
	}
}

// embedded reads the document in a file of endpoints.
func (r *reader) embedded(n *node) (*Document, json.RawMessage) {
	if n.kind != kindObject {
		r.wrong(n, documentKey, "an object")
		return nil, nil
	}
	before := len(r.findings)
	d := &Document{Config: new(steadyv1.Config), name: r.name, root: n}
	d.policies = r.config(n, d.Config)
	if r.stopped || len(r.findings) > before {
		return nil, nil
	}
	return d, r.raw(n, documentKey)
}

func (r *reader) endpointList(n *node) []Endpoint {
	if n.kind != kindList {
		r.wrong(n, endpointsKey, "a list")
		return nil
	}
	switch {
	case len(n.values) == 0:
		r.add(n, endpointsKey, "%v", errNoEndpoint)
	case len(n.values) > MaxEndpoints:
		r.stop(n, endpointsKey, "lists %d endpoints, want at most %d", len(n.values), MaxEndpoints)
		return nil
	}
	out := make([]Endpoint, 0, len(n.values))
	seen := make(map[string]*node)
	for i, v := range n.values {
		path := endpointsKey + "[" + strconv.Itoa(i) + "]"
		before := len(r.findings)
		e := r.endpoint(v, path)
		if r.stopped {
			return nil
		}
		if len(r.findings) > before {
			continue
		}
		for _, a := range e.Addresses {
			if earlier := seen[a]; earlier != nil {
				r.add(v, path, "%q stands on line %d already", a, earlier.line)
			}
			seen[a] = v
		}
		out = append(out, e)
	}
	return out
}

// endpoint reads one endpoint, in its long or short form.
func (r *reader) endpoint(n *node, path string) (e Endpoint) {
	if !r.visit(n) {
		return e
	}
	if n.kind == kindString {
		e, err := ParseEndpoint(n.text)
		if err != nil {
			r.add(n, path, "%v", err)
		}
		return e
	}
	if n.kind != kindObject {
		r.wrong(n, path, "an object or host:port")
		return e
	}
	for i, key := range n.keys {
		value, at := n.values[i], join(path, clip(key.text))
		if !r.visit(value) {
			return e
		}
		switch key.text {
		case addressKey:
			e.Addresses = append(e.Addresses, r.address(value, at)...)
		case addressesKey:
			e.Addresses = append(e.Addresses, r.addresses(value, at)...)
		case "weight":
			if w, ok := r.whole(value, at, MaxWeight); ok {
				n := uint32(w) //nolint:gosec // at most MaxWeight
				e.Weight = &n
			}
		case "priority":
			e.Priority, _ = r.whole(value, at, MaxPriority)
		case "zone":
			if value.kind != kindString {
				r.wrong(value, at, "a string in quotes")
			} else if err := checkZone(value.text); err != nil {
				r.add(value, at, "%v", err)
			}
			e.Zone = value.text
		default:
			r.add(key, at, "unknown key, want address, addresses, weight, zone or priority")
		}
	}
	one, _ := n.get(addressKey)
	more, _ := n.get(addressesKey)
	if (one == nil) == (more == nil) {
		r.add(n, path, "want either address or addresses")
	}
	return e
}

func (r *reader) address(n *node, path string) []string {
	if n.kind != kindString {
		r.wrong(n, path, "host:port")
		return nil
	}
	if err := checkAddress(n.text); err != nil {
		r.add(n, path, "%v", err)
		return nil
	}
	return []string{n.text}
}

func (r *reader) addresses(n *node, path string) (out []string) {
	if n.kind != kindList {
		r.wrong(n, path, "a list")
		return nil
	}
	if len(n.values) == 0 || len(n.values) > maxAddresses {
		r.add(n, path, "%d addresses, want 1 to %d", len(n.values), maxAddresses)
		return nil
	}
	for i, v := range n.values {
		out = append(out, r.address(v, path+"["+strconv.Itoa(i)+"]")...)
	}
	return out
}

func (r *reader) whole(n *node, path string, most int) (int, bool) {
	if n.kind != kindNumber {
		r.wrong(n, path, fmt.Sprintf("a whole number from 0 to %d", most))
		return 0, false
	}
	v, err := wholeUpTo(n.text, most)
	if err != nil {
		r.add(n, path, "%s, want a whole number from 0 to %d", clip(n.text), most)
		return 0, false
	}
	return v, true
}
