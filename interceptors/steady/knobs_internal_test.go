package steady

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/grpcsteady/steady/proto/document"
	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

// knob is a case for one field of the schema: documents that differ in nothing but what is written there, "" for
// the field left out. Each must have another effect than all the others.
type knob struct {
	in     string   // %s is the field
	values []string // what to write; at least one
}

// Where the fields of a message stand. A message without a field of its own in a document has none.
const (
	atTop      = "%s"
	atRule     = "methodConfig: [{name: [{service: a.B}], %s}]"
	inRetry    = "methodConfig: [{name: [{service: a.B}], idempotent: true, retryPolicy: {%s}}]"
	inDeadline = "methodConfig: [{name: [{service: a.B}], deadline: {%s}}]"
	inBreaker  = "methodConfig: [{name: [{service: a.B}], breaker: {%s}}]"
	inBudget   = "retryBudget: {%s}"
	inChannel  = "channel: {%s}"
	inPings    = "channel: {keepalive: {%s}}"
)

// knobs has a case for every field of the schema. A field that arrives without one fails the test below: write
// the case, and make ruleOf, dialSettingsOf or a rendering of the document read the field.
var knobs = map[protoreflect.FullName]knob{
	"steady.v1.Config.load_balancing_config": {atTop, []string{"", "loadBalancingConfig: [{round_robin: {}}]", "loadBalancingConfig: [{pick_first: {}}]"}},
	"steady.v1.Config.health_check_config":   {atTop, []string{"", "healthCheckConfig: {}"}},
	"steady.v1.Config.retry_throttling":      {atTop, []string{"", "retryThrottling: {maxTokens: 10, tokenRatio: 0.1}"}},
	"steady.v1.Config.method_config":         {atTop, []string{"", "methodConfig: [{name: [{}]}]"}},
	"steady.v1.Config.mode":                  {atTop, []string{"mode: enforce", "mode: observe", "mode: off"}},
	"steady.v1.Config.retry_budget":          {atTop, []string{"retryThrottling: {maxTokens: 10, tokenRatio: 0.1}", "retryThrottling: {maxTokens: 10, tokenRatio: 0.1}\nretryBudget: {}"}},
	"steady.v1.Config.channel":               {atTop, []string{"", "channel: {connectTimeout: 5s}"}},

	"steady.v1.Channel.connect_timeout":         {inChannel, []string{"", "connectTimeout: 5s"}},
	"steady.v1.Channel.keepalive":               {inChannel, []string{"", "keepalive: {}"}},
	"steady.v1.Keepalive.time":                  {inPings, []string{"", "time: 10s", "time: 1h"}},
	"steady.v1.Keepalive.timeout":               {inPings, []string{"", "timeout: 1s"}},
	"steady.v1.Keepalive.permit_without_stream": {inPings, []string{"", "permitWithoutStream: true"}},

	"steady.v1.HealthCheckConfig.service_name": {"healthCheckConfig: {%s}", []string{"", "serviceName: a.B"}},
	"steady.v1.RetryThrottling.max_tokens":     {"retryThrottling: {tokenRatio: 0.1, %s}", []string{"maxTokens: 10", "maxTokens: 20"}},
	"steady.v1.RetryThrottling.token_ratio":    {"retryThrottling: {maxTokens: 10, %s}", []string{"tokenRatio: 0.1", "tokenRatio: 0.3"}},

	"steady.v1.RetryBudget.ratio":          {inBudget, []string{"", "ratio: 0.5", "ratio: -1"}},
	"steady.v1.RetryBudget.min_per_second": {inBudget, []string{"", "minPerSecond: 5", "minPerSecond: -1"}},
	"steady.v1.RetryBudget.interval":       {inBudget, []string{"", "interval: 20s"}},
	"steady.v1.RetryBudget.max_ratio":      {inBudget, []string{"", "maxRatio: 2"}},

	"steady.v1.MethodConfig.name":                       {"methodConfig: [{name: [%s], waitForReady: true}]", []string{"{}", "{}, {service: a.B}"}},
	"steady.v1.MethodConfig.Name.service":               {"methodConfig: [{name: [{%s}], waitForReady: true}]", []string{"", "service: a.B"}},
	"steady.v1.MethodConfig.Name.method":                {"methodConfig: [{name: [{service: a.B, %s}], waitForReady: true}]", []string{"", "method: C"}},
	"steady.v1.MethodConfig.wait_for_ready":             {atRule, []string{"", "waitForReady: true", "waitForReady: false"}},
	"steady.v1.MethodConfig.timeout":                    {atRule, []string{"", "timeout: 2s"}},
	"steady.v1.MethodConfig.max_request_message_bytes":  {atRule, []string{"", "maxRequestMessageBytes: 0"}},
	"steady.v1.MethodConfig.max_response_message_bytes": {atRule, []string{"", "maxResponseMessageBytes: 10"}},
	"steady.v1.MethodConfig.retry_policy":               {atRule, []string{"", "retryPolicy: {}"}},
	"steady.v1.MethodConfig.rule":                       {atRule, []string{"", "rule: reads"}},
	"steady.v1.MethodConfig.mode":                       {atRule, []string{"mode: enforce", "mode: observe", "mode: off"}},
	"steady.v1.MethodConfig.deadline":                   {atRule, []string{"", "deadline: {}"}},
	"steady.v1.MethodConfig.breaker":                    {atRule, []string{"", "breaker: {}"}},
	"steady.v1.MethodConfig.per_method":                 {atRule, []string{"breaker: {}", "breaker: {}, perMethod: true"}},
	"steady.v1.MethodConfig.idempotent":                 {atRule, []string{"retryPolicy: {}", "retryPolicy: {}, idempotent: true"}},
	"steady.v1.MethodConfig.fail_on":                    {atRule, []string{"", "failOn: [%s]"}},

	"steady.v1.RetryPolicy.max_attempts":           {inRetry, []string{"", "maxAttempts: 1", "maxAttempts: 5"}},
	"steady.v1.RetryPolicy.initial_backoff":        {inRetry, []string{"", "initialBackoff: 10ms"}},
	"steady.v1.RetryPolicy.max_backoff":            {inRetry, []string{"", "maxBackoff: 5s"}},
	"steady.v1.RetryPolicy.backoff_multiplier":     {inRetry, []string{"", "backoffMultiplier: 3"}},
	"steady.v1.RetryPolicy.retryable_status_codes": {inRetry, []string{"", "retryableStatusCodes: [%s]"}},
	"steady.v1.RetryPolicy.jitter":                 {inRetry, []string{"jitter: full", "jitter: equal", "jitter: decorrelated", "jitter: none"}},
	"steady.v1.RetryPolicy.max_elapsed":            {inRetry, []string{"", "maxElapsed: 1s", "maxElapsed: none"}},

	"steady.v1.Deadline.default":         {inDeadline, []string{"", "default: 2s", "default: none"}},
	"steady.v1.Deadline.max":             {inDeadline, []string{"", "max: 10s"}},
	"steady.v1.Deadline.attempt_timeout": {inDeadline, []string{"", "attemptTimeout: 1s"}},
	"steady.v1.Deadline.attempt_share":   {inDeadline, []string{"", "attemptShare: 0.5"}},
	"steady.v1.Deadline.reserve":         {inDeadline, []string{"", "reserve: 20ms", "reserve: none"}},
	"steady.v1.Deadline.reserve_share":   {inDeadline, []string{"", "reserveShare: 0.1", "reserveShare: -1"}},
	"steady.v1.Deadline.feasibility":     {inDeadline, []string{"feasibility: retries", "feasibility: all", "feasibility: off"}},
	"steady.v1.Deadline.first_message":   {inDeadline, []string{"", "firstMessage: 5s", "firstMessage: none"}},
	"steady.v1.Deadline.idle":            {inDeadline, []string{"", "idle: 1m"}},
	"steady.v1.Deadline.send":            {inDeadline, []string{"", "send: 10s"}},

	"steady.v1.Breaker.consecutive_failures": {inBreaker, []string{"", "consecutiveFailures: 7", "consecutiveFailures: -1"}},
	"steady.v1.Breaker.failure_ratio":        {inBreaker, []string{"", "failureRatio: 0.1", "failureRatio: -1"}},
	"steady.v1.Breaker.slow_ratio":           {inBreaker, []string{"slowAfter: 1s, slowRatio: 0.5", "slowAfter: 1s, slowRatio: 0.6"}},
	"steady.v1.Breaker.slow_after":           {inBreaker, []string{"slowRatio: 0.5, slowAfter: 1s", "slowRatio: 0.5, slowAfter: 2s"}},
	"steady.v1.Breaker.minimum_calls":        {inBreaker, []string{"", "minimumCalls: 5"}},
	"steady.v1.Breaker.window":               {inBreaker, []string{"", "window: 30s"}},
	"steady.v1.Breaker.buckets":              {inBreaker, []string{"", "buckets: 5"}},
	"steady.v1.Breaker.open_time":            {inBreaker, []string{"", "openTime: 2s"}},
	"steady.v1.Breaker.max_open_time":        {inBreaker, []string{"", "maxOpenTime: 2m"}},
	"steady.v1.Breaker.open_multiplier":      {inBreaker, []string{"", "openMultiplier: 3"}},
	"steady.v1.Breaker.open_jitter":          {inBreaker, []string{"", "openJitter: 0.5", "openJitter: -1"}},
	"steady.v1.Breaker.probes":               {inBreaker, []string{"", "probes: 3"}},
	"steady.v1.Breaker.successes":            {inBreaker, []string{"", "successes: 3"}},
}

