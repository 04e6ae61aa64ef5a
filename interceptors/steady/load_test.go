package steady_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/proto/document"
)

// write makes a file as an editor does that is careful: beside it, and renamed over it.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"methodConfig:\n- name: [{}]\n  retryPolicy: {maxAttempts: 9}\n", "orders.yaml:3:30: methodConfig[0].retryPolicy.maxAttempts: 9, want 1 to 5"},
		{"loadBalancingConfig: [{steady_least_request: {}}]", `orders.yaml:1:22: loadBalancingConfig: no policy of it is in this program: ` +
			`steady_least_request wants import _ "github.com/grpcsteady/steady/balancer/leastrequest"`},
		{"loadBalancingConfig: [{steady_weighted: {}}]", `import _ "github.com/grpcsteady/steady/balancer/weighted"`},
		{"loadBalancingConfig: [{steady_consistent_hash: {}}]", `import _ "github.com/grpcsteady/steady/balancer/consistenthash"`},
		{"loadBalancingConfig: [{least_request_experimental: {}}]", `import _ "google.golang.org/grpc/balancer/leastrequest"`},
		{"loadBalancingConfig: [{weighted_round_robin: {}}, {ours: {}}]", `import _ "google.golang.org/grpc/balancer/weightedroundrobin"; ` +
			"ours wants an import of the package that registers it"},
		{"loadBalancingConfig:\n- unheard_of: {}\n- " + probe + ": {bad: 1}", "orders.yaml:3:3: loadBalancingConfig[1]: " + probe + ": json: unsupported value"},
		{"loadBalancingConfig: [{round_robin: {weight: 1}}]", "loadBalancingConfig[0]: round_robin: the policy takes no configuration, want {}"},
		{"hello: world", "unknown key"},
		{"", "empty"},
	} {
		path := filepath.Join(t.TempDir(), "orders.yaml")
		write(t, path, tt.text)
		out, err := steady.Load(path)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s\ngot  %v\nwant %s", tt.text, err, tt.want)
		}
		if out != nil {
			t.Errorf("%s: an outbound beside an error", tt.text)
		}
		if found, ok := errors.AsType[*document.Error](err); !ok || found.File != path {
			t.Errorf("%s: the error is no finding about the file: %v", tt.text, err)
		}
	}
	if _, err := steady.Load(filepath.Join(t.TempDir(), "nowhere.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := steady.FromDocument(nil); err == nil {
		t.Error("nil is a document")
	}
	if _, err := steady.FromDocument(read(t, everyDoc), steady.WithMode(77)); err == nil {
		t.Error("a mode that is none is taken")
	}
	if _, err := steady.NewInbound(nil, steady.FollowPushed()); err == nil {
		t.Error("an inbound has no resolver whose documents it could follow")
	}
}

func TestDocumentsAndRulesInGo(t *testing.T) {
	var ev events
	out := fromDocument(t, everyDoc, steady.WithObserver(&ev))
	if err := out.Update(nil); err == nil || !strings.Contains(err.Error(), "conf/orders.yaml") {
		t.Errorf("rules in Go above a document: %v", err)
	}
	if got := ev.last(t); got.Err == nil || got.Rules != 1 {
		t.Errorf("event %+v, want the refusal", got)
	}
	if err := out.Watch(t.Context()); err == nil {
		t.Error("Watch of what is no file goes on")
	}
	if err := out.UpdateDocument(nil); err == nil {
		t.Error("nil is a document")
	}
	if err := out.UpdateDocument(read(t, "loadBalancingConfig: [{unheard_of: {}}]")); err == nil {
		t.Error("a policy that nobody knows is taken")
	}
	if got := ev.last(t); got.Err == nil || got.Source != "conf/orders.yaml" || out.Rules()[0].Name != "every" {
		t.Errorf("event %+v, rules %+v", got, out.Rules())
	}
	out = outbound(t, []steady.Rule{{Methods: []string{""}, Retry: &retry.Config{}}})
	if err := out.UpdateDocument(read(t, everyDoc)); err != nil {
		t.Fatal(err)
	}
	if got := out.Rules(); len(got) != 1 || got[0].Name != "every" {
		t.Errorf("rules %+v, want the document's", got)
	}
}

// TestModesOfDocumentAndOutbound: the weaker counts, whichever came later.
func TestModesOfDocumentAndOutbound(t *testing.T) {
	out := fromDocument(t, "mode: observe")
	if err := out.SetMode(steady.ModeEnforce); err != nil || out.Snapshot().Mode != steady.ModeObserve {
		t.Errorf("mode %v (%v), want the document's", out.Snapshot().Mode, err)
	}
	if err := out.SetMode(steady.ModeOff); err != nil || out.Snapshot().Mode != steady.ModeOff {
		t.Errorf("mode %v (%v), want the outbound's", out.Snapshot().Mode, err)
	}
	if err := out.UpdateDocument(read(t, "mode: enforce")); err != nil || out.Snapshot().Mode != steady.ModeOff {
		t.Errorf("mode %v (%v), want the outbound's to stay", out.Snapshot().Mode, err)
	}
	if err := out.SetMode(steady.ModeEnforce); err != nil || out.Snapshot().Mode != steady.ModeEnforce {
		t.Errorf("mode %v (%v), want enforce", out.Snapshot().Mode, err)
	}
}

