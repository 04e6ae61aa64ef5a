package follow_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/grpcsteady/steady/proto/document"
	"github.com/grpcsteady/steady/resolver/endpoint"
	"github.com/grpcsteady/steady/resolver/follow"
)

// grpcSide stands in for gRPC: it keeps what it is told, and parses a service config by keeping its text.
type grpcSide struct {
	resolver.ClientConn
	mu     sync.Mutex
	states []resolver.State
	err    error
	during func() // runs within UpdateState
	texts  map[*serviceconfig.ParseResult]string
}

func (g *grpcSide) UpdateState(s resolver.State) error {
	g.mu.Lock()
	g.states = append(g.states, s)
	during, err := g.during, g.err
	g.mu.Unlock()
	if during != nil {
		during()
	}
	return err
}

func (g *grpcSide) ParseServiceConfig(text string) *serviceconfig.ParseResult {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := new(serviceconfig.ParseResult)
	if strings.Contains(text, "unusable") {
		r.Err = errors.New("gRPC can not use it")
	}
	if g.texts == nil {
		g.texts = make(map[*serviceconfig.ParseResult]string)
	}
	g.texts[r] = text
	return r
}

// configs returns the service configs of the states so far; "-": a state without one.
func (g *grpcSide) configs() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []string
	for _, s := range g.states {
		text := "-"
		if s.ServiceConfig != nil {
			text = g.texts[s.ServiceConfig]
		}
		out = append(out, text)
	}
	return out
}

