package main

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	ordersv1 "github.com/grpcsteady/steady/examples/quickstart/orders/v1"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

func TestMain(m *testing.M) { steadytest.Main(m) }

// short is the whole demonstration in three seconds, on real sockets.
func short() settings {
	return settings{rate: 200, each: 1500 * time.Millisecond, period: 500 * time.Millisecond, seed: 1}
}

// The promise, with room for a machine that has other things to do: everything here goes by the real clock.
func TestDemonstration(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run([]string{"-json"}, short(), &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d, want 0; stderr:\n%s", code, &stderr)
	}

	var c comparison
	decoder := json.NewDecoder(bytes.NewReader(stdout.Bytes()))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil || decoder.More() {
		t.Fatalf("stdout is not one object with plain and steady: %v\n%s", err, &stdout)
	}
	if c.Plain.Calls != 300 || c.Steady.Calls != 300 {
		t.Errorf("%d and %d calls, want 300 each", c.Plain.Calls, c.Steady.Calls)
	}
	if c.Plain.Availability > 0.95 {
		t.Errorf("plain answered %.3f, want less: the fleet is not sick", c.Plain.Availability)
	}
	if c.Steady.Availability < 0.97 || c.Steady.Availability <= c.Plain.Availability {
		t.Errorf("steady answered %.3f, want at least 0.97 and more than plain's %.3f", c.Steady.Availability, c.Plain.Availability)
	}
	if c.Steady.AttemptsPerCall <= 1 || c.Steady.AttemptsPerCall > maxAttempts || c.Steady.RetriedElsewhere == 0 {
		t.Errorf("steady made %.2f attempts per call, %d elsewhere, want retries", c.Steady.AttemptsPerCall, c.Steady.RetriedElsewhere)
	}
	// gRPC itself sends once more what provably no server has seen.
	if a := c.Plain.AttemptsPerCall; a < 1 || a > 1.1 || c.Plain.RetriedElsewhere != 0 || c.Plain.Refused != 0 {
		t.Errorf("plain made %.2f attempts per call, %d elsewhere, %d refused, want 1, 0, 0",
			a, c.Plain.RetriedElsewhere, c.Plain.Refused)
	}
	for name, r := range map[string]result{"plain": c.Plain, "steady": c.Steady} {
		if r.P50 <= 0 || r.P50 > r.P99 || r.P99 > r.P999 {
			t.Errorf("%s: p50 %v, p99 %v, p99.9 %v ms, want them in order", name, r.P50, r.P99, r.P999)
		}
	}
	for _, name := range []string{"plain gRPC", "steady"} {
		if !strings.Contains(stderr.String(), name+" ") {
			t.Errorf("no progress of %s on stderr:\n%s", name, &stderr)
		}
	}
}

func TestJSONKeys(t *testing.T) {
	text, err := json.Marshal(comparison{})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]map[string]float64
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"attempts_per_call", "availability", "calls", "p50_ms", "p999_ms", "p99_ms", "refused", "retried_elsewhere",
	}
	for _, run := range []string{"plain", "steady"} {
		if keys := slices.Sorted(maps.Keys(got[run])); !slices.Equal(keys, want) {
			t.Errorf("%s has the keys %v, want %v", run, keys, want)
		}
	}
}

// afterFirst calls do once something has been written that contains text.
type afterFirst struct {
	text string
	do   func()
	once sync.Once
}

func (a *afterFirst) Write(p []byte) (int, error) {
	if strings.Contains(string(p), a.text) {
		a.once.Do(a.do)
	}
	return len(p), nil
}

// The end of the context stops it at any time: before the start, amid the first run, amid the second.
func TestInterrupted(t *testing.T) {
	endless := settings{rate: 100, each: time.Hour, period: 200 * time.Millisecond, seed: 1}
	late := endless
	late.each = 1100 * time.Millisecond // long enough for a line of progress
	tests := []struct {
		name  string
		s     settings
		after string // cancel once this was written to stderr; "": before
	}{
		{"before", endless, ""},
		{"plain", endless, "plain gRPC"},
		{"steady", late, "steady"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if test.after == "" {
				cancel()
			}
			var stdout bytes.Buffer
			code := show(ctx, test.s, true, &stdout, &afterFirst{text: test.after, do: cancel})
			if code != exitInterrupted || stdout.Len() != 0 {
				t.Errorf("exit code %d and output %q, want %d and none", code, &stdout, exitInterrupted)
			}
		})
	}
}

func TestCtrlC(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot send itself an interrupt")
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	endless := settings{rate: 100, each: time.Hour, period: time.Second, seed: 1}
	var stdout bytes.Buffer
	code := run(nil, endless, &stdout, &afterFirst{text: "plain gRPC", do: func() {
		if err := self.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
	}})
	if code != exitInterrupted {
		t.Errorf("exit code %d, want %d", code, exitInterrupted)
	}
	if out := stdout.String(); strings.Contains(out, "availability") {
		t.Errorf("a table of half a run:\n%s", out)
	}
}