// TestBudgetOfADocument is that of every channel, and a reload changes it while what was counted stays.
func TestBudgetOfADocument(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		rules := "\nmethodConfig: [{name: [{}], idempotent: true, retryPolicy: {}}]\n"
		out := fromDocument(t, "retryBudget: {ratio: 0.5, minPerSecond: -1}"+rules,
			steady.WithRetryBudget(retry.BudgetConfig{Ratio: 0.1, MinPerSecond: -1}))
		conn := dialNamed(t, fleet, out)
		for range 10 {
			if _, err := echov1.NewEchoClient(conn).Get(within(t, time.Second), &req{}); err != nil {
				t.Fatal(err)
			}
		}
		if b := out.Snapshot().Channels[0].Budget; b.Calls != 10 || b.Capacity != 5 {
			t.Errorf("budget %+v, want 5 retries for 10 calls: the document's ratio", b)
		}
		if err := out.UpdateDocument(read(t, "retryThrottling: {maxTokens: 10, tokenRatio: 7}"+rules)); err != nil {
			t.Fatal(err)
		}
		if b := out.Snapshot().Channels[0].Budget; b.Calls != 10 || b.Capacity != 10 {
			t.Errorf("budget %+v, want a ratio of at most 1 from gRPC's throttling", b)
		}
		if err := out.UpdateDocument(read(t, "{}")); err != nil {
			t.Fatal(err)
		}
		if b := out.Snapshot().Channels[0].Budget; b.Calls != 10 || b.Capacity != 1 {
			t.Errorf("budget %+v, want that of WithRetryBudget, of which the document says nothing", b)
		}
	})
}

// TestAReportSaysWhereTheRuleStands.
func TestAReportSaysWhereTheRuleStands(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		fleet.Behave(steadytest.Failing(codes.Unavailable, 1))
		out := fromDocument(t, "x-d: &d\n  idempotent: true\n  retryPolicy: {maxAttempts: 2}\n\nmethodConfig:\n- name: [{service: other.S}]\n"+
			"- <<: *d\n  name: [{}]\n", steady.FollowPushed())
		p := newPusher("a")
		conn := dialWith(t, fleet, out, p)
		_, err := echov1.NewEchoClient(conn).Get(within(t, 10*time.Second), &req{})
		if story := steady.Explain(err); !strings.HasSuffix(story, "; rule orders.yaml:7") {
			t.Errorf("story %q, want it to end with the rule's place", story)
		}
		p.push(0, `{"methodConfig":[{"name":[{}],"retryPolicy":{},"idempotent":true}]}`)
		_, err = echov1.NewEchoClient(conn).Get(within(t, 10*time.Second), &req{})
		if story := steady.Explain(err); !strings.HasSuffix(story, "; rule default of the service config of steadytest:///fleet") {
			t.Errorf("story %q, want it to end with what was pushed", story)
		}
	})
}

// TestWatchFollowsTheFile, tells of bad documents with file and line, and ends with its context.
func TestWatchFollowsTheFile(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "orders.yaml")
		write(t, path, everyDoc)
		var ev events
		out, err := steady.Load(path, steady.WithObserver(&ev))
		if err != nil {
			t.Fatal(err)
		}
		fleet := steadytest.NewFleet(t)
		conn := dialNamed(t, fleet, out)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- out.Watch(ctx) }()
		time.Sleep(10 * time.Second)
		if n := len(ev.reloads()); n != 1 {
			t.Errorf("%d reloads of a file that did not change, want that of Load", n)
		}
		for _, tt := range []struct {
			text, rule, fails string
			replicas          int
		}{
			{firstDoc, "first", "", 1},
			{"mode: loud", "first", path + ":1:7: mode: \"loud\", want one of enforce, observe, off", 1},
			{"loadBalancingConfig: [{unheard_of: {}}]", "first", path + ":1:22: loadBalancingConfig: no policy", 1},
			{everyDoc, "every", "", 3},
		} {
			before := len(ev.reloads())
			write(t, path, tt.text)
			time.Sleep(10 * time.Second)
			wantInForce(t, fleet, conn, tt.rule, tt.replicas)
			got := ev.reloads()[before:]
			if len(got) != 1 || got[0].Source != path || (got[0].Err == nil) != (tt.fails == "") {
				t.Errorf("events %+v", got)
			} else if tt.fails != "" && !strings.HasPrefix(got[0].Err.Error(), tt.fails) {
				t.Errorf("error %v, want %s", got[0].Err, tt.fails)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if got := ev.last(t); !errors.Is(got.Err, os.ErrNotExist) {
			t.Errorf("event %+v, want that the file is gone", got)
		}
		wantInForce(t, fleet, conn, "every", 3)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Watch returned %v at the end of its context", err)
		}
		if err := out.Watch(t.Context(), document.Every(time.Nanosecond)); err == nil {
			t.Error("an option out of range is taken")
		}
	})
}

