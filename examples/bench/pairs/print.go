package pairs

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// object is a row in JSON. Its keys are a promise to programs that read them.
type object struct {
	Row          string   `json:"row"`
	Peer         string   `json:"peer"`
	OursNS       number   `json:"ours_ns"`
	PeerNS       number   `json:"peer_ns"`
	Ratio        number   `json:"ratio"`
	Spread       number   `json:"spread"`
	OursAllocs   number   `json:"ours_allocs"`
	PeerAllocs   number   `json:"peer_allocs"`
	TargetNS     *float64 `json:"target_ns"`
	TargetAllocs *float64 `json:"target_allocs"`
	Holds        *bool    `json:"holds"`

	// Rows about memory only.
	OursHeld *number `json:"ours_held,omitempty"`
	PeerHeld *number `json:"peer_held,omitempty"`
}

// number is null where there is none, which JSON has no word for. Thousandths are more than is known.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, math.Round(float64(n)*1000)/1000, 'f', -1, 64), nil
}

// WriteJSON writes one object and a line break.
func WriteJSON(w io.Writer, r Result, v Verdict) error {
	o := object{
		Row: r.Row.Name, Peer: r.Row.Peer,
		OursNS: number(v.Ours.NS), PeerNS: number(v.Peer.NS), Ratio: number(v.Ratio), Spread: number(v.Spread),
		OursAllocs: number(v.Ours.Allocs), PeerAllocs: number(v.Peer.Allocs),
		TargetNS: r.Row.Target.NS, TargetAllocs: r.Row.Target.Allocs, Holds: v.Holds,
	}
	if r.Row.Keeps > 0 {
		o.OursHeld, o.PeerHeld = new(number(v.Ours.Held)), new(number(v.Peer.Held))
	}
	return json.NewEncoder(w).Encode(o)
}

// lineFormat is shared by the head and the lines below it.
const lineFormat = "%-53s %-30s %8s %8s %6s %7s  %13s %13s  %18s  %-6s %s\n"

// WriteHead writes the names of the columns.
func WriteHead(w io.Writer) error {
	_, err := fmt.Fprintf(w, lineFormat, "row", "peer", "ours ns", "peer ns", "ratio", "spread",
		"ours allocs/B", "peer allocs/B", "budget ns/allocs", "holds", "faster")
	return err
}

// WriteLine writes a row as a line of a table.
func WriteLine(w io.Writer, r Result, v Verdict) error {
	_, err := fmt.Fprintf(w, lineFormat, r.Row.Name, r.Row.Peer, short(v.Ours.NS), short(v.Peer.NS),
		ratio(v.Ratio), percent(v.Spread), memory(r.Row, v.Ours), memory(r.Row, v.Peer), budget(r), Word(r.Row, v), faster(r, v))
	return err
}

// Word says in one word whether the budget of a row holds: yes, NO, refused, or - without a budget.
func Word(r Row, v Verdict) string {
	switch {
	case v.Holds != nil && *v.Holds:
		return "yes"
	case v.Holds != nil:
		return "NO"
	case r.Target.NS == nil && r.Target.Allocs == nil:
		return "-"
	default:
		return "refused"
	}
}

// faster names who needs less time, or memory. A difference smaller than the spread is none.
func faster(r Result, v Verdict) string {
	unit := "times"
	if r.Row.Keeps > 0 {
		unit = "times less held"
	}
	switch {
	case r.Noise() != "":
		return "too noisy to say"
	case math.Abs(v.Ratio-1) <= v.Spread/2:
		return "even"
	case v.Ratio < 1:
		return fmt.Sprintf("ours, %.1f %s", 1/v.Ratio, unit)
	default:
		return fmt.Sprintf("PEER, %.1f %s", v.Ratio, unit)
	}
}

// budget is the target, what it is multiplied by, and the objects allowed.
func budget(r Result) string {
	t := r.Row.Target
	if t.NS == nil && t.Allocs == nil {
		return "-"
	}
	var b strings.Builder
	if t.NS == nil {
		b.WriteString("-")
	} else {
		fmt.Fprintf(&b, "%s x %.2f", short(*t.NS), r.Machine.Factor())
	}
	b.WriteString(" / ")
	if t.Allocs == nil {
		b.WriteString("-")
	} else {
		b.WriteString(short(*t.Allocs))
	}
	return b.String()
}

// memory is what an operation allocates, or what it holds.
func memory(row Row, c Cost) string {
	if row.Keeps > 0 {
		return "held " + strconv.FormatFloat(c.Held, 'f', 0, 64)
	}
	return short(c.Allocs) + " / " + strconv.FormatFloat(c.Bytes, 'f', 0, 64)
}

// short writes small numbers with a decimal and large ones without, and none as a dash.
func short(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "-"
	case math.Abs(v) < 100 && v != math.Trunc(v):
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
}

func ratio(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func percent(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return strconv.FormatFloat(v*100, 'f', 0, 64) + " %"
}
