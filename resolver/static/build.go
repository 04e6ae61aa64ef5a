package static

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/proto/document"
	"github.com/grpcsteady/steady/resolver/endpoint"
	"github.com/grpcsteady/steady/resolver/internal/publish"
)

// builder is for targets that list their endpoints.
type builder struct{}

func (builder) Scheme() string { return Scheme }

// OverrideAuthority names the channel after the first endpoint: a whole list is no authority that a server takes.
func (builder) OverrideAuthority(t resolver.Target) string {
	first, _, _ := strings.Cut(t.Endpoint(), ",")
	if _, err := document.ParseEndpoint(first); err != nil {
		return "localhost" // no call gets that far
	}
	return first
}

// Build reads the target. One that cannot be read is an error that names the part; gRPC hands it to every call.
func (builder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	text, err := listOf(target.URL)
	if err != nil {
		return nil, err
	}
	list, err := Parse(text)
	if err != nil {
		return nil, err
	}
	return open(target, cc, list), nil
}

// listOf puts together again what the reader of URLs has taken apart at the first question mark.
func listOf(u url.URL) (string, error) {
	if u.Host != "" || u.User != nil {
		return "", fmt.Errorf("static: the target names the authority %q, want static:///host:port,host:port", u.Host)
	}
	if u.Fragment != "" {
		return "", fmt.Errorf("static: the target has a fragment, #%s, want none", u.Fragment)
	}
	text := (&resolver.Target{URL: u}).Endpoint()
	if u.RawQuery != "" || u.ForceQuery {
		text += "?" + u.RawQuery
	}
	return text, nil
}

// fixed is for lists of the program.
type fixed struct {
	list []resolver.Endpoint
	err  error
}

func (fixed) Scheme() string { return Scheme }

func (b fixed) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	if b.err != nil {
		return nil, b.err
	}
	return open(target, cc, b.list), nil
}

func check(list []resolver.Endpoint) ([]resolver.Endpoint, error) {
	if len(list) == 0 || len(list) > document.MaxEndpoints {
		return nil, fmt.Errorf("static: %d endpoints, want 1 to %d", len(list), document.MaxEndpoints)
	}
	seen := make(map[string]int)
	for i, e := range list {
		if len(e.Addresses) == 0 {
			return nil, fmt.Errorf("static: endpoint %d: has no address", i+1)
		}
		for _, a := range e.Addresses {
			if a.Addr == "" {
				return nil, fmt.Errorf("static: endpoint %d: has an empty address", i+1)
			}
		}
		key := endpoint.Key(e)
		if earlier := seen[key]; earlier != 0 {
			return nil, fmt.Errorf("static: endpoint %d: %q is endpoint %d already", i+1, e.Addresses[0].Addr, earlier)
		}
		seen[key] = i + 1
		if w, _ := endpoint.Weight(e); w > document.MaxWeight {
			return nil, fmt.Errorf("static: endpoint %d: weight: %d, want 0 to %d", i+1, w, document.MaxWeight)
		}
		if p := endpoint.Priority(e); p < 0 || p > document.MaxPriority {
			return nil, fmt.Errorf("static: endpoint %d: priority: %d, want 0 to %d", i+1, p, document.MaxPriority)
		}
	}
	return slices.Clone(list), nil
}

// open publishes a list once.
func open(target resolver.Target, cc resolver.ClientConn, list []resolver.Endpoint) resolver.Resolver {
	o := publish.Open(cc, target.String(), nil, nil)
	o.Publish(publish.State{Endpoints: list}, nil)
	return &known{o}
}

// known is a resolver that has said all it knows. Its outlet stays for the case that the channel does not take it
// at once.
type known struct{ outlet *publish.Outlet }

func (*known) ResolveNow(resolver.ResolveNowOptions) {}

// Close ends the resolver.
func (k *known) Close() { k.outlet.Close() }
