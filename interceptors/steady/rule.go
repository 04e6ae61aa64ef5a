package steady

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
)

// Mode says how much of a rule is in force.
type Mode uint8

const (
	// ModeEnforce does what the rule says. It is the default.
	ModeEnforce Mode = iota
	// ModeObserve computes everything and changes nothing: no call is refused, cut, retried or answered by
	// a fallback; events tell what would have happened, with WouldHave set. It is how to start.
	ModeObserve
	// ModeOff leaves calls alone: nothing is computed, and call options have no effect.
	ModeOff
)

var modeNames = [...]string{"enforce", "observe", "off"}

// String returns enforce, observe or off.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("Mode(%d)", uint8(m))
}

// MarshalText returns what String returns; an unknown mode is an error.
func (m Mode) MarshalText() ([]byte, error) {
	if int(m) >= len(modeNames) {
		return nil, fmt.Errorf("mode %d is none of enforce, observe, off", uint8(m))
	}
	return []byte(modeNames[m]), nil
}

// UnmarshalText reads enforce, observe or off.
func (m *Mode) UnmarshalText(text []byte) error {
	i := slices.Index(modeNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("mode %q is none of enforce, observe, off", text)
	}
	*m = Mode(i) //nolint:gosec // an index into three names
	return nil
}

// Rule says what happens to the calls of some methods. It is plain data: nil means off, a zero field means
// its documented default, and two rules that say the same are [Rule.Equal].
type Rule struct {
	// Name identifies the rule across updates: a breaker keeps its memory as long as its rule keeps its
	// name. Default: the first method pattern, or "default" for the pattern "".
	Name string

	// Methods lists the patterns the rule is for: "/orders.v1.Orders/Get" for a method,
	// "/orders.v1.Orders/" for all methods of a service, "" for every method. As in gRPC's service config,
	// the most specific pattern wins, and no pattern may stand in two rules.
	Methods []string

	// Mode is the mode of this rule. The outbound's own mode can only weaken it.
	Mode Mode

	// Deadline gives unary calls a deadline, caps long ones and keeps a reserve. Streams get the reserve, what
	// [Timeout] asks for, and limits for their first message (30 s unless it says otherwise), for silences and
	// for sends.
	Deadline *deadline.Config

	// Retry makes further attempts after a failed one. Which methods and codes may be retried is said by
	// RetryOn and Idempotent, and otherwise by the method's own descriptor: methods that it marks
	// NO_SIDE_EFFECTS or IDEMPOTENT are retried, all others only if the attempt provably never left the
	// client. A stream is retried until it is committed: until its first message is delivered, Header has
	// returned metadata, Context or Trailer was called, or more was sent than is kept to send it again
	// (256 KiB and 1,000 messages a stream, 64 MiB a channel).
	Retry *retry.Config

	// RetryOn lists the codes to retry on. Written for a named method or service it is also the permission
	// to retry, as gRPC's retryableStatusCodes are; in a rule for "" it is not.
	// Default: UNAVAILABLE; RESOURCE_EXHAUSTED if the server says when to come back; DEADLINE_EXCEEDED of
	// the attempt (never of the call).
	RetryOn []codes.Code

	// Idempotent permits retries of all methods of the rule.
	Idempotent bool

	// Breaker stops calls to a service that keeps failing.
	Breaker *breaker.Config

	// PerMethod gives every method of the rule a breaker of its own. Default: one breaker for the rule.
	PerMethod bool

	// FailOn replaces the set of codes that count as failures of the server.
	// Default: UNAVAILABLE, INTERNAL, DATA_LOSS; RESOURCE_EXHAUSTED if the server says when to come back;
	// DEADLINE_EXCEEDED if the attempt had time enough; UNKNOWN, for the failure ratio alone.
	FailOn []codes.Code
}

