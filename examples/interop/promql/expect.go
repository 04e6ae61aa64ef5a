package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// question is a row of the page.
type question struct{ question, expression string }

var row = regexp.MustCompile("(?m)^\\| ([^|`]+) \\| `([^`]+)`")

// questions returns the rows of the page's table.
func questions(page string) []question {
	var all []question
	for _, m := range row.FindAllStringSubmatch(page, -1) {
		all = append(all, question{strings.TrimSpace(m[1]), m[2]})
	}
	return all
}

// complete reports rows of which nobody says here what they should give, and the other way round.
func complete(rows []question) error {
	asked := make(map[string]bool)
	for _, r := range rows {
		if _, ok := expected[r.question]; !ok {
			return fmt.Errorf("%q is asked in the docs, and not known here", r.question)
		}
		asked[r.question] = true
	}
	for q := range expected {
		if !asked[q] {
			return fmt.Errorf("%q is known here, and not asked in the docs", q)
		}
	}
	return nil
}

// expectation is what an expression must give: so many series, each from least to most. A rate is stretched to the
// ends of its range, and a round may be cut in two by a scrape: hence the distance between the two.
type expectation struct {
	series      int
	least, most float64
	rounds      bool   // both are for each round: a rate is low as long as its range is older than the series
	of          string // name=value: a label that they have
	others      bool   // there may be series without it, of whatever value
}

const channels = 2

func about(value float64) expectation {
	return expectation{series: channels, least: value * 0.9, most: value * 1.1}
}

func perRound(least, most float64, of string) expectation {
	return expectation{series: channels, least: least * 0.9, most: most * 1.1, rounds: true, of: of}
}

func only(e expectation, of string) expectation {
	e.of, e.others = of, true
	return e
}

// rounds is how many rounds a second there were on a channel, as a rate sees it.
var rounds = fmt.Sprintf("avg(sum by (channel) (rate(steady_calls_total[5m]))) / %v", calls)

var expected = map[string]expectation{
	"breaker: state":                    {series: 2 * channels, least: 1, most: 1},
	"breaker: failure rate":             only(about(5.0/13), "rule=get"),
	"breaker: success rate":             only(about(8.0/13), "rule=get"),
	"breaker: trip frequency":           perRound(0.1, 0.6, "rule=put"), // every half second, which is four rounds on a quiet machine
	"breaker, gates, deadline: refused": perRound(0.3, 1, "gate=breaker"),
	"retry: count by service":           perRound(3, 3, ""),
	"retry: success rate":               about(1.0 / 3),
	"retry: given up, by reason":        only(perRound(2, 2, ""), "reason=attempts"),
	"retry: sent elsewhere":             about(1),                                      // two servers in turns
	"retry: backoff duration":           {series: channels, least: 0.005, most: 0.010}, // 10 ms, the end of its bucket
	"retry: attempts per call":          {series: channels, least: attempts / calls * 0.95, most: (attempts + 1) / calls * 1.05},
	"retry: budget":                     {series: channels, least: 1, most: 1e6},
	"timeout: rate by service":          about(1.0 / calls),
	"timeout: p99 latency":              {series: channels, least: 0.1, most: 1}, // twice 50 ms and a wait
	"timeout: cut by a rule":            perRound(2, 2, "limit=attempt"),
	"fallback: answered":                perRound(1, 1, ""),
	"observe: what would be retried":    perRound(1, 1, ""),

	// Two endpoints in turns; b of the two gets the odd attempt now and then.
	"balancing: requests per instance":       {series: 2 * channels, least: attempts / 2 * 0.85, most: (attempts + 1) / 2 * 1.15, rounds: true},
	"balancing: failures per instance":       {series: 2 * channels, least: 0.1, most: 0.9},
	"balancing: instance health":             only(expectation{series: 2 * channels, least: 1, most: 1}, "state=healthy"),
	"balancing: variance of the load":        {series: channels, least: 0, most: 0.2},
	"balancing: variance over a longer time": {series: channels, least: 0, most: 1},
}

// check holds an answer against what was expected, with so many rounds a second.
func (e expectation) check(found []sample, rounds float64) error {
	n, least, most := 0, e.least, e.most
	if e.rounds {
		least, most = least*rounds, most*rounds
	}
	for _, s := range found {
		if name, value, ok := strings.Cut(e.of, "="); ok && s.metric[name] != value {
			if e.others {
				continue
			}
			return fmt.Errorf("%s is not %s", s.labels(), e.of)
		}
		n++
		if !(s.value >= least && s.value <= most) {
			return fmt.Errorf("%s is %v, want %v to %v", s.labels(), s.value, least, most)
		}
	}
	if n != e.series {
		return fmt.Errorf("%d series, want %d", n, e.series)
	}
	return nil
}

// sample is one series of an answer.
type sample struct {
	metric map[string]string
	value  float64
}

func (s sample) labels() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(s.metric)) {
		if k != "__name__" && k != "job" && k != "instance" && s.metric[k] != "" {
			fmt.Fprintf(&b, "%s=%s ", k, s.metric[k])
		}
	}
	return strings.TrimSpace(b.String())
}
