package document_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/grpcsteady/steady/proto/document"
	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

// policies are steady's own, and the messages that they are told.
var policies = map[string]proto.Message{
	"steady_least_request":   new(steadyv1.LeastRequest),
	"steady_weighted":        new(steadyv1.Weighted),
	"steady_consistent_hash": new(steadyv1.ConsistentHash),
}

// leaves calls do with every field of a message that is no message of ours, and with the JSON around its value.
func leaves(m protoreflect.MessageDescriptor, before, after string, do func(f protoreflect.FieldDescriptor, before, after string)) {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		open, end := before+`{"`+f.JSONName()+`":`, "}"+after
		if f.Message() != nil && f.Message().ParentFile().Package() == "steady.v1" {
			leaves(f.Message(), open, end, do)
			continue
		}
		do(f, open, end)
	}
}

// TestEveryPolicyKnobHasARange walks the schema: a number or a duration without a range would take nothing, or
// anything.
func TestEveryPolicyKnobHasARange(t *testing.T) {
	walked := 0
	for name, m := range policies {
		leaves(m.ProtoReflect().Descriptor(), "", "", func(f protoreflect.FieldDescriptor, before, after string) {
			bad := []string{"1e300", "-2", "-1e300", "0"}
			if f.Message() != nil {
				bad = []string{`"-2s"`, `"2562047h"`, `"0s"`, `"-1ns"`}
			} else if f.Kind() == protoreflect.StringKind || f.Kind() == protoreflect.BoolKind || f.Kind() == protoreflect.EnumKind {
				return
			}
			walked++
			for _, value := range bad {
				_, err := document.ReadPolicy(name, []byte(before+value+after))
				if f.JSONName() == "choiceCount" && value == "1e300" { // clamped, as by gRFC A48
					continue
				}
				if err == nil || !strings.Contains(err.Error(), ", want ") || strings.Contains(err.Error(), "0 to 0") || strings.Contains(err.Error(), "0s to 0s") {
					t.Errorf("%s%s%s: %v", before, value, after, err)
				}
			}
		})
	}
	if walked < 40 {
		t.Errorf("%d knobs walked", walked)
	}
}

