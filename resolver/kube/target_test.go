package kube_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/resolver/kube"
)

func TestParseTarget(t *testing.T) {
	for _, tt := range []struct {
		give string
		want string // what it means, or a part of the error
		ok   bool
	}{
		{"orders", "orders", true},
		{"orders:50051", "orders:50051", true},
		{"orders.shop", "orders.shop", true},
		{"orders.shop:grpc", "orders.shop:grpc", true},
		{"orders.shop:65535", "orders.shop:65535", true},
		{"orders.shop.svc:grpc-web", "orders.shop:grpc-web", true},
		{"orders.shop.svc.cluster.local:1", "orders.shop:1", true},
		{"orders.shop.svc.cluster.local.:1", "orders.shop:1", true},
		{"0rders.shop", "0rders.shop", true},
		{"", `service ""`, false},
		{".shop", `service ""`, false},
		{"orders.", `namespace ""`, false},
		{"Orders.shop", `service "Orders"`, false},
		{"orders.sh_op", `namespace "sh_op"`, false},
		{"orders.shop.pod", `"pod" behind the namespace`, false},
		{"orders.shop.svc.clu_ster", `domain "clu_ster"`, false},
		{"orders.shop.svc..local", `domain ""`, false},
		{"orders.shop:", `port ""`, false},
		{"orders.shop:0", `port "0"`, false},
		{"orders.shop:080", `port "080"`, false},
		{"orders.shop:65536", `port "65536"`, false},
		{"orders.shop:g:1", `port "g:1"`, false},
		{"orders.shop:GRPC", `port "GRPC"`, false},
		{"orders/shop", `service "orders/shop"`, false},
		{strings.Repeat("a", 64), "63", false},
	} {
		got, err := kube.ParseTarget(tt.give)
		text := got.String()
		if err != nil {
			text = err.Error()
		}
		if tt.ok != (err == nil) || tt.ok && text != tt.want || !strings.Contains(text, tt.want) {
			t.Errorf("%q: %s, want %s", tt.give, text, tt.want)
		}
		if err != nil && !strings.HasPrefix(text, "kube: ") || err != nil && got != (kube.Target{}) {
			t.Errorf("%q: %+v and %s", tt.give, got, text)
		}
	}
}

// TestTheRestOfAURL means nothing here, and is not passed over.
func TestTheRestOfAURL(t *testing.T) {
	b := kube.Builder()
	for give, want := range map[string]string{
		"kube://other/orders.shop:grpc": `authority "other"`,
		"kube:///orders.shop:grpc?w=3":  "no parameters",
		"kube:///orders.shop:grpc?":     "no parameters",
		"kube:///orders.shop:grpc#x":    "no parameters",
		"kube:///":                      `service ""`,
	} {
		if _, err := tryBuild(b, give, &channel{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", give, err, want)
		}
	}
}

func TestAuthority(t *testing.T) {
	o, ok := kube.Builder().(resolver.AuthorityOverrider)
	if !ok {
		t.Fatal("the builder overrides no authority")
	}
	for give, want := range map[string]string{
		"kube:///orders.shop:grpc":         "orders.shop",
		"kube:///orders.shop:50051":        "orders.shop:50051",
		"kube:///orders.shop.svc:grpc":     "orders.shop.svc",
		"kube:///orders":                   "orders",
		"kube:orders.shop.svc.a.b:grpc-gw": "orders.shop.svc.a.b",
	} {
		u, err := url.Parse(give)
		if err != nil {
			t.Fatal(err)
		}
		if got := o.OverrideAuthority(resolver.Target{URL: *u}); got != want {
			t.Errorf("%s: %q, want %q", give, got, want)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"", "orders.shop:grpc", "orders.shop.svc.cluster.local.:50051", "a:0", ":", ".", "a.b.svc.", "\x00", "ä.b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := kube.ParseTarget(s)
		if err != nil {
			return
		}
		again, err := kube.ParseTarget(got.String())
		if err != nil || again != got {
			t.Errorf("%q is %+v, read again: %+v, %v", s, got, again, err)
		}
		// What is a target for us is one for gRPC as well, and nothing of it is lost on the way.
		conn, err := grpc.NewClient("kube:///"+s, grpc.WithResolvers(kube.Builder()), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		conn.Close()
	})
}

func ExampleParseTarget() {
	t, err := kube.ParseTarget("orders.shop.svc.cluster.local:50051")
	fmt.Println(t, err)
	_, err = kube.ParseTarget("orders.shop:http:80")
	fmt.Println(err)
	// Output:
	// orders.shop:50051 <nil>
	// kube: port "http:80": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?'); want "kube:///service.namespace:port", with a port's number or name
}