// TestOneDocumentForBoth: rendered for plain gRPC it works there; rendered for a channel with steady gRPC adds
// no retry and no timeout of its own.
func TestOneDocumentForBoth(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		d := read(t, "loadBalancingConfig: [{round_robin: {}}]\nretryThrottling: {maxTokens: 100, tokenRatio: 1}\nretryBudget: {}\nchannel: {connectTimeout: 2s}\n"+
			"methodConfig: [{name: [{}], timeout: 2s, breaker: {}, retryPolicy: {retryableStatusCodes: [UNAVAILABLE], jitter: equal}}]")
		attempts := func(config string) (n int, hangs time.Duration) {
			conn := fleet.Dial(grpc.WithDefaultServiceConfig(config))
			fleet.Behave(steadytest.Failing(codes.Unavailable, 1))
			fleet.Forget()
			_, _ = echov1.NewEchoClient(conn).Get(within(t, time.Minute), &req{})
			n = len(fleet.Calls())
			fleet.Behave(steadytest.Hanging(1))
			start := time.Now()
			_, _ = echov1.NewEchoClient(conn).Get(within(t, time.Minute), &req{})
			return n, time.Since(start)
		}
		if n, hangs := attempts(d.ForGRPC()); n != 3 || hangs != 2*time.Second {
			t.Errorf("plain gRPC made %d attempts and waited %v, want 3 and 2s", n, hangs)
		}
		if n, hangs := attempts(d.ForSteady()); n != 1 || hangs != time.Minute {
			t.Errorf("gRPC under steady made %d attempts and waited %v, want 1 and the caller's minute", n, hangs)
		}
	})
}

// sick is a health service that has nothing good to say of one replica. It is made by hand, so that nothing in
// this test imports gRPC's health package, whose client half a channel needs.
type sick struct {
	healthpb.UnimplementedHealthServer
	well bool
}

func (s sick) Watch(r *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if s.well || r.GetService() != "orders.v1.Orders" {
		status = healthpb.HealthCheckResponse_SERVING
	}
	if err := stream.Send(&healthpb.HealthCheckResponse{Status: status}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

// TestHealthChecksOfADocumentWork without a further import, where gRPC would only log that one is missing.
func TestHealthChecksOfADocumentWork(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Services(func(r *steadytest.Replica, s grpc.ServiceRegistrar) {
			healthpb.RegisterHealthServer(s, sick{well: r.Name() != "b"})
		}))
		out := fromDocument(t, "loadBalancingConfig: [{round_robin: {}}]\nhealthCheckConfig: {serviceName: orders.v1.Orders}")
		conn := dialNamed(t, fleet, out)
		conn.Connect()
		time.Sleep(time.Second)
		for range 6 {
			if _, err := echov1.NewEchoClient(conn).Get(within(t, time.Second), &req{}); err != nil {
				t.Fatal(err)
			}
		}
		if b := fleet.Replica("b").Count(); b != 0 {
			t.Errorf("%d calls went to a replica that says it does not serve", b)
		}
	})
}

func manyRules(n int) string {
	var b strings.Builder
	b.WriteString("x-d: &d {deadline: {default: 250ms}, retryPolicy: {maxAttempts: 3}, breaker: {}}\nmethodConfig:\n")
	for i := range n {
		fmt.Fprintf(&b, "- {<<: *d, name: [{service: orders.v1.Orders, method: Get%d}]}\n", i)
	}
	return b.String()
}

// TestTenThousandRules: what Load adds to reading is a fraction of it. Work is counted in allocations, which do
// not depend on the machine.
func TestTenThousandRules(t *testing.T) {
	d := read(t, manyRules(10_000))
	if n := testing.AllocsPerRun(1, func() {
		out, err := steady.FromDocument(d)
		if err != nil || len(out.Rules()) != 10_000 {
			t.Fatalf("%v", err)
		}
	}); n > 60*10_000 {
		t.Errorf("%.0f allocations for 10,000 rules, want at most 60 each", n)
	}
}

func BenchmarkFromDocument10000(b *testing.B) {
	d, err := document.Read("x.yaml", []byte(manyRules(10_000)))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := steady.FromDocument(d); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoad10000(b *testing.B) {
	path := filepath.Join(b.TempDir(), "orders.yaml")
	if err := os.WriteFile(path, []byte(manyRules(10_000)), 0o600); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := steady.Load(path); err != nil {
			b.Fatal(err)
		}
	}
}