// TestEveryPolicyKnobIsRead: testdata/policies.yaml has every field, and each arrives.
func TestEveryPolicyKnobIsRead(t *testing.T) {
	d, err := document.Load("testdata/policies.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		LoadBalancingConfig []map[string]json.RawMessage `json:"loadBalancingConfig"`
	}
	if err := json.Unmarshal([]byte(d.ForSteady()), &config); err != nil {
		t.Fatal(err)
	}
	read := make(map[string]proto.Message)
	for _, c := range config.LoadBalancingConfig {
		for name, text := range c {
			if policies[name] == nil || read[name] != nil {
				continue
			}
			if read[name], err = document.ReadPolicy(name, text); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, m := range policies {
		leaves(m.ProtoReflect().Descriptor(), "", "", func(f protoreflect.FieldDescriptor, before, _ string) {
			at := read[name].ProtoReflect()
			for key := range strings.SplitSeq(strings.Trim(before, `{":`), `":{"`) {
				g := at.Descriptor().Fields().ByJSONName(key)
				if !at.Has(g) {
					t.Errorf("%s: %s is not read, or not in testdata/policies.yaml", name, before)
					return
				}
				if g != f {
					at = at.Get(g).Message()
				}
			}
		})
	}
}

// TestPolicyFindings: in a file what is wrong with a policy of ours is found, where it stands; unknown keys too.
func TestPolicyFindings(t *testing.T) {
	for _, tt := range []struct{ policy, give, want string }{
		{"steady_least_request", "choiceCount: 1", "choiceCount: 1, want 2 to 10"},
		{"steady_least_request", "choiceCount: 11", "choiceCount: 11, want 2 to 10"},
		{"steady_least_request", "choiceCount: 2.5", "choiceCount: 2.5, want 2 to 10"},
		{"steady_least_request", "choices: 2", "choices: unknown key, want one of choiceCount, latency, ejection"},
		{"steady_least_request", "choice_count: 2", "choice_count: unknown key, did you mean choiceCount?"},
		{"steady_least_request", "latency: {decay: 10ms}", "latency.decay: 10ms, want 100ms to 10m"},
		{"steady_least_request", "latency: {failurePenalty: 6m}", "latency.failurePenalty: 6m, want 1ms to 5m"},
		{"steady_least_request", "latency: true", "latency: true is a boolean, want an object"},
		{"steady_least_request", "latency:", "latency: has no value: leave the key out, or write {} for all defaults"},
		{"steady_least_request", "panicThreshold: 0", "panicThreshold: 0, want above 0, up to 1, or -1 to switch it off"},
		{"steady_weighted", "choiceCount: 2", "choiceCount: unknown key"},
		{"steady_weighted", "loadReports: {blackout: 2h}", "loadReports.blackout: 2h, want 1ms to 1h, or none"},
		{"steady_weighted", "loadReports: {expiry: none}", `loadReports.expiry: "none" is no duration`},
		{"steady_weighted", "loadReports: {errorPenalty: 101}", "loadReports.errorPenalty: 101, want above 0, up to 100, or -1 to switch it off"},
		{"steady_weighted", "ejection: {mode: on}", `ejection.mode: "on", want one of enforce, observe, off`},
		{"steady_weighted", "ejection: {mode: off, window: 5s}", "ejection: is off, and says more: leave the rest out"},
		{"steady_weighted", "ejection: {successRatio: -1, margin: 0.2}", "ejection.margin: goes only with successRatio"},
		{"steady_weighted", "ejection: {successRatio: -1, minimumCalls: 5}", "ejection.minimumCalls: goes only with successRatio"},
		{"steady_weighted", "slowStart: {window: none, minShare: 0.5}", "slowStart.minShare: goes only with a window"},
		{"steady_weighted", "slowStart: {window: none, aggression: 2}", "slowStart.aggression: goes only with a window"},
		{"steady_weighted", "ejection: {maxTime: 10s}", "ejection.maxTime: 10s is below baseTime, 30s"},
		{"steady_weighted", "ejection: {baseTime: 1h, maxTime: 30m}", "ejection.maxTime: 30m0s is below baseTime, 1h0m0s"},
		{"steady_weighted", "ejection: {consecutiveFailures: 0}", "ejection.consecutiveFailures: 0, want 1 to 1000000, or -1 to switch it off"},
		{"steady_weighted", "ejection: {margin: -1}", "ejection.margin: -1, want above 0, up to 1"},
		{"steady_weighted", "ejection: {maxShare: 30}", "ejection.maxShare: 30, want above 0, up to 1"},
		{"steady_weighted", "slowStart: {window: 30}", "slowStart.window: 30 is a number, want a duration such as 250ms or 0.25s, or none"},
		{"steady_weighted", "slowStart: {aggression: 0.01}", "slowStart.aggression: 0.01, want 0.1 to 10"},
		{"steady_weighted", "activeCheck: {timeout: 6s}", "activeCheck.timeout: 6s is above interval, 5s"},
		{"steady_weighted", "activeCheck: {interval: 1s, timeout: 2s}", "activeCheck.timeout: 2s is above interval, 1s"},
		{"steady_weighted", "activeCheck: {jitter: 0.6}", "activeCheck.jitter: 0.6, want above 0, up to 0.5, or -1 to switch it off"},
		{"steady_consistent_hash", "maxLoad: 1", "maxLoad: 1, want 1.05 to 10"},
		{"steady_consistent_hash", "header: X-User", `header: "X-User", want a header in lower case`},
		{"steady_consistent_hash", "header: x-user-bin", `header: "x-user-bin" holds bytes`},
		{"steady_consistent_hash", "header: grpc-timeout", `header: "grpc-timeout" is gRPC's own`},
		{"steady_consistent_hash", "header: 5", "header: 5 is a number, want a string in quotes"},
		{"steady_consistent_hash", "header: \"x\\u00e4\"", "header: \"xä\", want a header in lower case"},
		{"steady_consistent_hash", "header: " + strings.Repeat("x", 257), "header: is 257 bytes long, want at most 256"},
		{"steady_consistent_hash", "peer: yes", `peer: "yes" is a string, want true or false`},
	} {
		text := "loadBalancingConfig:\n- " + tt.policy + ":\n    " + tt.give + "\n"
		_, err := document.Read("x.yaml", []byte(text))
		want := "loadBalancingConfig[0]." + tt.policy + "." + tt.want
		finding, ok := errors.AsType[*document.Error](err)
		if !ok || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got  %v\nwant %s", err, want)
			continue
		}
		// The place is that of the value, or of a key that should not be there.
		key, value, _ := strings.Cut(tt.give, ":")
		column := 5
		if last := strings.LastIndexAny(value, "{,"); last >= 0 && !strings.Contains(tt.want, "says more") {
			_, inner, _ := strings.Cut(value[last:], ":")
			column += len(key) + 1 + len(value) - len(strings.TrimPrefix(inner, " "))
		} else if value != "" && !strings.Contains(tt.want, "unknown key") {
			column += len(key) + 2
		}
		if finding.Line != 3 || finding.Column != column && value != "" {
			t.Errorf("%v: is on line %d, column %d, want 3 and %d", err, finding.Line, finding.Column, column)
		}
	}
}

// TestReadPolicyIsLenient: what a resolver or a control plane says is read as gRPC demands, and what is wrong is an
// error all the same.
func TestReadPolicyIsLenient(t *testing.T) {
	for _, tt := range []struct{ give, want string }{ // want: the message, as JSON
		{`{}`, `{}`},
		{`null`, `{}`},
		{` {"choiceCount": 3} `, `{"choiceCount":3}`},
		{`{"choiceCount":11}`, `{"choiceCount":10}`},
		{`{"choiceCount":4294967295}`, `{"choiceCount":10}`},
		{`{"choiceCount":null,"latency":null,"ejection":null}`, `{}`},
		{`{"newKnob":{"a":[1,2]},"choiceCount":3}`, `{"choiceCount":3}`},
		{`{"ejection":{"newKnob":1,"mode":"off"}}`, `{"ejection":{"mode":"MODE_OFF"}}`},
		{`{"ejection":{"mode":"off","window":null}}`, `{"ejection":{"mode":"MODE_OFF"}}`},
		{`{"ejection":{"mode":"MODE_OBSERVE"}}`, `{"ejection":{"mode":"MODE_OBSERVE"}}`},
		{`{"ejection":{"consecutiveFailures":-1.0}}`, `{"ejection":{"consecutiveFailures":-1}}`},
		{`{"slowStart":{"window":"none"}}`, `{"slowStart":{"window":"-1s"}}`},
		{`{"slowStart":{"window":"-1s"}}`, `{"slowStart":{"window":"-1s"}}`},
		{`{"slowStart":{"window":"250ms"}}`, `{"slowStart":{"window":"0.250s"}}`},
		// Numbers of a TypedStruct are floating.
		{`{"choiceCount":2.0}`, `{"choiceCount":2}`},
		{`{"choiceCount":2e0}`, `{"choiceCount":2}`},
		{`{"choiceCount":20E-1}`, `{"choiceCount":2}`},
		{`{"ejection":{"minimumCalls":1e2,"successRatio":5e-1}}`, `{"ejection":{"successRatio":0.5,"minimumCalls":100}}`},
	} {
		m, err := document.ReadPolicy("steady_least_request", []byte(tt.give))
		if err != nil {
			t.Errorf("%s: %v", tt.give, err)
			continue
		}
		want := new(steadyv1.LeastRequest)
		if err := protojson.Unmarshal([]byte(tt.want), want); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(m, want) {
			t.Errorf("%s: %v, want %v", tt.give, m, want)
		}
	}
	for _, tt := range []struct{ give, want string }{
		{``, "unexpected end of JSON input"},
		{`[]`, "is a list, want an object"},
		{`1`, "is a number, want an object"},
		{`{"choiceCount":1}`, "steady_least_request:1:16: choiceCount: 1, want 2 to 10"},
		{`{"choiceCount":0}`, "choiceCount: 0, want 2 to 10"},
		{`{"choiceCount":-1}`, "choiceCount: -1, want 2 to 10"},
		{`{"choiceCount":"2"}`, `choiceCount: "2" is a string, want a number`},
		{`{"choiceCount":2.1}`, "choiceCount: 2.1, want 2 to 10"},
		{`{"choiceCount":1e999}`, "1e999 is no plain decimal number"},
		{`{"choiceCount":2,"choiceCount":3}`, `choiceCount: the key "choiceCount" stands on line 1 already`},
		{`{"ejection":{"mode":"off","baseTime":"1s"}}`, "ejection: is off, and says more"},
		{`{"ejection":{"baseTime":"1m","maxTime":"10s"}}`, "ejection.maxTime: 10s is below baseTime, 1m0s"},
		{`{"activeCheck":{"service":"` + strings.Repeat("a", 5000) + `"}}`, "activeCheck.service: is 5000 bytes long, want at most 4096"},
		{`{"a":` + strings.Repeat(`[`, 100) + strings.Repeat(`]`, 100) + `}`, "more than 64 levels deep"},
		{"{\"a\":\"\xff\"}", "byte 0xff is no UTF-8"},
	} {
		_, err := document.ReadPolicy("steady_least_request", []byte(tt.give))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60s: %.200v, want %s", tt.give, err, tt.want)
		}
	}
}

