// Promises reads what `go run ./examples/quickstart -json` printed, from
// standard input, and holds it to what the README says of it: with steady at
// least 99.9 % of the calls are answered where plain gRPC answers under 90 %,
// and p99 is lower. It prints each broken promise and exits with 1.
//
//	go run ./examples/quickstart -json | go run ./.ci/promises
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// A run is what the quickstart says of one of its two runs. Pointers tell a
// missing key from a zero.
type run struct {
	Calls            *int64   `json:"calls"`
	Availability     *float64 `json:"availability"` // share of calls answered, 0 to 1
	P50              *float64 `json:"p50_ms"`
	P99              *float64 `json:"p99_ms"`
	P999             *float64 `json:"p999_ms"`
	AttemptsPerCall  *float64 `json:"attempts_per_call"`
	Refused          *int64   `json:"refused"`
	RetriedElsewhere *int64   `json:"retried_elsewhere"`
}

const (
	least     = 0.999 // availability with steady
	below     = 0.9   // availability with plain gRPC, or the fleet is not sick
	enough    = 1000  // calls of one run, or 99.9 % cannot be told
	unlikely  = 4.0   // attempts: the quickstart allows five, and needs few
	oneObject = "want one JSON object with plain and steady and nothing else"
)

func main() {
	broken := check(os.Stdin)
	for _, b := range broken {
		fmt.Fprintln(os.Stderr, b)
	}
	if len(broken) > 0 {
		os.Exit(1)
	}
	fmt.Println("the quickstart keeps its promises")
}

// check returns one line for each broken promise.
func check(r io.Reader) (broken []string) {
	var out struct{ Plain, Steady *run }
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&out); err != nil {
		return []string{fmt.Sprintf("%s: %v", oneObject, err)}
	}
	if _, err := dec.Token(); err != io.EOF || out.Plain == nil || out.Steady == nil {
		return []string{oneObject}
	}
	say := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	for name, r := range map[string]*run{"plain": out.Plain, "steady": out.Steady} {
		switch {
		case r.Calls == nil || r.Availability == nil || r.P50 == nil || r.P99 == nil || r.P999 == nil ||
			r.AttemptsPerCall == nil || r.Refused == nil || r.RetriedElsewhere == nil:
			say("%s: a key is missing", name)
		case *r.Calls < enough:
			say("%s: %d calls, want at least %d", name, *r.Calls, enough)
		case *r.P50 <= 0 || *r.P50 > *r.P99 || *r.P99 > *r.P999:
			say("%s: quantiles %v, %v, %v ms do not rise", name, *r.P50, *r.P99, *r.P999)
		case *r.Availability < 0 || *r.Availability > 1:
			say("%s: availability %v, want a share from 0 to 1", name, *r.Availability)
		case *r.AttemptsPerCall > unlikely:
			say("%s: %v attempts per call, want at most %v", name, *r.AttemptsPerCall, unlikely)
		}
	}
	if broken != nil {
		return broken
	}
	if a := *out.Steady.Availability; a < least {
		say("steady: availability %.5f, want at least %v", a, least)
	}
	if a := *out.Plain.Availability; a >= below {
		say("plain: availability %.5f, want under %v", a, below)
	}
	if s, p := *out.Steady.P99, *out.Plain.P99; s >= p {
		say("p99 with steady %v ms, want below plain's %v ms", s, p)
	}
	return broken
}
