package steady_test

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/proto/document"
	"github.com/grpcsteady/steady/resolver/endpoint"
)

// Two documents whose rules and policies tell which one is in force.
const (
	everyDoc = "loadBalancingConfig: [{round_robin: {}}]\nmethodConfig:\n- name: [{}]\n  rule: every\n  deadline: {default: 2s}\n"
	firstDoc = "# another\n\nloadBalancingConfig: [{pick_first: {}}]\nmethodConfig:\n- name: [{}]\n  rule: first\n  deadline: {default: 3s}\n"
)

func read(t *testing.T, text string) *document.Document {
	t.Helper()
	d, err := document.Read("conf/orders.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func fromDocument(t *testing.T, text string, opts ...steady.Option) *steady.Outbound {
	t.Helper()
	out, err := steady.FromDocument(read(t, text), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// dialNamed dials a fleet whose resolver is named, so that it is decorated.
func dialNamed(t *testing.T, f *steadytest.Fleet, out *steady.Outbound, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	return dialWith(t, f, out, f.Resolver(), opts...)
}

func dialWith(t *testing.T, f *steadytest.Fleet, out *steady.Outbound, b resolver.Builder, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	return connect(t, out.DialOptions(slices.Concat([]grpc.DialOption{steady.Resolvers(b)}, f.DialOptions(), opts)...))
}

func connect(t *testing.T, opts []grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(steadytest.Scheme+":///fleet", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// inForce makes calls and returns what they went by: the rule they followed, and how many replicas saw one.
// It lets the channel connect before, as a policy that was exchanged does anew.
func inForce(t *testing.T, f *steadytest.Fleet, conn *grpc.ClientConn) (rule string, replicas int) {
	t.Helper()
	conn.Connect()
	time.Sleep(time.Second)
	f.Forget()
	var report steady.Report
	for range 6 {
		if _, err := echov1.NewEchoClient(conn).Get(within(t, 10*time.Second), &req{}, steady.ReportTo(&report)); err != nil {
			t.Fatal(err)
		}
		if rule != "" && rule != report.Rule {
			t.Errorf("one call by rule %s, one by %s", rule, report.Rule)
		}
		rule = report.Rule
	}
	for _, n := range f.Count() {
		replicas += min(n, 1)
	}
	return rule, replicas
}

func wantInForce(t *testing.T, f *steadytest.Fleet, conn *grpc.ClientConn, rule string, replicas int) {
	t.Helper()
	if r, n := inForce(t, f, conn); r != rule || n != replicas {
		t.Errorf("rule %s and %d replicas, want %s and %d", r, n, rule, replicas)
	}
}

// pusher is a resolver that pushes what a test says to each connection, as a resolver does that reads service
// configs from somewhere.
type pusher struct {
	mu    sync.Mutex
	names []string
	ccs   []resolver.ClientConn // open ones, in the order in which they were built
	first string                // what each is given at once; "": nothing
	keep  *resolver.State       // instead of first: the very state, parsed long ago
}

func newPusher(names ...string) *pusher { return &pusher{names: names} }

func (p *pusher) Scheme() string { return steadytest.Scheme }

func (p *pusher) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	p.mu.Lock()
	p.ccs = append(p.ccs, cc)
	first, keep := p.first, p.keep
	p.mu.Unlock()
	if keep != nil {
		_ = cc.UpdateState(*keep)
	} else {
		p.give(cc, first)
	}
	return pushing{p, cc}, nil
}

func (p *pusher) state(sc *serviceconfig.ParseResult) resolver.State {
	s := resolver.State{ServiceConfig: sc}
	for _, n := range p.names {
		s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: n}}})
	}
	return s
}

func (p *pusher) give(cc resolver.ClientConn, config string) {
	var sc *serviceconfig.ParseResult
	if config != "" {
		sc = cc.ParseServiceConfig(config)
	}
	_ = cc.UpdateState(p.state(sc))
}

// push gives connection i a service config; "": a state without one.
func (p *pusher) push(i int, config string) { p.give(p.cc(i), config) }

func (p *pusher) cc(i int) resolver.ClientConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ccs[i]
}

func (p *pusher) open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ccs)
}

// begin says what resolvers give that are built from now on.
func (p *pusher) begin(first string, keep *resolver.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.first, p.keep = first, keep
}

type pushing struct {
	p  *pusher
	cc resolver.ClientConn
}

func (pushing) ResolveNow(resolver.ResolveNowOptions) {}

func (r pushing) Close() {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	r.p.ccs = slices.DeleteFunc(r.p.ccs, func(cc resolver.ClientConn) bool { return cc == r.cc })
}

// events keeps those that an observer may not: copies.
type events struct {
	mu       sync.Mutex
	reloaded []steady.Reloaded
	ignored  []steady.Ignored
	changed  []steady.EndpointChanged
}

func (e *events) Observe(ev steady.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch ev := ev.(type) {
	case *steady.Reloaded:
		e.reloaded = append(e.reloaded, *ev)
	case *steady.Ignored:
		e.ignored = append(e.ignored, *ev)
	case *steady.EndpointChanged:
		e.changed = append(e.changed, *ev)
	}
}

func (e *events) reloads() []steady.Reloaded {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.reloaded)
}

func (e *events) ignores() []steady.Ignored {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.ignored)
}

// last returns the newest reload.
func (e *events) last(t *testing.T) steady.Reloaded {
	t.Helper()
	all := e.reloads()
	if len(all) == 0 {
		t.Fatal("nothing was reloaded")
	}
	return all[len(all)-1]
}

// probe is pick_first with a place in the channel's handle, as policies of ours keep one.
const probe = "steadytest_probe"

func init() { balancer.Register(probeBuilder{balancer.Get("pick_first")}) }

type probeBuilder struct{ balancer.Builder }

func (probeBuilder) Name() string { return probe }

type probeConfig struct {
	serviceconfig.LoadBalancingConfig
}

func (probeBuilder) ParseConfig(raw json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	if strings.Contains(string(raw), "bad") {
		return nil, errBad
	}
	return probeConfig{}, nil
}

var errBad = &json.UnsupportedValueError{Str: "bad is no good"}

func (b probeBuilder) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	return &probing{b.Builder.Build(cc, o)}
}

type probing struct{ balancer.Balancer }

// places counts how often a policy was built for the channel whose handle it found.
type places struct {
	mu    sync.Mutex
	built int
}

func (p *places) Endpoints() []endpoint.Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return []endpoint.Snapshot{{Endpoint: "a", Ejections: p.built}}
}

func (p *probing) UpdateClientConnState(s balancer.ClientConnState) error {
	h, _ := s.ResolverState.Attributes.Value(endpoint.HandleKey{}).(*endpoint.Handle)
	place := h.Keep(probe, func() any { return new(places) }).(*places)
	place.mu.Lock()
	place.built++
	place.mu.Unlock()
	h.Notify(endpoint.Change{Endpoint: "a", Out: true, Observed: true})
	s.BalancerConfig = nil // pick_first takes its own only
	return p.Balancer.UpdateClientConnState(s)
}
