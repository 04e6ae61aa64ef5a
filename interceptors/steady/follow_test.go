package steady_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

func TestADocumentReloadsRulesAndBalancer(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		out := fromDocument(t, everyDoc)
		conn := dialNamed(t, fleet, out)
		wantInForce(t, fleet, conn, "every", 3)
		if err := out.UpdateDocument(read(t, firstDoc)); err != nil {
			t.Fatal(err)
		}
		wantInForce(t, fleet, conn, "first", 1)
		if err := out.UpdateDocument(read(t, everyDoc)); err != nil {
			t.Fatal(err)
		}
		wantInForce(t, fleet, conn, "every", 3)
	})
}

func TestADocumentSurvivesIdleMode(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		out := fromDocument(t, firstDoc)
		conn := dialNamed(t, fleet, out, grpc.WithIdleTimeout(time.Minute))
		wantInForce(t, fleet, conn, "first", 1)
		time.Sleep(3 * time.Minute)
		if s := conn.GetState().String(); s != "IDLE" {
			t.Fatalf("the channel is %s, the test wants it idle", s)
		}
		wantInForce(t, fleet, conn, "first", 1)
		time.Sleep(3 * time.Minute)
		if err := out.UpdateDocument(read(t, everyDoc)); err != nil { // while there is no resolver
			t.Fatal(err)
		}
		wantInForce(t, fleet, conn, "every", 3)
	})
}

// TestAnEmptyDocumentIsWhole: what a document does not say is gRPC's default, and neither that of the one before
// nor the dial option's.
func TestAnEmptyDocumentIsWhole(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t) // its options have round_robin as default
		out := fromDocument(t, "{}")
		conn := dialNamed(t, fleet, out)
		wantInForce(t, fleet, conn, "none", 1)
		if err := out.UpdateDocument(read(t, everyDoc)); err != nil {
			t.Fatal(err)
		}
		wantInForce(t, fleet, conn, "every", 3)
		if err := out.UpdateDocument(read(t, "{}")); err != nil {
			t.Fatal(err)
		}
		wantInForce(t, fleet, conn, "none", 1)
	})
}

const pushedFirst = `{"loadBalancingConfig":[{"pick_first":{}}],"unheardOf":{"x":1},"methodConfig":[{"name":[{}],"rule":"pushed","timeout":"1s",` +
	`"retryPolicy":{"maxAttempts":3}}]}`

func TestPushedDocumentsAreFollowed(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		var ev events
		out := fromDocument(t, everyDoc, steady.FollowPushed(), steady.WithObserver(&ev))
		p := newPusher("a", "b", "c")
		conn := dialWith(t, fleet, out, p, steady.ChannelName("orders"))
		wantInForce(t, fleet, conn, "every", 3)

		p.push(0, pushedFirst)
		wantInForce(t, fleet, conn, "pushed", 1)
		want := steady.Reloaded{Channel: "orders", Source: "service config of steadytest:///fleet", Rules: 1}
		if got := ev.last(t); got != want {
			t.Errorf("event %+v, want %+v", got, want)
		}
		p.push(0, pushedFirst) // a resolver says so again and again
		if n := len(ev.reloads()); n != 2 {
			t.Errorf("%d reloads, want 2: that of the file and one of the pushed document", n)
		}
		snap := out.Snapshot().Channels[0]
		if snap.Source != want.Source || len(snap.Rules) != 1 || snap.Rules[0].Name != "pushed" {
			t.Errorf("snapshot of the channel: source %q, rules %+v", snap.Source, snap.Rules)
		}

		// The file goes on being what all others follow, and does not disturb this one.
		if err := out.UpdateDocument(read(t, firstDoc)); err != nil {
			t.Fatal(err)
		}
		wantInForce(t, fleet, conn, "pushed", 1)
		p.push(0, strings.Replace(pushedFirst, "pick_first", "round_robin", 1))
		wantInForce(t, fleet, conn, "pushed", 3)

		p.push(0, "")
		wantInForce(t, fleet, conn, "first", 1)
		want = steady.Reloaded{Channel: "orders", Source: "conf/orders.yaml", Rules: 1}
		if got := ev.last(t); got != want {
			t.Errorf("event %+v, want %+v", got, want)
		}
		if err := out.UpdateDocument(read(t, everyDoc)); err != nil {
			t.Fatal(err)
		}
		wantInForce(t, fleet, conn, "every", 3)
	})
}

