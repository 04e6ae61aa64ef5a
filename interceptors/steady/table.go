package steady

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
)

// ruleset is what is in force together: the rules, and what a document says beside them.
type ruleset struct {
	rules  []Rule
	mode   Mode                // of the document; the outbound's own weakens it further
	budget *retry.BudgetConfig // nil: the outbound's own
	source string              // name of the document; "": rules in Go
	where  []string            // where each rule stands in it, as told to people
}

// table is a compiled set of rules. It is immutable; an update swaps the pointer to it.
type table struct {
	mode     Mode
	budget   retry.BudgetConfig
	source   string
	rules    []*compiled
	byName   map[string]*compiled
	exact    map[string]*compiled // "/service/Method"
	services map[string]*compiled // "/service/"
	all      *compiled            // ""
	none     *compiled            // for methods that no rule is for
}

// compiled is a rule as calls use it: defaults filled in, sets as bits, its mode weakened by the table's.
type compiled struct {
	Rule
	mode     Mode
	where    string  // where it stands in a document; "": nowhere
	named    bool    // codes were written for a named method or service, which is the owner's permission
	retryOn  codeSet // empty: the default set
	failOn   codeSet // empty: the default set
	deadline bool    // has Deadline
	limits   bool    // its Deadline limits attempts
	retries  bool    // has Retry

	reserveOnly *deadline.Config // its Deadline without default and cap

	limited     []string // methods retried only if an attempt never left the client
	undescribed bool     // and those that no descriptor describes
}

// noRule is the name of the rule for methods that no rule is for.
const noRule = "none"

// codeSet is a set of gRPC codes, a bit each.
type codeSet uint32

func newCodeSet(list []codes.Code) codeSet {
	var s codeSet
	for _, c := range list {
		s |= 1 << c
	}
	return s
}

func (s codeSet) has(c codes.Code) bool { return c < 32 && s&(1<<c) != 0 }

// compile checks the rules and builds their table.
func compile(rules []Rule, mode Mode) (*table, error) { return ruleset{rules: rules}.compile(mode) }

// compile is the function for what stands in a document.
func (s ruleset) compile(mode Mode) (*table, error) {
	rules, mode := s.rules, max(mode, s.mode) // enforce < observe < off: the weaker wins
	t := &table{
		mode:     mode,
		source:   s.source,
		byName:   make(map[string]*compiled, len(rules)),
		exact:    make(map[string]*compiled),
		services: make(map[string]*compiled),
	}
	var errs []error
	patterns := make(map[string]int, len(rules))
	for i, r := range rules {
		if err := r.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("rules[%d]%s: %w", i, labelOf(r), err))
			continue
		}
		c := compileRule(r.withDefaults(), mode)
		if i < len(s.where) {
			c.where = s.where[i]
		}
		if _, twice := t.byName[c.Name]; twice || c.Name == noRule {
			errs = append(errs, fmt.Errorf("rules[%d]: Name: %q is taken, want a name that no other rule has", i, c.Name))
		}
		t.byName[c.Name] = c
		for _, p := range c.Methods {
			if j, twice := patterns[p]; twice {
				errs = append(errs, fmt.Errorf("rules[%d]: Methods: %q stands in rules[%d] too, want each pattern once", i, p, j))
				continue
			}
			patterns[p] = i
			switch {
			case p == "":
				t.all = c
			case strings.HasSuffix(p, "/"):
				t.services[p] = c
			default:
				t.exact[p] = c
			}
		}
		t.rules = append(t.rules, c)
	}
	if s.budget != nil {
		t.budget = *s.budget
	}
	t.none = compileRule(Rule{Name: noRule}, mode)
	if int(mode) >= len(modeNames) {
		errs = append(errs, fmt.Errorf("mode: %d, want ModeEnforce, ModeObserve or ModeOff", mode))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	for _, c := range t.rules {
		if c.retries && !c.Idempotent && !c.named {
			c.limited, c.undescribed = limitedMethods(c)
			c.limited = slices.DeleteFunc(c.limited, func(m string) bool { // another rule's
				other, _ := t.match(m)
				return other != c
			})
		}
	}
	return t, nil
}

func labelOf(r Rule) string {
	if name := r.withDefaults().Name; name != "" {
		return fmt.Sprintf(" (%q)", name)
	}
	return ""
}

func compileRule(r Rule, mode Mode) *compiled {
	c := &compiled{
		Rule:     r,
		mode:     max(mode, r.Mode), // enforce < observe < off: the weaker wins
		retryOn:  newCodeSet(r.RetryOn),
		failOn:   newCodeSet(r.FailOn),
		deadline: r.Deadline != nil,
		retries:  r.Retry != nil,
	}
	c.named = len(r.RetryOn) > 0
	for _, p := range r.Methods {
		if p == "" {
			c.named = false
		}
	}
	if c.deadline {
		c.limits = r.Deadline.AttemptTimeout > 0 || r.Deadline.AttemptShare > 0
		own := *r.Deadline
		own.Default, own.Max = -1, 0
		c.reserveOnly = &own
	}
	return c
}

// match returns the rule for a full method name, and whether the name itself stands in the rule. There is
// always one: a method without a rule gets the rule that says nothing.
func (t *table) match(method string) (c *compiled, named bool) {
	if c, ok := t.exact[method]; ok {
		return c, true
	}
	if i := strings.LastIndexByte(method, '/'); i > 0 {
		if c, ok := t.services[method[:i+1]]; ok {
			return c, false
		}
	}
	if t.all != nil {
		return t.all, false
	}
	return t.none, false
}
