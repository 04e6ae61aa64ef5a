package fault

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Rule is one fault: what happens, to which calls, and when. It is plain data. At least one of Delay,
// DelayJitter, Code and Drop must be set.
type Rule struct {
	// Name identifies the rule in errors, logs and counters. Its draws depend on it too, so a rule keeps its
	// draws when others are added before it. Unique. Default: "rule 1" for the first rule, and so on.
	Name string

	// Methods are the patterns of the calls it is for: "/svc/Method", "/svc/" for all methods of a service,
	// "" for every call. Default: every call.
	Methods []string

	// Share is how many of those calls are struck. Range: above 0, up to 1. There is no default: how much is
	// broken shall stand in the rule.
	Share float64

	// Delay is how long a struck call waits before anything else happens. Range: 0 to 24 h.
	Delay time.Duration

	// DelayJitter adds a random time below it to Delay, evenly distributed. Range: 0 to 24 h.
	DelayJitter time.Duration

	// Code is the gRPC status code a struck call fails with. Default: 0, it does not fail. Range: 1 to 16.
	Code uint32

	// Message is the text of that failure.
	Message string

	// Drop lets a struck call hang until its context ends, as if the host were gone. It goes with none of
	// Code, Delay and DelayJitter, none of which would be seen.
	Drop bool

	// From and Until bound the time since Enable in which the rule is active, From included, Until excluded.
	// Default: at once and, as Until 0 means, for ever. Range: 0 <= From, Until above From.
	From, Until time.Duration

	// Every and For let it come and go within that time: beginning with From, it is active for the first For
	// of each Every. Both or none are set. Range: 1 ms <= Every, 0 < For < Every.
	Every, For time.Duration
}

const (
	maxDelay = 24 * time.Hour
	minEvery = time.Millisecond

	// maxPattern bounds a method pattern; gRPC itself sets no bound, HTTP/2 peers refuse paths of this size.
	maxPattern = 4096
)

// Validate returns what is wrong with the rule, all findings joined: each names the field, its value and
// what is allowed.
func (r Rule) Validate() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	for _, p := range r.Methods {
		switch {
		case len(p) > maxPattern:
			add("Methods: a pattern of %d bytes, want at most %d", len(p), maxPattern)
		case p != "" && (!strings.HasPrefix(p, "/") || strings.HasPrefix(p, "//") || strings.Count(p, "/") != 2):
			add(`Methods: %q, want "/service/Method", "/service/" or ""`, p)
		}
	}
	if !(r.Share > 0 && r.Share <= 1) { // turned round so that NaN is refused
		add("Share: %v, want above 0 and up to 1", r.Share)
	}
	if r.Delay < 0 || r.Delay > maxDelay {
		add("Delay: %v, want 0 to 24h", r.Delay)
	}
	if r.DelayJitter < 0 || r.DelayJitter > maxDelay {
		add("DelayJitter: %v, want 0 to 24h", r.DelayJitter)
	}
	if r.Code > maxCode {
		add("Code: %d, want 0 (no error) to 16 (UNAUTHENTICATED)", r.Code)
	}
	if r.Message != "" && r.Code == 0 {
		add("Message: %q without Code has no effect, set Code too", r.Message)
	}
	if r.Drop {
		if r.Code != 0 {
			add("Drop: true with Code: %d contradicts it, a dropped call never gets an answer", r.Code)
		}
		if r.Delay != 0 || r.DelayJitter != 0 {
			add("Drop: true with Delay: %v and DelayJitter: %v, want only one, a dropped call waits anyway", r.Delay, r.DelayJitter)
		}
	} else if r.Delay == 0 && r.DelayJitter == 0 && r.Code == 0 {
		add("Delay, DelayJitter, Code, Drop: none is set, so the rule has no effect, want at least one")
	}
	if r.From < 0 {
		add("From: %v, want at least 0", r.From)
	}
	if r.Until != 0 && r.Until <= max(r.From, 0) {
		add("Until: %v, want 0 (for ever) or above From: %v", r.Until, r.From)
	}
	switch {
	case r.Every == 0 && r.For == 0:
	case r.Every < minEvery:
		add("Every: %v, want at least 1ms, or 0 together with For", r.Every)
	case r.For <= 0 || r.For >= r.Every:
		add("For: %v, want above 0 and below Every: %v", r.For, r.Every)
	}
	return errors.Join(errs...)
}

// String describes the rule in one line, as the log does when it is enabled.
func (r Rule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q: %.4g%% of ", r.Name, 100*r.Share)
	if len(r.Methods) == 0 || slices.Contains(r.Methods, "") {
		b.WriteString("all calls")
	} else {
		b.WriteString(strings.Join(r.Methods, ", "))
	}
	if r.Drop {
		b.WriteString(" dropped")
	}
	if r.Delay > 0 || r.DelayJitter > 0 {
		fmt.Fprintf(&b, " delayed by %v", r.Delay)
		if r.DelayJitter > 0 {
			fmt.Fprintf(&b, " to %v", r.Delay+r.DelayJitter)
		}
	}
	if r.Code != 0 {
		fmt.Fprintf(&b, " failed with %s", codeName(r.Code))
	}
	if r.From > 0 {
		fmt.Fprintf(&b, " from %v", r.From)
	}
	if r.Until > 0 {
		fmt.Fprintf(&b, " until %v", r.Until)
	}
	if r.Every > 0 {
		fmt.Fprintf(&b, " for %v of every %v", r.For, r.Every)
	}
	return b.String()
}

// active reports whether the rule is in its window at this time since Enable.
func (r *Rule) active(t time.Duration) bool {
	if t < r.From || (r.Until > 0 && t >= r.Until) {
		return false
	}
	return r.Every == 0 || (t-r.From)%r.Every < r.For
}