func (g *grpcSide) want(t *testing.T, want ...string) {
	t.Helper()
	if got := g.configs(); !slices.Equal(got, want) {
		t.Errorf("gRPC was given\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// inner is a resolver whose states a test makes.
type inner struct {
	scheme string
	cc     resolver.ClientConn
	err    error
	closed bool
}

func (r *inner) Scheme() string { return r.scheme }

func (r *inner) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	r.cc = cc
	return r, r.err
}
func (r *inner) ResolveNow(resolver.ResolveNowOptions) {}
func (r *inner) Close()                                { r.closed = true }

func (r *inner) say(config string) error {
	s := resolver.State{Addresses: []resolver.Address{{Addr: "a"}, {Addr: "b"}}}
	if config != "" {
		s.ServiceConfig = r.cc.ParseServiceConfig(config)
	}
	return r.cc.UpdateState(s)
}

func build(t *testing.T, hub *follow.Hub, r *inner, ch *follow.Channel, g *grpcSide, opts resolver.BuildOptions) resolver.Resolver {
	t.Helper()
	b := hub.Decorate(func(follow.Connection) *follow.Channel { return ch }, r)[0]
	got, err := b.Build(resolver.Target{URL: url.URL{Scheme: r.scheme, Path: "/x"}}, g, opts)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestTheHubsServiceConfig(t *testing.T) {
	hub, r, g := new(follow.Hub), &inner{scheme: "test"}, new(grpcSide)
	res := build(t, hub, r, new(follow.Channel), g, resolver.BuildOptions{})
	hub.Set(`{"n":1}`)
	hub.Push() // no state yet: nothing to push
	g.want(t)
	_ = r.say("")
	g.want(t, `{"n":1}`)
	hub.Push() // nothing changed
	hub.Set(`{"n":1}`)
	hub.Push()
	g.want(t, `{"n":1}`)
	hub.Set(`{"n":2}`)
	hub.Push()
	_ = r.say("") // a resolver's own state always passes
	g.want(t, `{"n":1}`, `{"n":2}`, `{"n":2}`)
	_ = r.say(`{"own":1}`)
	hub.Set(`{"n":3}`)
	hub.Push() // the resolver's own is in force
	g.want(t, `{"n":1}`, `{"n":2}`, `{"n":2}`, `{"own":1}`)
	r.cc.NewAddress([]resolver.Address{{Addr: "c"}}) //nolint:staticcheck // the old form of a state
	if s := g.states[4]; len(s.Addresses) != 1 || s.ServiceConfig != g.states[3].ServiceConfig {
		t.Errorf("the old form became %+v", s)
	}
	_ = r.say("")
	res.Close()
	hub.Set(`{"n":4}`)
	hub.Push()
	if n := len(g.configs()); n != 6 || !r.closed {
		t.Errorf("%d states, closed %v: want nothing after Close", n, r.closed)
	}
}

func TestTheStateIsTheResolversOwn(t *testing.T) {
	type key struct{}
	hub, r, g := new(follow.Hub), &inner{scheme: "test"}, new(grpcSide)
	h := endpoint.NewHandle("x", nil)
	build(t, hub, r, &follow.Channel{Handle: h}, g, resolver.BuildOptions{})
	s := resolver.State{Addresses: []resolver.Address{{Addr: "a"}, {Addr: "b"}}}
	s.Attributes = s.Attributes.WithValue(key{}, "theirs")
	_ = r.cc.UpdateState(s)
	got := g.states[0]
	if got.Attributes.Value(endpoint.HandleKey{}) != h || got.Attributes.Value(key{}) != "theirs" {
		t.Error("the attributes are not the resolver's and the handle")
	}
	got.Addresses[0], got.Addresses[1] = got.Addresses[1], got.Addresses[0] // as a policy may
	hub.Set("{}")
	hub.Push()
	if a := g.states[1].Addresses; a[0].Addr != "a" || s.Attributes.Value(endpoint.HandleKey{}) != nil {
		t.Errorf("what a policy did to one state is in the next: %v", a)
	}
	g.err = errors.New("bad state")
	if err := r.cc.UpdateState(s); !errors.Is(err, g.err) {
		t.Errorf("the resolver is told %v", err)
	}
}

// TestPassive: where gRPC ignores service configs, and for xDS, states pass but for the handle.
func TestPassive(t *testing.T) {
	for _, tt := range []struct {
		scheme string
		opts   resolver.BuildOptions
	}{{"xds", resolver.BuildOptions{}}, {"test", resolver.BuildOptions{DisableServiceConfig: true}}} {
		hub, r, g := new(follow.Hub), &inner{scheme: tt.scheme}, new(grpcSide)
		hub.Set(`{"n":1}`)
		told := 0
		h := endpoint.NewHandle("x", nil)
		build(t, hub, r, &follow.Channel{Handle: h, Mark: 1, Pushed: func(*document.Document, error) { told++ }}, g, tt.opts)
		_ = r.say("")
		_ = r.say(`{"made":"by itself","methodConfig":[{"name":[{}],"timeout":"1s"}]}`)
		hub.Set(`{"n":2}`)
		hub.Push()
		g.want(t, "-", `{"made":"by itself","methodConfig":[{"name":[{}],"timeout":"1s"}]}`)
		if told != 0 || g.states[0].Attributes.Value(endpoint.HandleKey{}) != h {
			t.Errorf("%s: told %d times, handle %v", tt.scheme, told, g.states[0].Attributes)
		}
	}
}

// TestPushed: who follows is told once of each document, and gRPC gets what the rules do not do.
func TestPushed(t *testing.T) {
	hub, r, g := new(follow.Hub), &inner{scheme: "test"}, new(grpcSide)
	hub.Set(`{"n":1}`)
	var told []string
	ch := &follow.Channel{Pushed: func(d *document.Document, err error) {
		switch {
		case err != nil:
			told = append(told, err.Error())
		case d == nil:
			told = append(told, "withdrawn")
		default:
			told = append(told, d.Config.GetMethodConfig()[0].GetRule())
		}
	}}
	build(t, hub, r, ch, g, resolver.BuildOptions{})
	rule := func(name string) string {
		return `{"methodConfig":[{"name":[{}],"rule":"` + name + `","timeout":"1s","RetryPolicy":{}}]}`
	}
	stripped := func(name string) string { return `{"methodConfig":[{"name":[{}],"rule":"` + name + `"}]}` }
	_ = r.say(`{"unusable":1}`)
	_ = r.say(rule("one"))
	_ = r.say(rule("one"))
	_ = r.say(`{"unusable":2}`)
	hub.Set(`{"n":2}`)
	hub.Push()
	_ = r.say("")
	_ = r.say("")
	_ = r.say(rule("two"))
	foreign := new(serviceconfig.ParseResult)
	_ = r.cc.UpdateState(resolver.State{ServiceConfig: foreign})
	g.want(t, `{"n":1}`, stripped("one"), stripped("one"), stripped("one"), `{"n":2}`, `{"n":2}`, stripped("two"), "")
	if want := []string{"gRPC can not use it", "one", "gRPC can not use it", "withdrawn", "two", "withdrawn"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	if got := g.states[7].ServiceConfig; got != foreign {
		t.Error("what the resolver made itself did not pass")
	}
}

// TestMemoryOfServiceConfigsIsBounded, and what is in force is not what is forgotten.
func TestMemoryOfServiceConfigsIsBounded(t *testing.T) {
	hub, r, g := new(follow.Hub), &inner{scheme: "test"}, new(grpcSide)
	told := 0
	build(t, hub, r, &follow.Channel{Pushed: func(*document.Document, error) { told++ }}, g, resolver.BuildOptions{})
	keep := r.cc.ParseServiceConfig(`{"keep":1}`)
	for i := range 100 {
		_ = r.cc.UpdateState(resolver.State{ServiceConfig: keep})
		r.cc.ParseServiceConfig(fmt.Sprintf(`{"n":%d}`, i))
	}
	if told != 1 {
		t.Errorf("told %d times of one document", told)
	}
}

// TestAPushFromWithinAPush: gRPC calls policies from within UpdateState, they call observers, and one of those
// may change the document. Nothing waits for itself, and the newest is what is left.
func TestAPushFromWithinAPush(t *testing.T) {
	hub, r, g := new(follow.Hub), &inner{scheme: "test"}, new(grpcSide)
	hub.Set(`{"n":1}`)
	build(t, hub, r, new(follow.Channel), g, resolver.BuildOptions{})
	n := 1
	g.during = func() {
		if n < 4 {
			n++
			hub.Set(fmt.Sprintf(`{"n":%d}`, n))
			hub.Push()
		}
	}
	_ = r.say("")
	g.want(t, `{"n":1}`, `{"n":2}`, `{"n":3}`, `{"n":4}`)
	// A panic of a policy is its own, and does not end all pushing.
	g.during = func() { panic("policy") }
	func() {
		defer func() { _ = recover() }()
		_ = r.say("")
	}()
	g.during = nil
	hub.Set(`{"n":9}`)
	hub.Push()
	if got := g.configs(); got[len(got)-1] != `{"n":9}` {
		t.Errorf("after a panic gRPC was given %q", got)
	}
}

// TestResolverAndHubAtOnce: whoever pushes last, gRPC is left with the newest of both, and the resolver with the
// error of its own state.
func TestResolverAndHubAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, r, g := new(follow.Hub), &inner{scheme: "test"}, new(grpcSide)
		build(t, hub, r, new(follow.Channel), g, resolver.BuildOptions{})
		hub.Set(`{"n":0}`)
		_ = r.say("")
		release := make(chan struct{})
		g.during = func() { <-release }
		g.err = errors.New("not good enough")
		pushed := make(chan struct{})
		go func() {
			hub.Set(`{"n":1}`)
			hub.Push()
			close(pushed)
		}()
		synctest.Wait()
		said := make(chan error, 1)
		go func() { said <- r.say("") }() // while the hub pushes
		synctest.Wait()
		select {
		case err := <-said:
			t.Fatalf("the resolver was told %v before its state was pushed", err)
		default:
		}
		close(release)
		if err := <-said; !errors.Is(err, g.err) {
			t.Errorf("the resolver was told %v", err)
		}
		<-pushed
		g.want(t, `{"n":0}`, `{"n":1}`, `{"n":1}`)
	})
	hub, r, g := new(follow.Hub), &inner{scheme: "test"}, new(grpcSide)
	build(t, hub, r, new(follow.Channel), g, resolver.BuildOptions{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 100 {
				if i == 0 {
					hub.Set(fmt.Sprintf(`{"n":%d}`, n))
				}
				if i < 2 {
					hub.Push()
				} else {
					_ = r.say("")
				}
			}
		})
	}
	wg.Wait()
	if got := g.configs(); got[len(got)-1] != `{"n":99}` {
		t.Errorf("gRPC is left with %s", got[len(got)-1])
	}
}

