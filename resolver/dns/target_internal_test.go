package dns

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc/resolver"
)

func target(text string) (resolver.Target, error) {
	u, err := url.Parse(text)
	if err != nil {
		return resolver.Target{}, err
	}
	return resolver.Target{URL: *u}, nil
}

func TestTargets(t *testing.T) {
	for _, tt := range []struct{ give, want string }{
		{"dns:///orders", "orders 443"},
		{"dns:///orders:1", "orders 1"},
		{"dns:orders:1", "orders 1"},
		{"dns:///orders.prod.svc.cluster.local.:65535", "orders.prod.svc.cluster.local. 65535"},
		{"dns://10.0.0.53/orders", "orders 443 at 10.0.0.53:53"},
		{"dns://10.0.0.53:5353/orders:1", "orders 1 at 10.0.0.53:5353"},
		{"dns://[2001:db8::53]/orders:1", "orders 1 at [2001:db8::53]:53"},
		{"dns://ns.example:5353/orders:1", "orders 1 at ns.example:5353"},
		{"dns:///_grpc._tcp.orders", "_grpc._tcp.orders 0"},
		{"dns:///_orders:1", "_orders 1"}, // no service
		{"dns:///10.0.0.1:1", "10.0.0.1 1"},
		{"dns:///[2001:db8::1]:1", "2001:db8::1 1"},

		{"dns:///", "there is no name"},
		{"dns:///:80", "there is no name"},
		{"dns:///orders:", `port ""`},
		{"dns:///orders:0", `port "0"`},
		{"dns:///orders:01", `port "01"`},
		{"dns:///orders:65536", `port "65536"`},
		{"dns:///orders:http", `port "http"`},
		{"dns:///a:1:2", `"a:1:2", want name:port`},
		{"dns:///or/ders:1", `"or/ders" is no name: '/'`},
		{"dns:///or..ders:1", "is no name: between dots"},
		{"dns:///a,b:1", `','`},
		{"dns:///[orders]:1", "is no IPv6 address"},
		{"dns:///[10.0.0.1]:1", "is no IPv6 address"},
		{"dns:///[2001:db8::1", "brackets"},
		{"dns:///" + strings.Repeat("a", 64) + ":1", "1 to 63"},
		{"dns:///" + strings.Repeat("a.", 128) + ":1", "at most 254"},
		{"dns:///_grpc._tcp.orders:1", "want none: SRV records bring theirs"},
		{"dns:///orders:1?a=b", "has a query, ?a=b"},
		{"dns:///orders:1#a", "has a fragment, #a"},
		{"dns://x@ns/orders:1", "names a user"},
		{"dns://ns:0/orders:1", `port "0" of the name server`},
		{"dns://ns:/orders:1", `name server "ns:"`},
		{"dns://n_%20s/orders:1", "name server"},
	} {
		tg, err := target(tt.give)
		if err != nil {
			continue // gRPC does not take it either
		}
		n, err := parse(tg)
		got := fmt.Sprint(n.host, " ", n.port)
		if n.addr.IsValid() {
			got = fmt.Sprint(n.addr, " ", n.port)
		}
		if n.server != "" {
			got += " at " + n.server
		}
		if err != nil {
			got = err.Error()
			if !strings.HasPrefix(got, "dns: target dns:") {
				t.Errorf("%s does not name the target", got)
			}
		}
		if err == nil && got != tt.want || !strings.Contains(got, tt.want) {
			t.Errorf("%.60s: %s, want %s", tt.give, got, tt.want)
		}
	}
}

