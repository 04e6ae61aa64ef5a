package file_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/resolver/file"
)

// events keeps what reloads said, and which rules calls followed.
type events struct {
	mu      sync.Mutex
	reloads []steady.Reloaded
	rules   map[string]int
}

func (e *events) Observe(ev steady.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch ev := ev.(type) {
	case *steady.Reloaded:
		e.reloads = append(e.reloads, *ev)
	case *steady.CallEnded:
		if e.rules == nil {
			e.rules = make(map[string]int)
		}
		e.rules[ev.Rule]++
	}
}

// phase returns the rules of calls and the outcome of reloads since the last time.
func (e *events) phase() (rules map[string]int, reloads []steady.Reloaded) {
	e.mu.Lock()
	defer e.mu.Unlock()
	rules, reloads, e.rules, e.reloads = e.rules, e.reloads, nil, nil
	return rules, reloads
}

// TestAPushedDocument changes rules, balancer and endpoints of a channel under load, and no call fails; a bad one
// is refused, and said to be so.
func TestAPushedDocument(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "orders.yaml")
		write := func(endpoints, policy, rule string) {
			t.Helper()
			must(t, os.WriteFile(path, fmt.Appendf(nil, `
endpoints: [%s]
document:
  loadBalancingConfig: [{%s: {}}]
  methodConfig: [{name: [{}], rule: %s, timeout: 2s, retryPolicy: {maxAttempts: 2}}]
`, endpoints, policy, rule), 0o600))
		}
		write("a:1, b:1, c:1", "steady_least_request", "least")
		var ev events
		var errs []string
		out, err := steady.NewOutbound([]steady.Rule{{Name: "go", Methods: []string{""}}}, steady.FollowPushed(), steady.WithObserver(&ev))
		must(t, err)
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a:1", "b:1", "c:1"))
		conn, err := grpc.NewClient("file://"+path, out.DialOptions(append(fleet.DialOptions(),
			steady.Resolvers(file.Builder(file.OnError(func(err error) { errs = append(errs, err.Error()) }))))...)...)
		must(t, err)
		t.Cleanup(func() { conn.Close() })
		load := steadytest.Load{Rate: 20, For: 6 * time.Minute, Call: steadytest.Get(conn)}
		var result *steadytest.Result
		var wg sync.WaitGroup
		wg.Go(func() { result = load.Run(t.Context()) })
		phase := func(wantRule string, wantReplicas int, wantErr string) {
			t.Helper()
			time.Sleep(30 * time.Second)
			_, reloads := ev.phase()
			fleet.Forget()
			time.Sleep(30 * time.Second)
			rules, _ := ev.phase()
			used := 0
			for _, n := range fleet.Count() {
				used += min(n, 1)
			}
			if len(rules) != 1 || rules[wantRule] == 0 || used != wantReplicas {
				t.Errorf("rules %v on %d replicas, want %s on %d", rules, used, wantRule, wantReplicas)
			}
			got := ""
			for _, r := range reloads {
				if r.Err != nil {
					got = r.Err.Error()
				}
			}
			if (got != "") != (wantErr != "") || !strings.Contains(got, wantErr) {
				t.Errorf("reloaded with %q, want %q", got, wantErr)
			}
		}
		phase("least", 3, "")
		write("a:1, b:1", "steady_weighted", "weighted") // c leaves, and rules and balancer change with it
		phase("weighted", 2, "")
		write("a:1, b:1, c:1", "nobody_has_this", "nobody") // in order as a file, and of no use here
		phase("weighted", 3, "nobody_has_this")
		write("a:1, b:1, c:1", "pick_first: {}}]\n  nonsense: [{x", "x") // no good at all
		phase("weighted", 3, "")
		write("c:1", "round_robin", "round")
		phase("round", 1, "")
		wg.Wait()
		if a := result.Availability(); a != 1 {
			t.Errorf("%v", result)
		}
		// What the channel thinks of a document is an event of steady's; the resolver tells what it can not read.
		if len(errs) != 1 || !strings.Contains(errs[0], "orders.yaml:5:3: nonsense: unknown key") {
			t.Errorf("told %q, want orders.yaml:5:3: nonsense: unknown key", errs)
		}
	})
}
