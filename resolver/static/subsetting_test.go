package static_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/randomsubsetting"

	_ "github.com/grpcsteady/steady/balancer/leastrequest"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/proto/document"
	"github.com/grpcsteady/steady/resolver/internal/resolvertest"
	"github.com/grpcsteady/steady/resolver/static"
)

const subset = `{"loadBalancingConfig":[{"random_subsetting_experimental":{"subsetSize":%d,"childPolicy":[{%q:{}}]}}]}`

// TestSubsetting: gRPC's own policy of subsets is a parent of steady's, which see the weights of what is in the
// subset and nothing of the rest, also behind a document.
func TestSubsetting(t *testing.T) {
	for _, policy := range []string{"steady_least_request", "steady_weighted"} {
		steadytest.Run(t, func(t *testing.T) {
			var names []string
			for i := range 20 {
				names = append(names, fmt.Sprintf("s%02d:1", i))
			}
			fleet := steadytest.NewFleet(t, steadytest.Replicas(names...))
			doc, err := document.Read("x.json", fmt.Appendf(nil, subset, 4, policy))
			if err != nil {
				t.Fatal(err)
			}
			out, err := steady.FromDocument(doc)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := grpc.NewClient("static:///"+strings.Join(names, "?weight=2,")+"?weight=2",
				out.DialOptions(append(fleet.DialOptions(), steady.Resolvers(static.Builder()))...)...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			got := strings.Fields(resolvertest.Spread(t, fleet, conn, 400))
			if len(got) != 4 {
				t.Errorf("%s: 400 calls went to %v, want 4 of 20", policy, got)
			}
			for _, g := range got {
				if policy == "steady_weighted" && !strings.HasSuffix(g, "=100") {
					t.Errorf("%s: 400 calls went to %v, want 100 each", policy, got)
				}
			}
			linked := 0
			for _, n := range names {
				linked += fleet.Network().Conns(n)
			}
			if linked != 4 {
				t.Errorf("%s: %d connections, want 4", policy, linked)
			}
			name, _, _ := strings.Cut(got[0], "=")
			fleet.Replica(name).Crash() // the subset is by what is listed, not by what is alive
			time.Sleep(time.Minute)
			if left := strings.Fields(resolvertest.Spread(t, fleet, conn, 400)); len(left) != 3 {
				t.Errorf("%s: with one of four down 400 calls went to %v, want the other 3", policy, left)
			}
		})
	}
}