// withDefaults returns the rule with every zero field filled in. The pointers are to copies.
func (r Rule) withDefaults() Rule {
	if r.Name == "" && len(r.Methods) > 0 {
		r.Name = r.Methods[0]
		if r.Name == "" {
			r.Name = "default"
		}
	}
	r.Methods = slices.Clone(r.Methods)
	r.RetryOn = sortedCodes(r.RetryOn)
	r.FailOn = sortedCodes(r.FailOn)
	if r.Deadline != nil {
		c := r.Deadline.WithDefaults()
		r.Deadline = &c
	}
	if r.Retry != nil {
		c := r.Retry.WithDefaults()
		r.Retry = &c
	}
	if r.Breaker != nil {
		c := r.Breaker.WithDefaults()
		r.Breaker = &c
	}
	return r
}

func sortedCodes(in []codes.Code) []codes.Code {
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}

// Equal reports whether two rules say the same once defaults are filled in. The order of patterns and codes
// does not matter, but for the first pattern if the rule takes its name from it.
func (r Rule) Equal(other Rule) bool {
	a, b := r.withDefaults(), other.withDefaults()
	slices.Sort(a.Methods)
	slices.Sort(b.Methods)
	return a.Name == b.Name && a.Mode == b.Mode && a.Idempotent == b.Idempotent && a.PerMethod == b.PerMethod &&
		slices.Equal(a.Methods, b.Methods) && slices.Equal(a.RetryOn, b.RetryOn) && slices.Equal(a.FailOn, b.FailOn) &&
		reflect.DeepEqual(a.Deadline, b.Deadline) && reflect.DeepEqual(a.Retry, b.Retry) &&
		reflect.DeepEqual(a.Breaker, b.Breaker)
}

// Validate returns what is wrong with the rule: every finding names the field, its value and what is
// allowed.
func (r Rule) Validate() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(r.Methods) == 0 {
		add(`Methods: is empty, want at least one of "/service/Method", "/service/" or "" for every method`)
	}
	for _, p := range r.Methods {
		if err := validPattern(p); err != nil {
			errs = append(errs, err)
		}
	}
	if int(r.Mode) >= len(modeNames) {
		add("Mode: %d, want ModeEnforce, ModeObserve or ModeOff", r.Mode)
	}
	if r.Deadline != nil {
		if err := r.Deadline.Validate(); err != nil {
			add("Deadline: %w", err)
		}
	}
	if r.Retry != nil {
		if err := r.Retry.Validate(); err != nil {
			add("Retry: %w", err)
		}
	} else {
		if len(r.RetryOn) > 0 {
			add("RetryOn: %v without Retry has no effect, set Retry too", r.RetryOn)
		}
		if r.Idempotent {
			add("Idempotent: true without Retry has no effect, set Retry too")
		}
	}
	if r.Breaker != nil {
		if err := r.Breaker.Validate(); err != nil {
			add("Breaker: %w", err)
		}
	} else if r.PerMethod {
		add("PerMethod: true without Breaker has no effect, set Breaker too")
	}
	for _, c := range r.RetryOn {
		if c == codes.OK || c == codes.Canceled || c > codes.Unauthenticated {
			add("RetryOn: %v, want a code from 2 (UNKNOWN) to 16 (UNAUTHENTICATED)", c)
		}
	}
	for _, c := range r.FailOn {
		if c == codes.OK || c == codes.Canceled || c > codes.Unauthenticated {
			add("FailOn: %v, want a code from 2 (UNKNOWN) to 16 (UNAUTHENTICATED)", c)
		}
	}
	return errors.Join(errs...)
}

// maxPattern bounds a method pattern; gRPC itself sets no bound, HTTP/2 peers refuse paths of this size.
const maxPattern = 4096

func validPattern(p string) error {
	switch {
	case p == "":
		return nil
	case len(p) > maxPattern:
		return fmt.Errorf("Methods: a pattern of %d bytes, want at most %d", len(p), maxPattern)
	case !strings.HasPrefix(p, "/"), strings.Count(p, "/") != 2, strings.HasPrefix(p, "//"):
		return fmt.Errorf(`Methods: %q, want "/service/Method", "/service/" or ""`, p)
	}
	return nil
}
