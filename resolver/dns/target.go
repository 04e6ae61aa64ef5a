package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/grpc/resolver"
)

const (
	defaultPort   = 443 // as gRPC's
	defaultServer = "53"
	maxName       = 254 // bytes of a name, with its last dot
)

// name is what a target asks for.
type name struct {
	server string     // host:port of the name server; "": the system's
	host   string     // to look up
	port   uint16     // of every address; 0: SRV records say it
	addr   netip.Addr // instead of host, if valid
}

// parse reads a target strictly: gRPC's own takes any text for a name, and a slip becomes a name that does not
// exist.
func parse(t resolver.Target) (name, error) {
	bad := func(format string, args ...any) (name, error) {
		return name{}, fmt.Errorf("dns: target %s: "+format, append([]any{t.String()}, args...)...)
	}
	u := t.URL
	switch {
	case u.RawQuery != "" || u.ForceQuery:
		return bad("has a query, ?%s, want none", u.RawQuery)
	case u.Fragment != "":
		return bad("has a fragment, #%s, want none", u.Fragment)
	case u.User != nil:
		return bad("names a user, want dns://server:port/name:port")
	}
	server, err := serverOf(&u)
	if err != nil {
		return bad("%w", err)
	}
	n := name{server: server, port: defaultPort}
	text := t.Endpoint()
	if isService(text) {
		n.host, n.port = text, 0
		if strings.Contains(text, ":") {
			return bad("%q has a port, want none: SRV records bring theirs", text)
		}
		if err := checkName(text); err != nil {
			return bad("%w", err)
		}
		return n, nil
	}
	if n.addr, err = netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")); err == nil {
		if (text[0] == '[') != (text[len(text)-1] == ']') || text[0] == '[' && n.addr.Is4() {
			return bad("%q has brackets that do not fit", text)
		}
		return n, nil
	}
	n.host = text
	if strings.Contains(text, ":") {
		host, port, err := net.SplitHostPort(text)
		if err != nil {
			return bad("%q, want name:port", text)
		}
		p, err := strconv.ParseUint(port, 10, 16)
		if err != nil || p == 0 || strconv.FormatUint(p, 10) != port {
			return bad("port %q, want 1 to 65535", port)
		}
		n.host, n.port = host, uint16(p)
		if strings.HasPrefix(text, "[") {
			if n.addr, err = netip.ParseAddr(host); err != nil || n.addr.Is4() {
				return bad("%q is no IPv6 address", host)
			}
			n.host = ""
			return n, nil
		}
		if n.addr, err = netip.ParseAddr(host); err == nil {
			n.host = ""
			return n, nil
		}
	}
	if err := checkName(n.host); err != nil {
		return bad("%w", err)
	}
	return n, nil
}

func serverOf(u *url.URL) (string, error) {
	if u.Host == "" {
		return "", nil
	}
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = defaultServer
	}
	if p, err := strconv.ParseUint(port, 10, 16); err != nil || p == 0 {
		return "", fmt.Errorf("port %q of the name server, want 1 to 65535", port)
	}
	if _, err := netip.ParseAddr(host); err != nil {
		if strings.HasSuffix(u.Host, ":") || checkName(host) != nil {
			return "", fmt.Errorf("name server %q, want host:port", u.Host)
		}
	}
	return net.JoinHostPort(host, port), nil
}

// isService reports whether s is the name of a service, as RFC 2782 has it: _service._proto.domain.
func isService(s string) bool {
	first, rest, _ := strings.Cut(s, ".")
	return strings.HasPrefix(first, "_") && (strings.HasPrefix(rest, "_tcp.") || strings.HasPrefix(rest, "_udp."))
}

// domainOf returns what follows _service._proto.
func domainOf(s string) string {
	parts := strings.SplitN(s, ".", 3)
	return parts[len(parts)-1]
}

func checkName(s string) error {
	if s == "" {
		return errors.New("there is no name, want dns:///name:port")
	}
	if len(s) > maxName {
		return fmt.Errorf("the name has %d characters, want at most %d", len(s), maxName)
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 {
			return fmt.Errorf("%q is no name: between dots there are 1 to 63 characters", s)
		}
		for i := range len(label) {
			c := label[i]
			if c != '-' && c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
				return fmt.Errorf("%q is no name: %q, want letters, digits, - and _", s, c)
			}
		}
	}
	return nil
}
