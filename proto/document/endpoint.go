package document

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Bounds of lists of endpoints.
const (
	MaxEndpoints = 10_000    // in a list
	MaxWeight    = 1_000_000 // of an endpoint
	MaxPriority  = 100       // of an endpoint

	maxAddresses = 16 // of an endpoint
	maxZone      = 63 // bytes of a zone's name
)

// Endpoint is a server as people write it down, for those who resolve names.
type Endpoint struct {
	Addresses []string // host:port; more than one are of the same server, say IPv4 and IPv6
	Weight    *uint32  // share of the load beside the others, 0 to 1,000,000; 0: none; nil: not said, which is 1
	Zone      string   // where it is; "": not said
	Priority  int      // 0 to 100, lower ones are used first
}

// ParseEndpoint reads an endpoint in its short form, host:port or host:port?weight=3&zone=a&priority=1. Values
// may be percent-encoded, as in URLs. The host is a name or an address, IPv6 in brackets; the port is a number
// from 1 to 65535; no key stands twice. The error names the part that is wrong.
func ParseEndpoint(text string) (Endpoint, error) {
	addr, query, more := strings.Cut(text, "?")
	if err := checkAddress(addr); err != nil {
		return Endpoint{}, err
	}
	e := Endpoint{Addresses: []string{addr}}
	if !more {
		return e, nil
	}
	seen := make(map[string]bool)
	for pair := range strings.SplitSeq(query, "&") {
		key, raw, _ := strings.Cut(pair, "=")
		value, err := url.QueryUnescape(raw)
		if err != nil {
			return Endpoint{}, fmt.Errorf("%s: %q is no percent-encoded text", clip(key), clip(raw))
		}
		if seen[key] {
			return Endpoint{}, fmt.Errorf("%s stands twice", clip(key))
		}
		seen[key] = true
		if err := e.set(key, value); err != nil {
			return Endpoint{}, err
		}
	}
	return e, nil
}

func (e *Endpoint) set(key, value string) error {
	switch key {
	case "weight":
		n, err := wholeUpTo(value, MaxWeight)
		if err != nil {
			return fmt.Errorf("weight: %w", err)
		}
		w := uint32(n) //nolint:gosec // at most MaxWeight
		e.Weight = &w
	case "priority":
		n, err := wholeUpTo(value, MaxPriority)
		if err != nil {
			return fmt.Errorf("priority: %w", err)
		}
		e.Priority = n
	case "zone":
		if err := checkZone(value); err != nil {
			return fmt.Errorf("zone: %w", err)
		}
		e.Zone = value
	default:
		return fmt.Errorf("unknown key %q, want weight, zone or priority", clip(key))
	}
	return nil
}

// wholeUpTo reads a number in its one plain form, so that nobody has to know what 0x10, +1 or 007 is.
func wholeUpTo(s string, most int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > most || strconv.Itoa(n) != s {
		return 0, fmt.Errorf("%q, want a whole number from 0 to %d", clip(s), most)
	}
	return n, nil
}

func checkAddress(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || net.JoinHostPort(host, port) != s || !plainHost(host) {
		return fmt.Errorf("%q, want host:port", clip(s))
	}
	if n, err := wholeUpTo(port, 65535); err != nil || n == 0 {
		return fmt.Errorf("port %q, want 1 to 65535", clip(port))
	}
	return nil
}

// plainHost reports whether s may be a host's name, or is an address.
func plainHost(s string) bool {
	if strings.ContainsAny(s, ":%") {
		_, err := netip.ParseAddr(s)
		return err == nil
	}
	const most = 254 // of a name in DNS, with its last dot
	for i := range len(s) {
		c := s[i]
		if c != '-' && c != '_' && c != '.' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return s != "" && len(s) <= most
}

func checkZone(s string) error {
	if s == "" || len(s) > maxZone {
		return fmt.Errorf("%q, want 1 to %d characters", clip(s), maxZone)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return fmt.Errorf("%q, want printable ASCII without blanks", clip(s))
		}
	}
	return nil
}

// errNoEndpoint is for lists: one that is empty would take every server away.
var errNoEndpoint = errors.New("lists no endpoint, want at least one")

// ParseEndpoints reads a list in short form, with commas between. An error tells which endpoint, counted from 1,
// and what is wrong.
func ParseEndpoints(list string) ([]Endpoint, error) {
	if list == "" {
		return nil, errNoEndpoint
	}
	if n := strings.Count(list, ",") + 1; n > MaxEndpoints {
		return nil, fmt.Errorf("lists %d endpoints, want at most %d", n, MaxEndpoints)
	}
	seen := make(map[string]int)
	var out []Endpoint
	for part := range strings.SplitSeq(list, ",") {
		e, err := ParseEndpoint(part)
		if err != nil {
			return nil, fmt.Errorf("endpoint %d: %w", len(out)+1, err)
		}
		out = append(out, e)
		a := e.Addresses[0]
		if earlier := seen[a]; earlier != 0 {
			return nil, fmt.Errorf("endpoint %d: %q is endpoint %d already", len(out), a, earlier)
		}
		seen[a] = len(out)
	}
	return out, nil
}
