package steady

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/retry"
)

// Report is the story of one call.
type Report struct {
	Channel  string
	Method   string     // full method
	Rule     string     // name of the rule
	Where    string     // where the rule stands, "orders.yaml:12"; "" if in no document
	Code     codes.Code // as the caller gets it
	Attempts []AttemptReport
	Duration time.Duration
	Limit    time.Duration // how long the call was allowed to take; 0: no limit
	Stop     retry.Stop    // why no further attempt was made; retry.Go if none was needed
	Detail   string        // of the reason, such as "0 of 20" for a budget
	FellBack bool          // answered by a fallback
}

// AttemptReport is the story of one attempt, or of one that was refused.
type AttemptReport struct {
	Number   int
	Endpoint string // where it was sent, "" if nobody knows
	Code     codes.Code
	Err      error
	Start    time.Duration // since the call began
	Duration time.Duration
	Wait     time.Duration // before the next attempt; 0 after the last
	Refused  string        // name of the gate that refused it; "" if it was made
}

// Made returns how many attempts were made, refused ones not counted.
func (r *Report) Made() int {
	n := 0
	for i := range r.Attempts {
		if r.Attempts[i].Refused == "" {
			n++
		}
	}
	return n
}

// String tells the story in one line:
//
//	orders.v1.Orders/Get: UNAVAILABLE after 3 attempts, 412ms of 500ms: a UNAVAILABLE 8ms, b UNAVAILABLE 2ms, c DEADLINE_EXCEEDED 300ms; stopped: budget 0 of 20; rule orders
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", strings.TrimPrefix(r.Method, "/"), codeName(r.Code))
	switch n := r.Made(); n {
	case 0:
		b.WriteString(" without an attempt")
	case 1:
		b.WriteString(" after 1 attempt")
	default:
		fmt.Fprintf(&b, " after %d attempts", n)
	}
	fmt.Fprintf(&b, ", %v", round(r.Duration))
	if r.Limit > 0 {
		fmt.Fprintf(&b, " of %v", round(r.Limit))
	}
	for i := range r.Attempts {
		a := &r.Attempts[i]
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		b.WriteString(sep)
		if a.Refused != "" {
			fmt.Fprintf(&b, "refused (%s)", a.Refused)
			continue
		}
		if a.Endpoint != "" {
			b.WriteString(a.Endpoint + " ")
		}
		fmt.Fprintf(&b, "%s %v", codeName(a.Code), round(a.Duration))
	}
	if r.FellBack {
		b.WriteString("; answered by the fallback")
	}
	if r.Stop != retry.Go {
		b.WriteString("; stopped: " + r.Stop.String())
		if r.Detail != "" {
			b.WriteString(" " + r.Detail)
		}
	}
	switch {
	case r.Where != "":
		b.WriteString("; rule " + r.Where)
	case r.Rule != "":
		b.WriteString("; rule " + r.Rule)
	}
	return b.String()
}

// Explain tells in one line why a call failed: its attempts, where they went, how long they took, and why
// there was no further one. For an error that no rule had a hand in it is the error's own text; for nil it
// is "OK".
func Explain(err error) string {
	if err == nil {
		return "OK"
	}
	if call, ok := errors.AsType[*CallError](err); ok {
		return call.Report.String()
	}
	return err.Error()
}

// round keeps three digits or so: a story is read by people.
func round(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond)
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond)
	case d >= 10*time.Microsecond:
		return d.Round(time.Microsecond)
	default:
		return d
	}
}

var codeNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
	"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// codeName returns a code as the gRPC specification writes it, as it stands in documents and logs.
func codeName(c codes.Code) string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("CODE(%d)", uint32(c))
}
