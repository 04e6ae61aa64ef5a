package document

import (
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

// Defaults that a contradiction can be with, as the schema's comments have them.
const (
	defaultInitialBackoff = 25 * ms
	defaultOpenTime       = 5 * time.Second
	defaultDeadline       = 30 * time.Second
)

// checkMessage finds what is wrong between the knobs of one message: each may be in range, and the whole
// have no sense.
func (r *reader) checkMessage(n *node, path string, m protoreflect.Message) {
	if r.stopped {
		return
	}
	switch c := m.Interface().(type) {
	case *steadyv1.RetryThrottling:
		if c.MaxTokens == nil || c.TokenRatio == nil {
			// A key that is there and wrong has its own finding.
			if t, _ := n.get("maxTokens"); t == nil {
				r.add(n, path, "has no maxTokens, want both it and tokenRatio")
			}
			if t, _ := n.get("tokenRatio"); t == nil {
				r.add(n, path, "has no tokenRatio, want both it and maxTokens")
			}
		}
	case *steadyv1.RetryPolicy:
		r.checkRetry(n, path, c)
	case *steadyv1.Deadline:
		r.checkDeadline(n, path, c)
	case *steadyv1.Breaker:
		r.checkBreaker(n, path, c)
	case *steadyv1.MethodConfig:
		r.checkRule(n, path, c)
	case *steadyv1.MethodConfig_Name:
		r.checkName(n, path, c)
	case *steadyv1.Ejection:
		r.checkEjection(n, path, c)
	case *steadyv1.SlowStart:
		r.checkSlowStart(n, path, c)
	case *steadyv1.ActiveCheck:
		r.checkActive(n, path, c)
	case *steadyv1.ConsistentHash:
		r.checkHash(n, path, c)
	}
}

func (r *reader) checkRetry(n *node, path string, c *steadyv1.RetryPolicy) {
	first := defaultInitialBackoff
	if c.InitialBackoff != nil {
		first = c.InitialBackoff.AsDuration()
	}
	if c.MaxBackoff == nil || c.MaxBackoff.AsDuration() >= first {
		return
	}
	if r.lenient { // gRPC takes the smaller of the two
		c.MaxBackoff = durationpb.New(first)
		return
	}
	r.add(n.at("maxBackoff"), join(path, "maxBackoff"), "%v is below initialBackoff, %v", c.MaxBackoff.AsDuration(), first)
}

func (r *reader) checkDeadline(n *node, path string, c *steadyv1.Deadline) {
	call, most, attempt := c.Default.AsDuration(), c.Max.AsDuration(), c.AttemptTimeout.AsDuration()
	if c.Default == nil {
		call = defaultDeadline
		if c.Max != nil {
			call = min(call, most)
		}
	}
	if c.Max != nil && call > most {
		r.add(n.at("max"), join(path, "max"), "%v is below default, %v", most, call)
	}
	at := n.at("attemptTimeout")
	switch {
	case c.AttemptTimeout == nil:
	case call > 0 && attempt > call && c.Default != nil:
		r.add(at, join(path, "attemptTimeout"), "%v is above default, %v: no attempt could use it", attempt, call)
	case c.Max != nil && attempt > most:
		r.add(at, join(path, "attemptTimeout"), "%v is above max, %v: no attempt could use it", attempt, most)
	}
}

func (r *reader) checkBreaker(n *node, path string, c *steadyv1.Breaker) {
	ratio, _ := n.get("slowRatio")
	after, _ := n.get("slowAfter")
	if ratio != nil && after == nil {
		r.add(ratio, join(path, "slowRatio"), "goes only with slowAfter")
	}
	if ratio == nil && after != nil {
		r.add(after, join(path, "slowAfter"), "goes only with slowRatio")
	}
	open := defaultOpenTime
	if c.OpenTime != nil {
		open = c.OpenTime.AsDuration()
	}
	if c.MaxOpenTime != nil && c.MaxOpenTime.AsDuration() < open {
		r.add(n.at("maxOpenTime"), join(path, "maxOpenTime"), "%v is below openTime, %v", c.MaxOpenTime.AsDuration(), open)
	}
}

func (r *reader) checkRule(n *node, path string, c *steadyv1.MethodConfig) {
	if len(c.Name) == 0 && !r.lenient { // gRPC passes over such an entry
		if list, _ := n.get("name"); list == nil {
			r.add(n, path, "has no name, want at least one; [{}] is every method")
		}
	}
	if len(c.Rule) > maxName {
		r.add(n.at("rule"), join(path, "rule"), "is %d bytes long, want at most %d", len(c.Rule), maxName)
	}
	if c.RetryPolicy == nil && c.Idempotent {
		r.add(n.at("idempotent"), join(path, "idempotent"), "goes only with retryPolicy")
	}
	if c.Breaker == nil && c.PerMethod {
		r.add(n.at("perMethod"), join(path, "perMethod"), "goes only with breaker")
	}
	timeout := c.Timeout.AsDuration()
	call, path := n.at("deadline"), join(path, "deadline")
	var attempt time.Duration
	if c.Deadline != nil && c.Deadline.AttemptTimeout != nil {
		attempt = c.Deadline.AttemptTimeout.AsDuration()
	}
	switch d := c.Deadline; {
	case c.Timeout == nil:
		// Without timeout the default of default counts too.
		if d != nil && d.Default == nil && attempt > defaultDeadline && (d.Max == nil || d.Max.AsDuration() > defaultDeadline) {
			r.add(call.at("attemptTimeout"), join(path, "attemptTimeout"), "%v is above default, %v: no attempt could use it", attempt, defaultDeadline)
		}
	case d == nil:
	case d.Default != nil:
		r.add(call.at("default"), join(path, "default"), "stands beside timeout, %v, which says it already", timeout)
	case d.Max != nil:
		r.add(call.at("max"), join(path, "max"), "stands beside timeout, %v, which says it already", timeout)
	case attempt > timeout:
		r.add(call.at("attemptTimeout"), join(path, "attemptTimeout"), "%v is above timeout, %v: no attempt could use it", attempt, timeout)
	}
}

// maxName bounds a rule's name and a path of service and method; gRPC sets no bound, HTTP/2 peers refuse
// longer paths.
const maxName = 4096

func (r *reader) checkName(n *node, path string, c *steadyv1.MethodConfig_Name) {
	switch {
	case c.Service == "" && c.Method != "":
		r.add(n, path, "has a method, %q, and no service", clip(c.Method))
	case strings.Contains(c.Service, "/"):
		r.add(n.at("service"), join(path, "service"), "%q has a slash, want a name such as orders.v1.Orders", clip(c.Service))
	case strings.Contains(c.Method, "/"):
		r.add(n.at("method"), join(path, "method"), "%q has a slash, want a name such as Get", clip(c.Method))
	case len(c.Service)+len(c.Method)+2 > maxName:
		r.add(n, path, "is %d bytes long as a path, want at most %d", len(c.Service)+len(c.Method)+2, maxName)
	}
}

// reservedRule is the name of what happens to methods without a rule.
const reservedRule = "none"

// rules finds what two rules have in common and must not.
func (r *reader) rules(root *node, c *steadyv1.Config) {
	list, _ := root.get("methodConfig")
	if list == nil || r.stopped || len(list.values) != len(c.MethodConfig) {
		return
	}
	patterns, named := make(map[string]*node), make(map[string]*node)
	for i, m := range c.MethodConfig {
		n := list.values[i]
		path := "methodConfig[" + strconv.Itoa(i) + "]"
		told := false // about the pattern that the rule takes its name from
		for j, p := range Patterns(m) {
			at := n
			if entries, _ := n.get("name"); entries != nil && j < len(entries.values) {
				at = entries.values[j]
			}
			if earlier := patterns[p]; earlier != nil {
				r.add(at, path+".name["+strconv.Itoa(j)+"]", "%s has a rule on line %d already", describe(p), earlier.line)
				told = told || j == 0 && m.Rule == ""
				continue
			}
			patterns[p] = at
		}
		name := RuleName(m)
		if name == "" {
			continue // for no method at all
		}
		at := n.at("rule")
		if name == reservedRule {
			r.add(at, path+".rule", "%q is what methods without a rule have", name)
		}
		if earlier := named[name]; earlier != nil && !told {
			r.add(at, path+".rule", "%q is the name of the rule on line %d already", clip(name), earlier.line)
		}
		named[name] = n
		if r.stopped {
			return
		}
	}
}

func describe(pattern string) string {
	if pattern == "" {
		return "every method ({})"
	}
	return clip(pattern)
}

// Patterns returns what a rule is for as paths: "/orders.v1.Orders/Get" for a method, "/orders.v1.Orders/"
// for a service, "" for every method. None: the rule is for nothing, which only a pushed document can say.
func Patterns(m *steadyv1.MethodConfig) []string {
	out := make([]string, 0, len(m.GetName()))
	for _, n := range m.GetName() {
		p := ""
		if n.GetService() != "" {
			p = "/" + n.GetService() + "/" + n.GetMethod()
		}
		out = append(out, p)
	}
	return out
}

// RuleName returns the name of a rule: its own, or its first pattern, or default if that is for every method.
// "": it has neither.
func RuleName(m *steadyv1.MethodConfig) string {
	switch p := Patterns(m); {
	case m.GetRule() != "":
		return m.GetRule()
	case len(p) == 0:
		return ""
	case p[0] == "":
		return "default"
	default:
		return p[0]
	}
}