// TestBadPushedDocuments: one that steady can not read reaches gRPC all the same; one that gRPC can not use
// either leaves both as they were.
func TestBadPushedDocuments(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		var ev events
		out := fromDocument(t, everyDoc, steady.FollowPushed(), steady.WithObserver(&ev))
		p := newPusher("a", "b", "c")
		p.first = `{"loadBalancingConfig":[{"steady_weighted_not_linked":{}}]}` // before there was any good one
		conn := dialWith(t, fleet, out, p)
		wantInForce(t, fleet, conn, "every", 3)
		if err := ev.last(t).Err; err == nil || !strings.Contains(err.Error(), "steady_weighted_not_linked wants an import") {
			t.Errorf("event %v", err)
		}

		p.push(0, `{"loadBalancingConfig":[{"pick_first":{}}],"methodConfig":[{"name":[{}],"breaker":{"failureRatio":7}}]}`)
		wantInForce(t, fleet, conn, "every", 1)
		if err := ev.last(t).Err; err == nil || !strings.Contains(err.Error(), "breaker.failureRatio: 7") {
			t.Errorf("event %v", err)
		}

		p.push(0, pushedFirst)
		wantInForce(t, fleet, conn, "pushed", 1)
		for _, bad := range []string{"{", "null", "7", `{"methodConfig":7}`, `{"loadBalancingConfig":[{"least_request_experimental":{}}]}`} {
			before := len(ev.reloads())
			p.push(0, bad)
			p.push(0, bad)
			wantInForce(t, fleet, conn, "pushed", 1)
			if bad == "null" { // which gRPC takes for an empty service config
				continue
			}
			if got := ev.reloads()[before:]; len(got) != 1 || got[0].Err == nil {
				t.Errorf("%s: events %+v, want one with an error", bad, got)
			}
		}
		if err := ev.last(t).Err.Error(); !strings.Contains(err, `import _ "google.golang.org/grpc/balancer/leastrequest"`) {
			t.Errorf("the error does not say what to import: %s", err)
		}
		p.push(0, "")
		wantInForce(t, fleet, conn, "every", 3)
	})
}

// TestAPushedDocumentSurvivesIdleMode also if the resolver pushes the very state that it made before.
func TestAPushedDocumentSurvivesIdleMode(t *testing.T) {
	for _, old := range []bool{false, true} {
		steadytest.Run(t, func(t *testing.T) {
			fleet := steadytest.NewFleet(t)
			var ev events
			out := fromDocument(t, everyDoc, steady.FollowPushed(), steady.WithObserver(&ev))
			p := newPusher("a", "b", "c")
			p.first = pushedFirst
			conn := dialWith(t, fleet, out, p, grpc.WithIdleTimeout(time.Minute))
			wantInForce(t, fleet, conn, "pushed", 1)
			if old {
				cc := p.cc(0)
				s := p.state(cc.ParseServiceConfig(pushedFirst))
				_ = cc.UpdateState(s)
				for range 5 { // so that it is not the newest any more
					cc.ParseServiceConfig(`{}`)
				}
				p.begin("", &s)
			}
			n := len(ev.reloads())
			time.Sleep(3 * time.Minute)
			wantInForce(t, fleet, conn, "pushed", 1)
			if got := ev.reloads()[n:]; len(got) != 0 {
				t.Errorf("idle mode is no reload: %+v", got)
			}
			p.begin("", nil)
			time.Sleep(3 * time.Minute) // withdrawn meanwhile
			wantInForce(t, fleet, conn, "every", 3)
		})
	}
}

// TestPrecedence: call option above pushed document above file.
func TestPrecedence(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		fleet.Behave(steadytest.Slow(time.Hour))
		out := fromDocument(t, everyDoc, steady.FollowPushed()) // 2 s
		p := newPusher("a")
		conn := dialWith(t, fleet, out, p)
		took := func(opts ...grpc.CallOption) time.Duration {
			start := time.Now()
			_, err := echov1.NewEchoClient(conn).Get(t.Context(), &req{}, opts...)
			if status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("error %v", err)
			}
			return time.Since(start)
		}
		if d := took(); d != 2*time.Second {
			t.Errorf("by the file a call took %v, want 2s", d)
		}
		p.push(0, `{"methodConfig":[{"name":[{}],"timeout":"1s"}]}`)
		if d := took(); d != time.Second {
			t.Errorf("by the pushed document a call took %v, want 1s", d)
		}
		if d := took(steady.Timeout(7 * time.Second)); d != 7*time.Second {
			t.Errorf("with a longer time of its own a call took %v, want 7s: gRPC must not cut it", d)
		}
	})
}

