package document_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/grpcsteady/steady/proto/document"
)

// FuzzRead: whatever is read, there is either an error that says where, or a document that renders to JSON
// and is read back as what it was.
func FuzzRead(f *testing.F) {
	files, err := filepath.Glob("testdata/*.*")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), false)
		f.Add(string(text), true)
	}
	for _, text := range []string{
		"", "{}", "a: &a [*a]", "x-a: &a {b: *c}", "methodConfig: [{name: [{}], <<: {timeout: 1s}}]", "mode: off\n---\n", "{\"mode\": \"off\", \"mode\": 1}",
		laughs(3, "[%s]", "1") + "loadBalancingConfig: [{a: *a3}]", "? a\n: b", "!!str a: !!int 1", "methodConfig: [{breaker:", "%YAML 1.1\n---\n{}",
		"\"\": 1\n\"\": 2", "loadBalancingConfig: [{\"\": {\"\": 1, \"\": 2}}]", "{\"a\": \"\\ud800\"}",
	} {
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text string, lenient bool) {
		var opts []document.Option
		if lenient {
			opts = append(opts, document.Lenient())
		}
		for _, name := range []string{"f.yaml", "f.json"} {
			d, err := document.Read(name, []byte(text), opts...)
			if err != nil {
				if !strings.HasPrefix(err.Error(), name+":") {
					t.Fatalf("%v says not where", err)
				}
				continue
			}
			for _, config := range []string{d.ForSteady(), d.ForGRPC()} {
				if !json.Valid([]byte(config)) {
					t.Fatalf("no JSON: %s", config)
				}
				if _, err := document.Read("again.json", []byte(config)); err != nil && !lenient {
					t.Fatalf("%s\nis rendered and not read again: %v", config, err)
				}
			}
			if lenient {
				continue
			}
			text, err := protojson.Marshal(d.Config)
			if err != nil {
				t.Fatal(err)
			}
			again, err := document.Read("again.json", text)
			if err != nil || !proto.Equal(d.Config, again.Config) {
				t.Fatalf("%s\nis read again with %v", text, err)
			}
			if at := d.Position("methodConfig[0].name[0].service"); !strings.HasPrefix(at, name+":") {
				t.Fatal(at)
			}
		}
	})
}
