package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// comparison is both runs, in the form of the JSON output.
type comparison struct {
	Plain  result `json:"plain"`
	Steady result `json:"steady"`
}

// intro says what is about to happen.
func intro(w io.Writer, s settings) {
	var b strings.Builder
	b.WriteString("Five servers, the same for both:\n")
	for _, p := range patients() {
		fmt.Fprintf(&b, "  %s %s\n", p.name, p.story)
	}
	fmt.Fprintf(&b, "%d calls a second for %v with plain gRPC and round robin, then with steady; both have %v for a call.\n"+
		"Of %d calls one is a server stream and one a bidi stream: a call too, from its opening to its end.\n",
		s.rate, s.each, callTimeout, visits)
	fmt.Fprintf(&b, "steady makes up to %d attempts of %v each, a stream's to its first message, as the methods are marked\n"+
		"NO_SIDE_EFFECTS, takes out servers that keep failing, and sends a retry to another server.\n\n", maxAttempts, attemptTimeout)
	_, _ = io.WriteString(w, b.String())
}

// table writes the comparison for people.
func table(w io.Writer, c comparison) {
	const columns = "%-10s   %12s   %8s   %8s   %8s   %17s   %7s   %17s\n"
	_, _ = fmt.Fprintf(w, columns,
		"", "availability", "p50", "p99", "p99.9", "attempts per call", "refused", "retried elsewhere")
	row := func(name string, r result) {
		_, _ = fmt.Fprintf(w, columns, name, fmt.Sprintf("%.2f %%", 100*r.Availability),
			ms(r.P50), ms(r.P99), ms(r.P999), fmt.Sprintf("%.2f", r.AttemptsPerCall),
			strconv.FormatInt(r.Refused, 10), strconv.FormatInt(r.RetriedElsewhere, 10))
	}
	row("plain gRPC", c.Plain)
	row("steady", c.Steady)
	_, _ = fmt.Fprintf(w, "\n%s\n", reading(c))
}

// ms keeps three digits or so.
func ms(v float64) string {
	if v < 10 {
		return fmt.Sprintf("%.2f ms", v)
	}
	return fmt.Sprintf("%.0f ms", v)
}

// reading says in two sentences what the table shows, whatever it shows.
func reading(c comparison) string {
	p, s := c.Plain, c.Steady
	first := fmt.Sprintf("Plain gRPC left %d of %d calls without an answer and steady %d of %d, for %.0f %% more attempts.",
		p.Calls-p.answered, p.Calls, s.Calls-s.answered, s.Calls, 100*(s.AttemptsPerCall/max(p.AttemptsPerCall, 1)-1))
	second := fmt.Sprintf("The slowest hundredth took %s or longer with plain gRPC and %s with steady", ms(p.P99), ms(s.P99))
	if s.P99 >= p.P99 {
		return first + "\n" + second + ", which is no gain: this machine may have been too busy to tell."
	}
	retries := s.attempts - s.Calls
	which := fmt.Sprintf("of %d retries %d", retries, s.RetriedElsewhere)
	if s.RetriedElsewhere == retries {
		which = fmt.Sprintf("all %d retries", retries)
	}
	return first + "\n" + second + fmt.Sprintf(
		":\nan attempt that hangs is given up after %v, and %s went to a server not tried before.", attemptTimeout, which)
}
