package prom_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	_ "github.com/grpcsteady/steady/balancer/weighted"
	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/fault"
	"github.com/grpcsteady/steady/interceptors/prom"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// exposed is what a scrape shows of one metric: its labels and their values.
type exposed struct {
	histogram bool
	labels    map[string]map[string]bool
}

// everything plays traffic that moves every metric there is, and returns what a scrape shows then.
func everything(t *testing.T) map[string]exposed {
	t.Helper()
	found := make(map[string]exposed)
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a", "b"))
		metrics := prom.New()
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(metrics)
		faults, err := fault.New(1, []fault.Rule{{Name: "delay", Share: 1, Delay: time.Millisecond}}, fault.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		faults.Enable()
		budget := steady.WithRetryBudget(retry.BudgetConfig{Ratio: 5, MaxRatio: 5})
		rule := steady.Rule{
			Name: "get", Methods: []string{echov1.Echo_Get_FullMethodName}, RetryOn: []codes.Code{codes.Unavailable},
			Retry:    &retry.Config{InitialBackoff: time.Millisecond, MaxAttempts: 2},
			Deadline: &deadline.Config{AttemptTimeout: 500 * time.Millisecond},
		}
		rule.Breaker = &breaker.Config{ConsecutiveFailures: 3, OpenJitter: -1}
		play := func(rules []steady.Rule, name string) {
			out, err := steady.NewOutbound(rules, steady.WithObserver(metrics), steady.WithFaults(faults), budget,
				steady.Fallback(echov1.Echo_Get_FullMethodName, func(_ context.Context, in *echov1.EchoRequest, cause error) (*echov1.EchoResponse, error) {
					if in.GetText() == "cached" {
						return &echov1.EchoResponse{}, nil
					}
					return nil, cause
				}))
			if err != nil {
				t.Fatal(err)
			}
			conn, err := grpc.NewClient(fleet.Target(), out.DialOptions(slices.Concat(
				[]grpc.DialOption{steady.Resolvers(fleet.Resolver()), steady.ChannelName(name)}, fleet.DialOptions(),
				[]grpc.DialOption{grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"steady_weighted":{"ejection":{"consecutiveFailures":2}}}]}`)},
			)...)...)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			client := echov1.NewEchoClient(conn)
			get := func(text string) {
				_, _ = client.Get(t.Context(), &echov1.EchoRequest{Text: text}, steady.Timeout(time.Minute))
			}
			fleet.Behave(steadytest.InTurn(steadytest.Failing(codes.Unavailable, 1), steadytest.Healthy()))
			get("recovers")
			fleet.Behave(steadytest.Failing(codes.Unavailable, 1))
			for range 4 { // opens
				get("fails")
			}
			get("cached")
			fleet.Behave(steadytest.Hanging(1))
			time.Sleep(5 * time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // where a rule only observes nothing else ends it
			defer cancel()
			_, _ = client.Get(ctx, &echov1.EchoRequest{})
			if err := out.Update([]steady.Rule{{}}); err == nil {
				t.Fatal("accepted")
			}
			note(t, registry, found) // while the channel is open
		}
		play([]steady.Rule{rule}, "orders")
		rule.Mode = steady.ModeObserve
		play([]steady.Rule{rule}, "stock")
	})
	return found
}

// note adds what a scrape shows.
func note(t *testing.T, registry prometheus.Gatherer, found map[string]exposed) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		e, ok := found[f.GetName()]
		if !ok {
			e = exposed{histogram: f.GetMetric()[0].GetHistogram() != nil, labels: make(map[string]map[string]bool)}
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if e.labels[l.GetName()] == nil {
					e.labels[l.GetName()] = make(map[string]bool)
				}
				e.labels[l.GetName()][l.GetValue()] = true
			}
		}
		found[f.GetName()] = e
	}
}

var (
	span     = regexp.MustCompile("`([^`]*)`")
	metric   = regexp.MustCompile(`(steady_\w+)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"`)
	grouping = regexp.MustCompile(`(?:by|on|without|ignoring)\s*\(([^)]*)\)`)
	listed   = regexp.MustCompile(`(?m)^//\t(steady_\w+)\{([^}]*)\}`)
)

// TestMetricsOfTheDocs holds every metric, label and value that docs/metrics.md names against a scrape.
func TestMetricsOfTheDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	found := everything(t)
	seen := 0
	for _, s := range span.FindAllStringSubmatch(string(text), -1) {
		var labels []string
		names := metric.FindAllStringSubmatch(s[1], -1)
		for _, m := range names {
			seen++
			name := m[1]
			e, ok := found[name]
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if base := strings.TrimSuffix(name, suffix); !ok && base != name && found[base].histogram {
					e, ok = found[base], true
					labels = append(labels, "le")
				}
			}
			switch {
			case !ok:
				t.Errorf("%s: no such metric", m[1])
				continue
			case found[name].histogram:
				t.Errorf("%s is a histogram: by this name alone Prometheus finds nothing", name)
			}
			for l := range e.labels {
				labels = append(labels, l)
			}
			for _, c := range matcher.FindAllStringSubmatch(m[2], -1) {
				if !e.labels[c[1]][c[2]] {
					t.Errorf("%s: no series with %s=%q, there are %v", s[1], c[1], c[2], e.labels[c[1]])
				}
			}
		}
		for _, g := range grouping.FindAllStringSubmatch(s[1], -1) {
			for l := range strings.SplitSeq(g[1], ",") {
				if l = strings.TrimSpace(l); !slices.Contains(labels, l) {
					t.Errorf("%s: none of its metrics has the label %q", s[1], l)
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("%d metrics found in the docs: have they moved?", seen)
	}
}

// TestPackageDocListsTheMetrics, all of them, with all their labels.
func TestPackageDocListsTheMetrics(t *testing.T) {
	text, err := os.ReadFile("prom.go")
	if err != nil {
		t.Fatal(err)
	}
	var doc, scrape []string
	for _, m := range listed.FindAllStringSubmatch(string(text), -1) {
		labels := strings.Split(m[2], ",")
		slices.Sort(labels)
		doc = append(doc, fmt.Sprint(m[1], labels))
	}
	for name, e := range everything(t) {
		var labels []string
		for l := range e.labels {
			labels = append(labels, l)
		}
		slices.Sort(labels)
		scrape = append(scrape, fmt.Sprint(name, labels))
	}
	slices.Sort(doc)
	slices.Sort(scrape)
	if !slices.Equal(doc, scrape) {
		t.Errorf("the package documentation lists\n%s\na scrape shows\n%s", strings.Join(doc, "\n"), strings.Join(scrape, "\n"))
	}
}
