package document_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/grpcsteady/steady/proto/document"
	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

// TestFindings: each says where, and what is allowed. The document is one rule unless it begins at the top.
func TestFindings(t *testing.T) {
	const rule = "methodConfig:\n- name: [{service: a.B}]\n  "
	for _, tt := range []struct{ name, give, want string }{
		{"unknown key", rule + "frobnicate: 1", "x.yaml:3:3: methodConfig[0].frobnicate: unknown key, want one of name, waitForReady, timeout"},
		{"snake case", rule + "retry_policy: {}", "x.yaml:3:3: methodConfig[0].retry_policy: unknown key, did you mean retryPolicy?"},
		{"a slip", rule + "braker: {}", "did you mean breaker?"},
		{"not yet", rule + "hedgingPolicy: {}", "methodConfig[0].hedgingPolicy: not supported yet"},
		{"not yet, within", rule + "retryPolicy: {perAttemptRecvTimeout: 1s}", "methodConfig[0].retryPolicy.perAttemptRecvTimeout: not supported yet; see deadline.attemptTimeout"},
		{"deprecated", "loadBalancingPolicy: x", "x.yaml:1:1: loadBalancingPolicy: deprecated by gRPC"},
		{"a number for a time", rule + "timeout: 5", "x.yaml:3:12: methodConfig[0].timeout: 5 is a number, want a duration such as 250ms or 0.25s"},
		{"no duration", rule + "timeout: 5 parsecs", `methodConfig[0].timeout: "5 parsecs" is no duration`},
		{"a time without end", rule + "timeout: none", `"none" is no duration`},
		{"a time out of range", rule + "timeout: 25h", "methodConfig[0].timeout: 25h, want 1ms to 24h"},
		{"a negative time", rule + "deadline: {default: -2s}", "-2s, want 1ms to 24h, or none"},
		{"zero is no default", rule + "breaker: {failureRatio: 0}", "methodConfig[0].breaker.failureRatio: 0, want above 0, up to 1, or -1 to switch it off"},
		{"too many attempts", rule + "retryPolicy: {maxAttempts: 9}", "x.yaml:3:30: methodConfig[0].retryPolicy.maxAttempts: 9, want 1 to 5"},
		{"half a probe", rule + "breaker: {probes: 1.5}", "methodConfig[0].breaker.probes: 1.5, want 1 to 1000"},
		{"octal", rule + "breaker: {probes: 010}", "010 is no plain decimal number"},
		{"underscores", rule + "breaker: {minimumCalls: 1_000}", "1_000 is no plain decimal number"},
		{"no number at all", rule + "breaker: {failureRatio: .nan}", ".nan is no plain decimal number"},
		{"a word for a number", rule + "breaker: {probes: many}", `"many" is a string, want a number`},
		{"a word for a boolean", rule + "waitForReady: yes", `"yes" is a string, want true or false`},
		{"a number for a name", "methodConfig: [{name: [{service: 5}]}]", "methodConfig[0].name[0].service: 5 is a number, want a string in quotes"},
		{"a list for an object", rule + "breaker: []", "methodConfig[0].breaker: is a list, want an object"},
		{"an object for a list", "methodConfig: {}", "x.yaml:1:15: methodConfig: is an object, want a list"},
		{"null", rule + "breaker:", "methodConfig[0].breaker: has no value: leave the key out, or write {} for all defaults"},
		{"null for a time", rule + "timeout: ~", "methodConfig[0].timeout: has no value: leave the key out"},
		{"empty list", rule + "failOn: []", "methodConfig[0].failOn: is empty: leave the key out"},
		{"unknown mode", rule + "mode: Observe", `methodConfig[0].mode: "Observe", want one of enforce, observe, off`},
		{"unspecified", rule + "mode: unspecified", "want one of enforce, observe, off"},
		{"unknown code", rule + "failOn: [TEAPOT]", `methodConfig[0].failOn[0]: "TEAPOT", want a code from 2 (UNKNOWN) to 16 (UNAUTHENTICATED)`},
		{"the caller's code", rule + "failOn: [CANCELLED]", "want a code from 2"},
		{"success as a failure", rule + "failOn: [0]", "want a code from 2"},
		{"a code twice", rule + "failOn: [ABORTED, 10]", "methodConfig[0].failOn[1]: 10 stands twice"},
		{"key twice", rule + "timeout: 1s\n  timeout: 2s", "x.yaml:4:3: methodConfig[0].timeout: the key \"timeout\" stands on line 3 already"},
		{"no name", "methodConfig: [{timeout: 1s}]", "x.yaml:1:16: methodConfig[0]: has no name"},
		{"method alone", "methodConfig: [{name: [{method: Get}]}]", `methodConfig[0].name[0]: has a method, "Get", and no service`},
		{"a path for a service", "methodConfig: [{name: [{service: /a/b}]}]", `methodConfig[0].name[0].service: "/a/b" has a slash`},
		{"a path for a method", "methodConfig: [{name: [{service: a, method: b/c}]}]", `methodConfig[0].name[0].method: "b/c" has a slash`},
		{"name twice in a rule", "methodConfig: [{name: [{}, {}]}]", "methodConfig[0].name[1]: every method ({}) has a rule on line 1 already"},
		{"name twice", rule + "timeout: 1s\n- name:\n  - service: a.B", "x.yaml:5:5: methodConfig[1].name[0]: /a.B/ has a rule on line 2 already"},
		{"rule twice", rule + "rule: r\n- name: [{}]\n  rule: r", `x.yaml:5:9: methodConfig[1].rule: "r" is the name of the rule on line 2 already`},
		{"rule called as another is by default", rule + "rule: default\n- name: [{}]", `"default" is the name of the rule on line 2 already`},
		{"reserved", rule + "rule: none", `methodConfig[0].rule: "none" is what methods without a rule have`},
		{"idempotent alone", rule + "idempotent: true", "methodConfig[0].idempotent: goes only with retryPolicy"},
		{"perMethod alone", rule + "perMethod: true", "methodConfig[0].perMethod: goes only with breaker"},
		{"half a throttling", "retryThrottling: {maxTokens: 10}", "retryThrottling: has no tokenRatio"},
		{"slow without time", rule + "breaker: {slowRatio: 1}", "methodConfig[0].breaker.slowRatio: goes only with slowAfter"},
		{"slow without ratio", rule + "breaker: {slowAfter: 1s}", "methodConfig[0].breaker.slowAfter: goes only with slowRatio"},
		{"open times", rule + "breaker: {maxOpenTime: 1s}", "methodConfig[0].breaker.maxOpenTime: 1s is below openTime, 5s"},
		{"backoffs", rule + "retryPolicy: {initialBackoff: 1s, maxBackoff: 0.5s}", "methodConfig[0].retryPolicy.maxBackoff: 500ms is below initialBackoff, 1s"},
		{"attempt above the call", rule + "deadline: {default: 1s, attemptTimeout: 2s}", "x.yaml:3:43: methodConfig[0].deadline.attemptTimeout: 2s is above default, 1s: no attempt could use it"},
		{"attempt above the cap", rule + "deadline: {default: none, max: 1s, attemptTimeout: 2s}", "2s is above max, 1s"},
		{"attempt above the default's default", rule + "deadline: {attemptTimeout: 31s}", "31s is above default, 30s"},
		{"attempt above timeout", rule + "timeout: 1s\n  deadline: {attemptTimeout: 2s}", "x.yaml:4:30: methodConfig[0].deadline.attemptTimeout: 2s is above timeout, 1s"},
		{"default above max", rule + "deadline: {default: 2s, max: 1s}", "methodConfig[0].deadline.max: 1s is below default, 2s"},
		{"two words for one", rule + "timeout: 1s\n  deadline: {max: 1s}", "methodConfig[0].deadline.max: stands beside timeout, 1s"},
		{"no policy", "loadBalancingConfig: []", "loadBalancingConfig: is a list without a policy"},
		{"two policies in one", "loadBalancingConfig: [{a: {}, b: {}}]", "loadBalancingConfig[0]: want an object with one key"},
		{"a policy's number", "loadBalancingConfig: [{a: {b: [1, 0x10]}}]", "x.yaml:1:35: loadBalancingConfig[0].a.b[1]: 0x10 is no plain decimal number"},
		{"a policy's key twice", "loadBalancingConfig: [{a: {b: 1, b: 2}}]", `loadBalancingConfig[0].a.b: the key "b" stands on line 1 already`},
		{"an extension without use", "x-a: {timeout: 1s}", "x.yaml:1:1: x-a: nothing refers to it"},
		{"a merge of nothing", rule + "<<: 1", "x.yaml:3:7: a merge key with a number, want an object or a list of objects"},
		{"a tag", rule + "rule: !!binary aGk=", "the tag !!binary is not supported"},
		{"an unknown anchor", rule + "breaker: *b", "unknown anchor 'b' referenced"},
		{"a circle", "x-a: &a [*a]", "x.yaml:1:10: the anchor a contains itself"},
		{"two documents", "{}\n---\n{}", "a second document begins, want one in a file"},
		{"syntax", "a: [1\nb: 2", "x.yaml:"},
		{"a list", "- a", "x.yaml:1:1: the document is a list, want an object"},
		{"empty", "", "x.yaml: the document is empty"},
		{"only a comment", "# nothing\n", "the document is empty"},
		{"no UTF-8", "a: \n  ä\xff", "x.yaml:2:4: byte 0xff is no UTF-8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := document.Read("x.yaml", []byte(tt.give))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got  %v\nwant %s", err, tt.want)
			}
			finding, ok := errors.AsType[*document.Error](err)
			if !ok || finding.File != "x.yaml" || finding.Reason == "" || strings.Contains(err.Error(), "\n") {
				t.Errorf("%d findings, the first %+v, want one", strings.Count(err.Error(), "\n")+1, finding)
			}
		})
	}
}