// allCodes are the codes that a list of them may hold, each of which stands for %s in a case.
func allCodes() []string {
	var out []string
	for i := int32(2); i <= 16; i++ {
		out = append(out, strings.TrimPrefix(steadyv1.Code(i).String(), "CODE_"))
	}
	return out
}

// effects is all that a document changes, but for the place where a rule stands.
func effects(t *testing.T, text string) string {
	t.Helper()
	if text == "" {
		text = "{}"
	}
	d, err := document.Read("x.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	o, err := FromDocument(d)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var b strings.Builder
	tab := o.table.Load()
	fmt.Fprintf(&b, "mode %v, budget %+v\n", tab.mode, tab.budget.WithDefaults())
	for _, c := range tab.rules {
		fmt.Fprintf(&b, "rule %q %q mode %v, retry on %b, fail on %b, named %v, idempotent %v, per method %v",
			c.Name, c.Methods, c.mode, c.retryOn, c.failOn, c.named, c.Idempotent, c.PerMethod)
		if c.Deadline != nil {
			fmt.Fprintf(&b, ", deadline %+v", *c.Deadline)
		}
		if c.Retry != nil {
			fmt.Fprintf(&b, ", retry %+v", *c.Retry)
		}
		if c.Breaker != nil {
			fmt.Fprintf(&b, ", breaker %+v", *c.Breaker)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "dial %+v\nwith steady %s\nwithout %s\n", dialSettingsOf(d), d.ForSteady(), d.ForGRPC())
	return b.String()
}

// TestEveryKnobHasAnEffect walks the schema: each field has a case, and each of its values an effect of its own.
func TestEveryKnobHasAnEffect(t *testing.T) {
	seen := make(map[protoreflect.FullName]bool)
	var walk func(m protoreflect.MessageDescriptor)
	walk = func(m protoreflect.MessageDescriptor) {
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			if seen[f.FullName()] {
				continue
			}
			seen[f.FullName()] = true
			checkKnob(t, f)
			if f.Message() != nil && f.Message().ParentFile().Path() == steadyv1.File_steady_v1_config_proto.Path() {
				walk(f.Message())
			}
		}
	}
	walk((&steadyv1.Config{}).ProtoReflect().Descriptor())
	for name := range knobs {
		if !seen[name] {
			t.Errorf("%s is a case for nothing in the schema", name)
		}
	}
}

func checkKnob(t *testing.T, f protoreflect.FieldDescriptor) {
	t.Helper()
	k, ok := knobs[f.FullName()]
	if !ok {
		t.Errorf("%s has no case: is it accepted and then ignored?", f.FullName())
		return
	}
	values, words := k.values, 0
	for i, v := range values {
		if strings.Contains(v, "%s") {
			all := allCodes()
			values = append(values[:i:i], values[i+1:]...)
			for _, c := range all {
				values = append(values, strings.ReplaceAll(v, "%s", c))
			}
			break
		}
	}
	told := make(map[string]string)
	for _, v := range values {
		if strings.Contains(k.in+v, f.JSONName()+":") {
			words++
		}
		e := effects(t, strings.Replace(k.in, "%s", v, 1))
		if other, twice := told[e]; twice {
			t.Errorf("%s: %q and %q come to the same:\n%s", f.FullName(), other, v, e)
		}
		told[e] = v
	}
	if len(told) < 2 || words == 0 {
		t.Errorf("%s: the case is about something else", f.FullName())
	}
	// Every value of an enum but the one that cannot be written, and those that no list may hold.
	if e := f.Enum(); e != nil {
		want := e.Values().Len() - 1
		if e.FullName() == "steady.v1.Code" {
			want--
		}
		if words < want {
			t.Errorf("%s: %d values of %d", f.FullName(), words, want)
		}
	}
}

// TestTimeoutSaysNothingOfStreams: a document written for gRPC alone cuts no stream.
func TestTimeoutSaysNothingOfStreams(t *testing.T) {
	for text, want := range map[string]bool{"timeout: 5s": false, "deadline: {}": true, "timeout: 5s, deadline: {}": true} {
		d, err := document.Read("x.yaml", []byte(fmt.Sprintf(atRule, text)))
		if err != nil {
			t.Fatal(err)
		}
		if c := compileRule(ruleOf(d.Config.MethodConfig[0]).withDefaults(), ModeEnforce); c.limitsStreams() != want {
			t.Errorf("%s: streams are limited: %v, want %v", text, !want, want)
		}
	}
}