func TestUsage(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run([]string{"-what"}, short(), &stdout, &stderr); code != exitUsage || stdout.Len() != 0 {
		t.Errorf("exit code %d and output %q, want %d and none", code, &stdout, exitUsage)
	}
	if !strings.Contains(stderr.String(), "-json") {
		t.Errorf("stderr does not tell the flags:\n%s", &stderr)
	}
}

// The server alone, without a fault.
func TestServer(t *testing.T) {
	f, err := startFleet(t.Context(), 1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	defer f.stop()
	conn, err := connect(target(f.addrs[:2]), new(counts), reach()...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	client := ordersv1.NewOrdersClient(conn)
	reply, err := client.Get(t.Context(), &ordersv1.GetRequest{Id: "7"}, grpc.WaitForReady(true))
	if err != nil || reply.GetOrder().GetId() != "7" || reply.GetServer() > "b" {
		t.Errorf("got %v, %v, want order 7 from a or b", reply, err)
	}
	for i := range visits { // every kind of call, one after the other
		if err := visit(t.Context(), client, i); err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	_, err = client.Get(t.Context(), &ordersv1.GetRequest{})
	for name, err := range map[string]error{
		"Get": err, "Watch": watch(t.Context(), client, ""), "Chat": chat(t.Context(), client, ""),
	} {
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s without an id: %v, want INVALID_ARGUMENT", name, err)
		}
	}
}

// A healthy server and the one that fails: without rules streams break off, with them none does.
func TestStreamsAreRetried(t *testing.T) {
	f, err := startFleet(t.Context(), 1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	defer f.stop()
	for name, open := range map[string]connector{"plain": connectPlain, "steady": connectSteady} {
		links := &links{ready: make(chan struct{}, 2)}
		conn, err := open(target([]string{f.addrs[0], f.addrs[2]}), new(counts), append(reach(), grpc.WithStatsHandler(links))...)
		if err != nil {
			t.Fatal(err)
		}
		client := ordersv1.NewOrdersClient(conn)
		conn.Connect()
		for range 2 {
			<-links.ready
		}
		// And until the healthy one is among those picked. To wait for the sick one in the same way could take
		// long: calls that fail have it taken out.
		for healthy := false; !healthy; {
			reply, err := client.Get(t.Context(), &ordersv1.GetRequest{Id: "7"}, grpc.WaitForReady(true))
			healthy = err == nil && reply.GetServer() == "a"
		}
		for kind, call := range map[string]func(context.Context, ordersv1.OrdersClient, string) error{"watch": watch, "chat": chat} {
			failed := 0
			for range 30 {
				if err := call(t.Context(), client, "7"); err != nil {
					failed++
				}
			}
			if (failed > 0) != (name == "plain") {
				t.Errorf("%s: %d of 30 failed with %s", kind, failed, name)
			}
		}
		_ = conn.Close()
	}
}

// links tells of connections.
type links struct{ ready chan struct{} }

func (l *links) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, ok := s.(*stats.ConnBegin); ok {
		select {
		case l.ready <- struct{}{}:
		default: // one that was made anew
		}
	}
}
func (*links) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*links) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*links) HandleRPC(context.Context, stats.RPCStats)                         {}

// TestResolvers: where clients look the fleet up, a sixth server gets calls once it has joined.
func TestResolvers(t *testing.T) {
	for _, kind := range []string{"file", "dns"} {
		t.Run(kind, func(t *testing.T) {
			s := short()
			s.each = 3 * time.Second // the sixth has a second and more to be found
			var stdout, stderr bytes.Buffer
			if code := run([]string{"-json", "-resolver", kind}, s, &stdout, &stderr); code != 0 {
				t.Fatalf("exit code %d, want 0; stderr:\n%s", code, &stderr)
			}
			var c comparison
			if err := json.Unmarshal(stdout.Bytes(), &c); err != nil || c.Steady.Calls != 600 || c.Steady.Availability <= c.Plain.Availability {
				t.Errorf("%v, %+v, want 600 calls, and more answers than plain", err, c)
			}
			for _, name := range []string{"plain gRPC", "steady    "} {
				for _, what := range []string{"server f joins", "server f answers its first call", "server f leaves", "server f has answered"} {
					if !slices.ContainsFunc(strings.Split(stderr.String(), "\n"), func(l string) bool {
						return strings.HasPrefix(l, name) && strings.Contains(l, what)
					}) {
						t.Errorf("no line of %s says %q:\n%s", name, what, &stderr)
					}
				}
			}
		})
	}
	var stdout, stderr bytes.Buffer
	if code := run([]string{"-resolver", "x"}, short(), &stdout, &stderr); code != exitUsage || !strings.Contains(stderr.String(), `-resolver is "x", want one of static, file, dns`) {
		t.Errorf("exit code %d, %s", code, &stderr)
	}
}
