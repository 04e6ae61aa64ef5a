package document_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/grpcsteady/steady/proto/document"
)

// described writes a list in one line.
func described(list []document.Endpoint) string {
	var out []string
	for _, e := range list {
		s := strings.Join(e.Addresses, "+")
		if e.Weight != nil {
			s += fmt.Sprintf(" w%d", *e.Weight)
		}
		if e.Zone != "" {
			s += " z" + e.Zone
		}
		if e.Priority != 0 {
			s += fmt.Sprintf(" p%d", e.Priority)
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

// column stands behind the line in errors.
var column = regexp.MustCompile(`(?m)^(f:\d+):\d+`)

func TestReadEndpoints(t *testing.T) {
	for _, tt := range []struct{ give, want string }{
		{"endpoints: [a:1]", "a:1"},
		{`{"endpoints":["a:1?weight=0",{"address":"b:1","weight":3,"zone":"z","priority":2}]}`, "a:1 w0, b:1 w3 zz p2"},
		{"endpoints:\n- addresses: [10.0.0.1:1, '[::1]:1']\n", "10.0.0.1:1+[::1]:1"},
		{"x-all: &all {zone: a}\nendpoints: [{address: a:1, <<: *all}, {address: b:1, <<: *all}]", "a:1 za, b:1 za"},
		{"endpoints: [a:1]\ndocument: {x-d: &d 1s, methodConfig: [{name: [{}], timeout: *d}]}", "a:1"},

		{"", "f: the document is empty"},
		{"[]", "f:1: the document is a list"},
		{"{}", "f:1: endpoints: is missing"},
		{"endpoints: []", "f:1: endpoints: lists no endpoint"},
		{"endpoints: a:1", `f:1: endpoints: "a:1" is a string, want a list`},
		{"endpoints: [7]", "f:1: endpoints[0]: 7 is a number, want an object or host:port"},
		{"endpoints: [a]", `f:1: endpoints[0]: "a", want host:port`},
		{"endpoints: [a:1, b:1,\n a:1]", `f:2: endpoints[2]: "a:1" stands on line 1 already`},
		{"endpoints: [{addresses: [a:1, a:1]}]", `"a:1" stands on line 1 already`},
		{"endpoints: [{weight: 1}]", "endpoints[0]: want either address or addresses"},
		{"endpoints: [{address: a:1, addresses: [b:1]}]", "want either address or addresses"},
		{"endpoints: [{address: 7}]", "endpoints[0].address: 7 is a number, want host:port"},
		{"endpoints: [{addresses: []}]", "0 addresses, want 1 to 16"},
		{"endpoints:\n- address: a:1\n  weight: 1000001", "f:3: endpoints[0].weight: 1000001, want a whole number from 0 to 1000000"},
		{"endpoints: [{address: a:1, weight: 0x1}]", "endpoints[0].weight: 0x1"},
		{"endpoints: [{address: a:1, weight: 1.0}]", "endpoints[0].weight: 1.0"},
		{"endpoints: [{address: a:1, weight: '1'}]", `endpoints[0].weight: "1" is a string`},
		{"endpoints: [{address: a:1, priority: -1}]", "endpoints[0].priority: -1"},
		{"endpoints: [{address: a:1, zone: 'a b'}]", "endpoints[0].zone:"},
		{"endpoints: [{address: a:1, zone: 1}]", "endpoints[0].zone: 1 is a number"},
		{"endpoints: [{address: a:1, wait: 1}]", "f:1: endpoints[0].wait: unknown key, want address, addresses, weight, zone or priority"},
		{"endpoints: [a:1]\nrules: {}", "f:2: rules: unknown key, want endpoints or document"},
		{"endpoints: [a:1]\nx-a: 1", "f:2: x-a: nothing refers to it"},
		{"endpoints: [a:1]\ndocument: []", "f:2: document: is a list, want an object"},
		{"endpoints: [a:1]\ndocument:\n  mode: of", "f:3: mode:"},
		{"endpoints: [a:1]\nendpoints: [b:1]", `the key "endpoints" stands on line 1 already`},
		{"endpoints: [" + strings.Repeat("a:1,", 10_001) + "]", "lists 10001 endpoints, want at most 10000"},
	} {
		e, err := document.ReadEndpoints("f", []byte(tt.give))
		if err != nil {
			if got := column.ReplaceAllString(err.Error(), "$1"); !strings.Contains(got, tt.want) {
				t.Errorf("%.60s\n%s\nwant %s", tt.give, got, tt.want)
			}
			continue
		}
		if got := described(e.List); got != tt.want {
			t.Errorf("%.60s: %s, want %s", tt.give, got, tt.want)
		}
	}
}

// TestTheDocumentOfEndpoints is as if it stood alone.
func TestTheDocumentOfEndpoints(t *testing.T) {
	const text = "endpoints: [a:1]\ndocument:\n  mode: observe\n  methodConfig:\n  - name: [{}]\n    timeout: 250ms\n"
	e, err := document.ReadEndpoints("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got := e.Document.Position("methodConfig[0].timeout"); got != "f.yaml:6" {
		t.Errorf("at %s, want f.yaml:6", got)
	}
	if want := `{"mode":"observe","methodConfig":[{"name":[{}],"timeout":"250ms"}]}`; e.DocumentJSON() != want {
		t.Errorf("%s, want %s", e.DocumentJSON(), want)
	}
	d, err := document.Read("pushed", []byte(e.DocumentJSON()), document.Lenient())
	if err != nil || d.ForGRPC() != e.Document.ForGRPC() || d.Config.Mode != e.Document.Config.Mode {
		t.Errorf("read back: %v", err)
	}
}

// FuzzReadEndpoints: whatever is read, there is either an error that says where, or a list in range.
func FuzzReadEndpoints(f *testing.F) {
	for _, text := range []string{
		"endpoints: [a:1]", `{"endpoints":[{"address":"a:1","weight":3,"zone":"a","priority":1}]}`, "endpoints: [{addresses: [a:1, b:1]}]\ndocument: {mode: off}",
		"endpoints: [a:1?weight=2]\ndocument: {loadBalancingConfig: [{x: {}}]}", "endpoints: &a [*a]", "x-a: &a {weight: 1}\nendpoints: [{<<: *a, address: b:1}]",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := document.ReadEndpoints("f", []byte(text))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") {
				t.Fatalf("%v says not where", err)
			}
			return
		}
		if len(e.List) == 0 || (e.Document == nil) != (e.DocumentJSON() == "") {
			t.Fatalf("%q: %+v", text, e)
		}
		for _, one := range e.List {
			if len(one.Addresses) == 0 || one.Weight != nil && *one.Weight > document.MaxWeight || one.Priority < 0 || one.Priority > document.MaxPriority {
				t.Fatalf("%q: %+v", text, one)
			}
		}
		if e.Document == nil {
			return
		}
		if _, err := document.Read("again", []byte(e.DocumentJSON()), document.Lenient()); err != nil {
			t.Fatalf("%q: the document is not read again: %v", text, err)
		}
	})
}