func TestBuildersOfOthers(t *testing.T) {
	hub := new(follow.Hub)
	hub.Set("{}")
	open := func(follow.Connection) *follow.Channel { return new(follow.Channel) }
	bad := &inner{scheme: "test", err: errors.New("no such target")}
	if _, err := hub.Decorate(open, nil, bad)[0].Build(resolver.Target{}, new(grpcSide), resolver.BuildOptions{}); !errors.Is(err, bad.err) {
		t.Errorf("error %v, want the builder's own", err)
	}
	hub.Push() // nothing of it is left
	schemes := make(map[string]bool)
	for _, b := range hub.Decorate(open, follow.Standard()...) {
		a, ok := b.(resolver.AuthorityOverrider)
		if unix := strings.HasPrefix(b.Scheme(), "unix"); ok != unix {
			t.Errorf("%s overrides the authority: %v, want as the builder inside", b.Scheme(), ok)
		} else if ok && a.OverrideAuthority(resolver.Target{}) != "localhost" {
			t.Errorf("%s has the authority %q", b.Scheme(), a.OverrideAuthority(resolver.Target{}))
		}
		schemes[b.Scheme()] = true
	}
	for _, s := range []string{"dns", "passthrough", "unix"} {
		if !schemes[s] {
			t.Errorf("%s is not decorated", s)
		}
	}
}

// TestKeys: gRPC builds resolvers for one connection with one key, and with another for another. A release that
// does not would share what belongs to one, or lose it in idle mode.
func TestKeys(t *testing.T) {
	var mu sync.Mutex
	var seen []follow.Connection
	hub, r := new(follow.Hub), &saying{}
	b := hub.Decorate(func(c follow.Connection) *follow.Channel {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, c)
		return new(follow.Channel)
	}, r)
	dial := func() *grpc.ClientConn {
		conn, err := grpc.NewClient("saying:///x", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithResolvers(b...))
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	for range 2 {
		conn := dial()
		conn.Connect()
		conn.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 2 || seen[0].Key == nil || seen[0].Key == seen[1].Key || seen[0].Target != "saying:///x" || seen[0].Disabled {
		t.Errorf("connections %+v, want two that can be told apart", seen)
	}
}

// saying resolves to nothing.
type saying struct{}

func (saying) Scheme() string { return "saying" }

func (saying) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	_ = cc.UpdateState(resolver.State{})
	return saying{}, nil
}
func (saying) ResolveNow(resolver.ResolveNowOptions) {}
func (saying) Close()                                {}
