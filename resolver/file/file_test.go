package file_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"

	_ "github.com/grpcsteady/steady/balancer/leastrequest"
	_ "github.com/grpcsteady/steady/balancer/weighted"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/proto/document"
	"github.com/grpcsteady/steady/resolver/file"
	"github.com/grpcsteady/steady/resolver/internal/resolvertest"
)

func TestMain(m *testing.M) { steadytest.Main(m) }

// watched is a real file, followed in a bubble.
type watched struct {
	t       *testing.T
	path    string
	channel *resolvertest.Channel
	res     resolver.Resolver

	mu   sync.Mutex
	errs []string
}

func (w *watched) hear(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errs = append(w.errs, err.Error())
}

// heard compares the errors that were told, by a part of each; FILE stands for the path.
func (w *watched) heard(want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	same := len(want) == len(w.errs)
	for i := 0; same && i < len(want); i++ {
		same = strings.Contains(w.errs[i], strings.ReplaceAll(want[i], "FILE", w.path))
	}
	if !same {
		w.t.Errorf("heard %q, want %q", w.errs, want)
	}
	w.errs = nil
}

func (w *watched) after(d time.Duration, want ...string) {
	w.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	for i := range want {
		want[i] = strings.ReplaceAll(want[i], "FILE", w.path)
	}
	w.channel.Expect(w.t, want...)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write writes in place; "" removes the file.
func (w *watched) write(text string) {
	w.t.Helper()
	if text == "" {
		must(w.t, os.Remove(w.path))
		return
	}
	must(w.t, os.WriteFile(w.path, []byte(text), 0o600))
}

// follow runs a scenario with a file that begins with text; "": there is none.
func follow(t *testing.T, text string, scenario func(w *watched), opts ...file.Option) {
	t.Helper()
	steadytest.Run(t, func(t *testing.T) {
		w := &watched{t: t, path: filepath.Join(t.TempDir(), "orders.yaml"), channel: new(resolvertest.Channel)}
		if text != "" {
			w.write(text)
		}
		b := file.Builder(append([]file.Option{file.OnError(w.hear)}, opts...)...)
		w.res = resolvertest.Build(t, b, "file://"+w.path, w.channel)
		scenario(w)
	})
}

const (
	one   = "endpoints: [a:1]"
	two   = "endpoints: [a:1, b:1]"
	round = 1300 * time.Millisecond // the longest wait, and the file's time to settle
)

func TestEveryWayOfChange(t *testing.T) {
	follow(t, one, func(w *watched) {
		w.after(0, "a:1")
		w.after(time.Hour)
		w.write(two) // in place
		w.after(round, "a:1 b:1")
		next := w.path + ".next"
		must(t, os.WriteFile(next, []byte("endpoints: [{addresses: [c:1, d:1], weight: 2, zone: z, priority: 1}]"), 0o600))
		must(t, os.Rename(next, w.path))
		w.after(round, "c:1+d:1?weight=2&zone=z&priority=1")
		w.heard()
	})
}

// TestConfigMap: kubelet swaps a link to a folder; the file's own link never changes.
func TestConfigMap(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		dir := t.TempDir()
		volume := func(name, text string) {
			must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
			must(t, os.WriteFile(filepath.Join(dir, name, "orders.yaml"), []byte(text), 0o600))
			must(t, os.Symlink(name, filepath.Join(dir, "..data_tmp")))
			must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		}
		volume("..1", one)
		must(t, os.Symlink(filepath.Join("..data", "orders.yaml"), filepath.Join(dir, "orders.yaml")))
		c := new(resolvertest.Channel)
		resolvertest.Build(t, file.Builder(), "file://"+dir+"/orders.yaml", c)
		time.Sleep(round)
		c.Expect(t, "a:1")
		volume("..2", two)
		must(t, os.RemoveAll(filepath.Join(dir, "..1")))
		time.Sleep(round)
		c.Expect(t, "a:1 b:1")
	})
}

func TestTheLastGoodFileStays(t *testing.T) {
	follow(t, one, func(w *watched) {
		w.after(0, "a:1")
		w.write("endpoints: [a:1, b]")
		w.after(time.Hour)
		w.heard(`file: FILE:1:18: endpoints[1]: "b", want host:port`)
		w.write("endpoints: []")
		w.after(time.Hour)
		w.heard("FILE:1:12: endpoints: lists no endpoint, want at least one")
		w.write("")
		w.after(time.Hour)
		w.heard("no such file")
		w.write(one)
		w.after(time.Hour) // nothing has changed
		w.write(two)
		w.after(round, "a:1 b:1")
		w.heard()
	})
}

func TestTheFirstFile(t *testing.T) {
	follow(t, "", func(w *watched) {
		w.after(0, "error: file: document: stat FILE: no such file or directory")
		w.write("endpoints: 7")
		w.after(round, "error: file: FILE:1:12: endpoints: 7 is a number, want a list")
		w.write(one)
		w.after(round, "a:1")
		w.heard("no such file", "want a list")
	})
}

func TestResolveNow(t *testing.T) {
	follow(t, one, func(w *watched) {
		w.after(0, "a:1")
		w.write(two)
		for range 1000 {
			w.res.ResolveNow(resolver.ResolveNowOptions{})
		}
		w.after(200*time.Millisecond, "a:1 b:1")
		w.write(one)
		for range 3000 { // three seconds of a storm do not keep the file from settling
			w.res.ResolveNow(resolver.ResolveNowOptions{})
			time.Sleep(time.Millisecond)
		}
		w.after(0, "a:1")
	}, file.Every(time.Hour))
}