func TestFindingsInJSON(t *testing.T) {
	for _, tt := range []struct{ name, give, want string }{
		{"syntax", "{\n\t\"mode\": \"off\",\n}", "x.json:3:1: invalid character '}'"},
		{"the end is missing", `{"mode": "off"`, "x.json:1:15: unexpected end of JSON input"},
		{"two values", `{} {}`, "x.json:1:4: invalid character '{' after top-level value"},
		{"YAML", "mode: off", "x.json:1:1: invalid character 'm'"},
		{"after characters of two bytes", "{\"methodConfig\": [{\"rule\": \"ää\", \"timeout\": 3}]}", "x.json:1:45: methodConfig[0].timeout: 3 is a number"},
		{"key twice", "{\"mode\": \"off\",\n \"mode\": \"off\"}", `x.json:2:2: mode: the key "mode" stands on line 1 already`},
		{"too deep", strings.Repeat("[", 100) + strings.Repeat("]", 100), "x.json:1:65: more than 64 levels deep"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := document.Read("x.json", []byte(tt.give)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestFindingsAreBounded(t *testing.T) {
	_, err := document.Read("x.yaml", []byte("mode: on\n"+strings.Repeat("a: 1\n", 1000)))
	if n := strings.Count(err.Error(), "\n") + 1; n != 21 || !strings.HasSuffix(err.Error(), "x.yaml: and more") {
		t.Errorf("%d lines: %v", n, err)
	}
}

// TestJSONAndYAMLAgree: the same keys, and a document of either kind is what protojson makes of its config.
func TestJSONAndYAMLAgree(t *testing.T) {
	d, err := document.Load("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text, err := protojson.Marshal(d.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x.json", "x.yaml", ""} {
		if again := read(t, name, string(text)); !proto.Equal(d.Config, again.Config) {
			t.Errorf("%s: got %v\nwant %v", name, again.Config, d.Config)
		}
	}
}

func TestAnchors(t *testing.T) {
	d := read(t, "x.yaml", `x-a: &a {timeout: 1s, waitForReady: true}
x-b: &b {timeout: 2s, retryPolicy: &r {maxAttempts: 2}}
methodConfig:
- {name: [{service: a}], timeout: 3s, <<: *a}
- {<<: [*a, *b], name: [{service: b}]}
- {<<: *b, name: [{service: c}], retryPolicy: {<<: *r, jitter: equal}}
`)
	want := read(t, "x.json", `{"methodConfig": [
		{"name": [{"service": "a"}], "timeout": "3s", "waitForReady": true},
		{"name": [{"service": "b"}], "timeout": "1s", "waitForReady": true, "retryPolicy": {"maxAttempts": 2}},
		{"name": [{"service": "c"}], "timeout": "2s", "retryPolicy": {"maxAttempts": 2, "jitter": "equal"}}]}`)
	if !proto.Equal(d.Config, want.Config) {
		t.Errorf("got %v\nwant %v", d.Config, want.Config)
	}
	if got := d.Position("methodConfig[2].retryPolicy.maxAttempts"); got != "x.yaml:2" {
		t.Errorf("%s, want the line of the anchor", got)
	}
}

func TestPosition(t *testing.T) {
	d := read(t, "orders.yaml", "# rules\nmethodConfig:\n- name: [{}]\n  retryPolicy:\n    maxAttempts: 3\n- name:\n  - service: a\n")
	for path, want := range map[string]string{
		"": "orders.yaml:2", "methodConfig": "orders.yaml:2", "methodConfig[0]": "orders.yaml:3", "methodConfig[1].name[0].service": "orders.yaml:7",
		"methodConfig[0].retryPolicy": "orders.yaml:4", "methodConfig[0].retryPolicy.maxAttempts": "orders.yaml:5",
		"methodConfig[0].retryPolicy.jitter": "orders.yaml:4", "methodConfig[7]": "orders.yaml:2", "mode": "orders.yaml:2",
	} {
		if got := d.Position(path); got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
	if d.Name() != "orders.yaml" {
		t.Error(d.Name())
	}
}

// TestLenient: what gRPC takes from a resolver is taken, at the nearest value that steady takes.
func TestLenient(t *testing.T) {
	const pushed = `{
		"loadBalancingPolicy": "round_robin", "newThing": {"a": [1]}, "healthCheckConfig": null,
		"methodConfig": [
			{"name": [{"service": "a", "instance": 3}], "timeout": "172800s", "hedgingPolicy": {}, "waitForReady": null,
			 "retryPolicy": {"maxAttempts": 10, "initialBackoff": "3600s", "maxBackoff": "1s", "backoffMultiplier": 0.5, "retryableStatusCodes": ["OK", 1, "UNAVAILABLE", 14]}},
			{"timeout": "1s"}
		]}`
	if _, err := document.Read("x", []byte(pushed)); err == nil {
		t.Fatal("a file may say this")
	}
	d := read(t, "dns:///a", pushed, document.Lenient())
	want := read(t, "x", `{"loadBalancingConfig": [{"round_robin": {}}, {"pick_first": {}}], "methodConfig": [
		{"name": [{"service": "a"}], "timeout": "24h", "retryPolicy": {"maxAttempts": 5, "initialBackoff": "1m", "maxBackoff": "1m", "backoffMultiplier": 1, "retryableStatusCodes": [14]}}]}`).Config
	want.MethodConfig = append(want.MethodConfig, read(t, "x", `{"methodConfig": [{"name": [{}], "timeout": "1s"}]}`).Config.MethodConfig[0])
	want.MethodConfig[1].Name = nil
	if !proto.Equal(d.Config, want) {
		t.Errorf("got %v\nwant %v", d.Config, want)
	}
	if got := d.ForSteady(); got != `{"loadBalancingConfig":[{"round_robin":{}},{"pick_first":{}}]}` {
		t.Error(got)
	}
	for _, bad := range []string{
		``, `[]`, `{"methodConfig": [{"name": [{"service": "a"}, {"service": "a"}]}]}`, `{"methodConfig": [{"timeout": 1}]}`,
		`{"methodConfig": [{"timeout": "-1s"}]}`, `{"methodConfig": [{"retryPolicy": {"maxAttempts": 0}}]}`, `{"mode": "offf"}`,
	} {
		if _, err := document.Read("x", []byte(bad), document.Lenient()); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestPatternsAndNames(t *testing.T) {
	d := read(t, "x", `{methodConfig: [{name: [{service: a, method: b}, {service: a}]}, {name: [{}]}, {name: [{service: c}], rule: r}]}`)
	for i, want := range []string{"/a/b", "default", "r"} {
		if got := document.RuleName(d.Config.MethodConfig[i]); got != want {
			t.Errorf("rule %d is called %q, want %q", i, got, want)
		}
	}
	if got := strings.Join(document.Patterns(d.Config.MethodConfig[0]), " "); got != "/a/b /a/" {
		t.Error(got)
	}
	if document.RuleName(new(steadyv1.MethodConfig)) != "" {
		t.Error("a rule for nothing has a name")
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	if err := os.WriteFile(path, []byte("\xef\xbb\xbfmode: observe\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := document.Load(path)
	if err != nil || d.Config.Mode != steadyv1.Mode_MODE_OBSERVE || d.Name() != path {
		t.Errorf("%v, %v", d, err)
	}
	if _, err := document.Load(filepath.Join(dir, "b.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want that it is not there", err)
	}
	if _, err := document.Load(dir); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("%v, want that it is no file", err)
	}
}