// TestPushedAndNotFollowed: without FollowPushed a pushed service config is gRPC's, whose timeout cuts each
// attempt; withdrawn, the document's policies are in force again.
func TestPushedAndNotFollowed(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		out := fromDocument(t, "loadBalancingConfig: [{round_robin: {}}]\nmethodConfig: [{name: [{}], rule: file, deadline: {}, retryPolicy: "+
			"{maxAttempts: 2, retryableStatusCodes: [DEADLINE_EXCEEDED], jitter: none, initialBackoff: 100ms}, idempotent: true}]")
		p := newPusher("a", "b", "c")
		p.first = `{"loadBalancingConfig":[{"pick_first":{}}],"methodConfig":[{"name":[{}],"rule":"pushed","timeout":"1s"}]}`
		conn := dialWith(t, fleet, out, p)
		wantInForce(t, fleet, conn, "file", 1)
		fleet.Behave(steadytest.Slow(time.Hour))
		start := time.Now()
		var report steady.Report
		if _, err := echov1.NewEchoClient(conn).Get(t.Context(), &req{}, steady.ReportTo(&report)); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("error %v", err)
		}
		if d := time.Since(start); report.Made() < 1 || report.Attempts[0].Duration != time.Second {
			t.Errorf("%v in %v: want gRPC to cut the attempt after 1s", report.String(), d)
		}
		fleet.Behave(steadytest.Slow(0))
		p.push(0, "")
		wantInForce(t, fleet, conn, "file", 3)
	})
}

// TestOptionsForTwoConnections: each has its own resolver, its own pushed document and its own handle.
func TestOptionsForTwoConnections(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		out := fromDocument(t, everyDoc, steady.FollowPushed())
		p := newPusher("a", "b", "c")
		opts := out.DialOptions(append([]grpc.DialOption{steady.Resolvers(p)}, fleet.DialOptions()...)...)
		one, two := connect(t, opts), connect(t, opts)
		one.Connect() // built first, and called last
		time.Sleep(time.Second)
		wantInForce(t, fleet, two, "every", 3)
		wantInForce(t, fleet, one, "every", 3)
		p.push(1, pushedFirst) // the second that was built
		wantInForce(t, fleet, one, "every", 3)
		wantInForce(t, fleet, two, "pushed", 1)
		p.push(0, pushedFirst)
		p.push(1, "")
		wantInForce(t, fleet, one, "pushed", 1)
		wantInForce(t, fleet, two, "every", 3)
		if err := out.SetMode(steady.ModeObserve); err != nil {
			t.Fatal(err)
		}
		for _, ch := range out.Snapshot().Channels {
			if len(ch.Rules) > 0 && ch.Rules[0].Mode != steady.ModeObserve {
				t.Errorf("the mode of the outbound does not reach the pushed rules: %+v", ch.Rules)
			}
		}
	})
}

// TestFollowPushedWithoutDocument: rules in Go are below a pushed document too.
func TestFollowPushedWithoutDocument(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		out := outbound(t, []steady.Rule{{Name: "go", Methods: []string{""}, Retry: &retry.Config{}}}, steady.FollowPushed())
		p := newPusher("a", "b", "c")
		conn := dialWith(t, fleet, out, p)
		wantInForce(t, fleet, conn, "go", 3) // by the fleet's default service config
		p.push(0, pushedFirst)
		wantInForce(t, fleet, conn, "pushed", 1)
		p.push(0, "") // gRPC keeps the policies it has, where nobody says others
		wantInForce(t, fleet, conn, "go", 1)
	})
}