func TestAuthority(t *testing.T) {
	for give, want := range map[string]string{
		"dns:///orders:1":                  "orders:1",
		"dns://10.0.0.53/orders":           "orders",
		"dns:///_grpc._tcp.orders.example": "orders.example",
		"dns:///[2001:db8::1]:1":           "[2001:db8::1]:1",
	} {
		tg, err := target(give)
		if err != nil {
			t.Fatal(err)
		}
		if got := new(builder).OverrideAuthority(tg); got != want {
			t.Errorf("%s: authority %q, want %q", give, got, want)
		}
	}
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"dns:///orders:1", "dns://ns:53/_grpc._tcp.orders", "dns:///[::1]:1", "dns:///::1", "dns:///[", "dns:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tg, err := target(s)
		if err != nil {
			return
		}
		n, err := parse(tg)
		if err != nil {
			return
		}
		if (n.host == "") != n.addr.IsValid() || n.port == 0 && !isService(n.host) || len(n.host) > maxName {
			t.Errorf("%q became %+v", s, n)
		}
		_ = new(builder).OverrideAuthority(tg)
	})
}

func TestChoices(t *testing.T) {
	for _, tt := range []struct {
		texts []string
		draw  float64
		want  string
	}{
		{nil, 0, ""},
		{[]string{"v=spf1 -all"}, 0, ""},
		{[]string{"v=spf1 -all", `grpc_config=[{"serviceConfig":{"a":1}}]`}, 0, `{"a":1}`},
		{[]string{`grpc_config=[]`}, 0, ""},
		{[]string{`grpc_config=[{"clientLanguage":["java"],"serviceConfig":{"a":1}},{"clientLanguage":["c++","GO"],"serviceConfig":{"a":2}}]`}, 0, `{"a":2}`},
		{[]string{`grpc_config=[{"clientHostname":["other"],"serviceConfig":{"a":1}},{"clientHostName":["Me"],"serviceConfig":{"a":2}}]`}, 0, `{"a":2}`},
		{[]string{`grpc_config=[{"percentage":10,"serviceConfig":{"a":1}},{"serviceConfig":{"a":2}}]`}, 0.0999, `{"a":1}`},
		{[]string{`grpc_config=[{"percentage":10,"serviceConfig":{"a":1}},{"serviceConfig":{"a":2}}]`}, 0.1, `{"a":2}`},
		{[]string{`grpc_config=[{"percentage":0,"serviceConfig":{"a":1}}]`}, 0, ""},
		{[]string{`grpc_config=[{"percentage":100,"newer":true,"serviceConfig":{"a":1}}]`}, 0.9999, `{"a":1}`},
		{[]string{`grpc_config=[{"clientLanguage":[],"serviceConfig":{"a":1}}]`}, 0, ""},

		{[]string{`grpc_config=[`}, 0, "no list of choices"},
		{[]string{`grpc_config={}`}, 0, "no list of choices"},
		{[]string{`grpc_config=`}, 0, "no list of choices"},
		{[]string{`grpc_config=[{"serviceConfig":null}]`}, 0, "choice 1 of the TXT record has no serviceConfig"},
		{[]string{`grpc_config=[{}]`}, 0, "choice 1 of the TXT record has no serviceConfig"},
		{[]string{`grpc_config=[{"percentage":101,"serviceConfig":{}}]`}, 0, "percentage 101, want 0 to 100"},
		{[]string{`grpc_config=[]`, `grpc_config=[]`}, 0, "2 TXT records begin with grpc_config=, want one"},
	} {
		got, err := choose(tt.texts, "me", tt.draw)
		if err != nil {
			got = err.Error()
		}
		if err == nil && got != tt.want || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %s, want %s", tt.texts, got, tt.want)
		}
	}
}

func FuzzChoices(f *testing.F) {
	f.Add(`grpc_config=[{"percentage":10,"clientLanguage":["go"],"serviceConfig":{"a":1}}]`, 0.5)
	f.Add(`grpc_config=[null]`, 0.5)
	f.Fuzz(func(t *testing.T, text string, draw float64) {
		got, err := choose([]string{text}, "me", draw)
		if err != nil && got != "" {
			t.Errorf("%q: %q and %v", text, got, err)
		}
	})
}