func TestDocuments(t *testing.T) {
	follow(t, one+"\ndocument: {methodConfig: [{name: [{}], timeout: 250ms}]}", func(w *watched) {
		w.after(0, `a:1 {"methodConfig":[{"name":[{}],"timeout":"250ms"}]}`)
		w.write(two + "\ndocument:\n  mode: of")
		w.after(time.Hour) // neither the endpoints nor the document
		w.heard(`FILE:3:9: mode: "of", want one of`)
		w.write(two)
		w.after(round, "a:1 b:1")
	})
}

// TestTheGuide: what the guide and the package show is a file that is read.
func TestTheGuide(t *testing.T) {
	guide, err := os.ReadFile("../../docs/resolvers.md")
	must(t, err)
	_, rest, _ := strings.Cut(string(guide), "```yaml\nendpoints:")
	text, _, found := strings.Cut(rest, "```")
	source, err := os.ReadFile("file.go")
	must(t, err)
	_, rest, _ = strings.Cut(string(source), "//\tendpoints:")
	own, _, alsoFound := strings.Cut(rest, "\n//\n")
	for name, text := range map[string]string{"the guide": text, "the package": strings.ReplaceAll(own, "\n//\t", "\n")} {
		e, err := document.ReadEndpoints("x", []byte("endpoints:"+text))
		if !found || !alsoFound || err != nil || len(e.List) != 3 || e.Document == nil {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
}

// TestPlainChannels are given what gRPC takes where it does not take all.
func TestPlainChannels(t *testing.T) {
	follow(t, one+"\ndocument: {methodConfig: [{name: [{}], timeout: 250ms, rule: bad}]}", func(w *watched) {
		w.after(0, `a:1 {"methodConfig":[{"name":[{}],"timeout":"0.25s"}]}`)
	})
}

func TestJitter(t *testing.T) {
	var mu sync.Mutex
	draws := 0
	random := func() float64 {
		mu.Lock()
		defer mu.Unlock()
		draws++
		return 0
	}
	follow(t, one, func(w *watched) {
		w.after(time.Second-time.Nanosecond, "a:1")
		w.write(two)
		w.after(900*time.Millisecond+100*time.Millisecond, "a:1 b:1") // 900 ms are the shortest wait
	}, file.Random(random))
	if draws == 0 {
		t.Error("nobody drew")
	}
}

func TestTargets(t *testing.T) {
	for target, want := range map[string]string{
		"file:///":              "names no file",
		"file:":                 "names no file",
		"file://host/a.yaml":    `names the host "host"`,
		"file:///a.yaml?x=1":    "has a query, ?x=1",
		"file:///a.yaml#x":      "has a fragment, #x",
		"file://localhost/a":    "",
		"file:relative/a.yaml":  "",
		"file:///with%20a.yaml": "",
	} {
		r, err := file.Builder(file.OnError(func(error) {})).Build(resolvertest.Target(t, target), new(resolvertest.Channel), resolver.BuildOptions{})
		if err == nil {
			r.Close()
		}
		if text := fmt.Sprint(err); (err == nil) != (want == "") || !strings.Contains(text, want) {
			t.Errorf("%s: %v, want %q", target, err, want)
		}
	}
	if _, err := file.Builder(file.Every(0)).Build(resolvertest.Target(t, "file:///a"), new(resolvertest.Channel), resolver.BuildOptions{}); err == nil || !strings.Contains(err.Error(), "Every is 0s, want 10ms to 1h0m0s") {
		t.Errorf("%v", err)
	}
}

func TestAuthority(t *testing.T) {
	b, ok := file.Builder().(resolver.AuthorityOverrider)
	if !ok {
		t.Fatal("the builder leaves the authority to gRPC, which takes the path")
	}
	for target, want := range map[string]string{
		"file:///etc/orders.yaml": "orders", "file:///etc/orders": "orders", "file:orders.v1.yaml": "orders.v1",
		"file:///etc/a%20b.yaml": "localhost", "file:///etc/.yaml": "localhost",
	} {
		if got := b.OverrideAuthority(resolvertest.Target(t, target)); got != want {
			t.Errorf("%s: authority %q, want %q", target, got, want)
		}
	}
}

func dial(t *testing.T, text, config string) (*steadytest.Fleet, *grpc.ClientConn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "orders.yaml")
	must(t, os.WriteFile(path, []byte(text), 0o600))
	fleet := steadytest.NewFleet(t, steadytest.Replicas("a:1", "b:1", "c:1"))
	conn, err := grpc.NewClient("file://"+path, append(fleet.DialOptions(), grpc.WithResolvers(file.Builder(file.OnError(func(error) {}))),
		grpc.WithDefaultServiceConfig(config), grpc.WithIdleTimeout(resolvertest.IdleAfter))...)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return fleet, conn
}

func TestWeights(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet, conn := dial(t, "endpoints: [{address: a:1, weight: 3}, 'b:1?weight=2', c:1]", resolvertest.Weighted)
		resolvertest.Weights(t, fleet, conn, "a:1=30 b:1=20 c:1=10")
	})
}

func TestErrorsReachTheCaller(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		_, conn := dial(t, "endpoints:\n  - a:1\n  - address: b\n", resolvertest.RoundRobin)
		resolvertest.Refused(t, conn, `orders.yaml:3:14: endpoints[1].address: "b", want host:port`)
	})
}