func TestDisabledServiceConfigIsReported(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		var ev events
		out := fromDocument(t, firstDoc, steady.FollowPushed(), steady.WithObserver(&ev))
		p := newPusher("a", "b", "c")
		conn := dialWith(t, fleet, out, p, grpc.WithDisableServiceConfig(), grpc.WithIdleTimeout(time.Minute))
		wantInForce(t, fleet, conn, "first", 3) // the dial option's round_robin
		p.push(0, pushedFirst)
		wantInForce(t, fleet, conn, "first", 3)
		if err := out.UpdateDocument(read(t, everyDoc)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		wantInForce(t, fleet, conn, "every", 3)
		got := ev.ignores()
		if len(got) != 1 || got[0].Key != "loadBalancingConfig" || got[0].Source != "conf/orders.yaml" ||
			!strings.Contains(got[0].Reason, "WithDisableServiceConfig") {
			t.Errorf("events %+v, want one about WithDisableServiceConfig", got)
		}
	})
}

// TestForeignResolvers: who does not name his builder has the document's policies as they were when the channel
// was made, and is told when they change.
func TestForeignResolvers(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		var ev events
		out := fromDocument(t, everyDoc, steady.WithObserver(&ev))
		opts := fleet.DialOptions()
		conn := connect(t, out.DialOptions(append(opts[:3:3], opts[4:]...)...)) // without its default service config
		wantInForce(t, fleet, conn, "every", 3)
		if err := out.UpdateDocument(read(t, firstDoc)); err != nil {
			t.Fatal(err)
		}
		wantInForce(t, fleet, conn, "first", 3)
		got := ev.ignores()
		if len(got) != 1 || got[0].Key != "loadBalancingConfig" || !strings.Contains(got[0].Reason, "steady.Resolvers") {
			t.Errorf("events %+v, want one that names steady.Resolvers", got)
		}
	})
}

// TestHandle: what a policy keeps in its channel's handle outlives idle mode, belongs to one connection, and is
// shown by Snapshot; what it tells is an event.
func TestHandle(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		var ev events
		out := outbound(t, nil, steady.WithObserver(&ev))
		opts := out.DialOptions(append(append([]grpc.DialOption{steady.Resolvers(fleet.Resolver()), steady.ChannelName("orders")}, fleet.DialOptions()...),
			grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"`+probe+`":{}}]}`), grpc.WithIdleTimeout(time.Minute))...)
		one, two := connect(t, opts), connect(t, opts)
		wantInForce(t, fleet, one, "none", 1)
		wantInForce(t, fleet, two, "none", 1)
		time.Sleep(3 * time.Minute)
		wantInForce(t, fleet, one, "none", 1)
		var built []int
		for _, ch := range out.Snapshot().Channels {
			for _, e := range ch.Endpoints {
				built = append(built, e.Ejections)
			}
		}
		if len(built) != 2 || built[0]+built[1] != 3 {
			t.Errorf("policies of the two channels were built %v times, want twice and once", built)
		}
		ev.mu.Lock()
		defer ev.mu.Unlock()
		if len(ev.changed) != 3 || ev.changed[0].Channel != "orders" || ev.changed[0].Endpoint != "a" || !ev.changed[0].WouldHave {
			t.Errorf("events %+v", ev.changed)
		}
	})
}

// TestStandardResolversAreDecorated without being named.
func TestStandardResolversAreDecorated(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		out := fromDocument(t, "loadBalancingConfig: [{"+probe+": {}}]")
		conn, err := grpc.NewClient("passthrough:///b", out.DialOptions(fleet.DialOptions()...)...)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		wantInForce(t, fleet, conn, "none", 1)
		if e := out.Snapshot().Channels[0].Endpoints; len(e) != 1 {
			t.Errorf("endpoints %+v, want the probe's: the document's policy is in force", e)
		}
	})
}

// TestClosedConnectionsAreForgotten: options used over and over leave nothing behind.
func TestClosedConnectionsAreForgotten(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		out := fromDocument(t, everyDoc, steady.FollowPushed())
		p := newPusher("a")
		p.first = pushedFirst
		opts := out.DialOptions(append([]grpc.DialOption{steady.Resolvers(p)}, fleet.DialOptions()...)...)
		for range 100 {
			conn, err := grpc.NewClient(steadytest.Scheme+":///fleet", opts...)
			if err != nil {
				t.Fatal(err)
			}
			wantInForce(t, fleet, conn, "pushed", 1)
			conn.Close()
		}
		time.Sleep(time.Second)
		if n := p.open(); n != 0 {
			t.Errorf("%d resolvers are open", n)
		}
		if n := len(out.Snapshot().Channels); n != 0 {
			t.Errorf("%d channels are there", n)
		}
	})
}

var _ resolver.Builder = (*pusher)(nil)
