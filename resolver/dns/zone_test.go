package dns_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/resolver/dns"
)

func TestMain(m *testing.M) { steadytest.Main(m) }

// zone answers in virtual time, without sockets. A key is kind and name, "A orders"; a value a list, or what is
// wrong.
type zone struct {
	mu   sync.Mutex
	data map[string]any
	at   []time.Time // of questions for A
}

func newZone(data map[string]any) *zone { return &zone{data: data} }

// set changes one entry; nil: there is none.
func (z *zone) set(key string, value any) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.data[key] = value
}

// times returns when A was asked for since the last time.
func (z *zone) times() []time.Time {
	z.mu.Lock()
	defer z.mu.Unlock()
	at := z.at
	z.at = nil
	return at
}

func (z *zone) using() dns.Option { return dns.Using(func(string) dns.Lookup { return z }) }

// servfail is what a net.Resolver makes of it.
var servfail = &net.DNSError{Err: "server misbehaving", Name: "x", IsTemporary: true}

// hang lets a question hang until its context ends.
type hang struct{}

func (z *zone) ask(ctx context.Context, kind, name string) (any, error) {
	key := kind + " " + strings.TrimSuffix(name, ".")
	z.mu.Lock()
	if kind == "A" {
		z.at = append(z.at, time.Now())
	}
	v := z.data[key]
	z.mu.Unlock()
	switch v := v.(type) {
	case nil:
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	case hang:
		<-ctx.Done()
		return nil, &net.DNSError{Err: ctx.Err().Error(), Name: name, IsTimeout: true}
	case error:
		return nil, v
	}
	return v, nil
}

func (z *zone) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	kind := map[string]string{"ip4": "A", "ip6": "AAAA"}[network]
	v, err := z.ask(ctx, kind, host)
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for s := range strings.FieldsSeq(v.(string)) {
		out = append(out, netip.MustParseAddr(s))
	}
	return out, nil
}

// LookupSRV reads "priority weight port host" lines.
func (z *zone) LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error) {
	if service != "" || proto != "" {
		return "", nil, fmt.Errorf("asked for service %q and proto %q", service, proto)
	}
	v, err := z.ask(ctx, "SRV", name)
	if err != nil {
		return "", nil, err
	}
	var out []*net.SRV
	for line := range strings.SplitSeq(v.(string), "\n") {
		r := new(net.SRV)
		if _, err := fmt.Sscan(line, &r.Priority, &r.Weight, &r.Port, &r.Target); err != nil {
			return "", nil, err
		}
		out = append(out, r)
	}
	return name, out, nil
}

func (z *zone) LookupTXT(ctx context.Context, name string) ([]string, error) {
	v, err := z.ask(ctx, "TXT", name)
	if err != nil {
		return nil, err
	}
	return v.([]string), nil
}