// FuzzReadPolicy: whatever a control plane sends is an error that says where, or a message that can be written down and
// read again.
func FuzzReadPolicy(f *testing.F) {
	for _, text := range []string{
		`{}`, `null`, `{"choiceCount":2e0}`, `{"header":"x","peer":true,"maxLoad":1.25}`, `{"loadReports":{"blackout":"none","errorPenalty":-1}}`,
		`{"ejection":{"mode":"observe","consecutiveFailures":-1,"baseTime":"1m","maxTime":"2m"},"slowStart":{"window":"-1s"}}`,
		`{"activeCheck":{"interval":"1s","timeout":"0.5s","jitter":-1}}`, `{"latency":{"decay":"10s","failurePenalty":"1ms"},"panicThreshold":1}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for name, empty := range policies {
			m, err := document.ReadPolicy(name, []byte(text))
			if err != nil {
				if !strings.HasPrefix(err.Error(), name) {
					t.Fatalf("%v says not where", err)
				}
				continue
			}
			if got, want := m.ProtoReflect().Descriptor(), empty.ProtoReflect().Descriptor(); got != want {
				t.Fatalf("%s is told a %v", name, got.FullName())
			}
			again, err := protojson.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := document.ReadPolicy(name, again); err != nil || !proto.Equal(m, back) {
				t.Fatal(fmt.Errorf("%s is read again as %v: %w", again, back, err))
			}
		}
	})
}
