package floorplan

import (
	"strings"
	"testing"
)

// TestHouse holds the repository against the plan.
func TestHouse(t *testing.T) {
	tr, err := load("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.sources) < 10 || len(tr.modules) == 0 {
		t.Fatalf("found %d Go files and %d modules: this is not the repository", len(tr.sources), len(tr.modules))
	}
	laws := []struct {
		name string
		law  func(*tree) []string
	}{
		{"arrows", arrows},
		{"folders", acyclic},
		{"top level", topLevel},
		{"stability", stability},
		{"reasons", reasons},
		{"plan", func(*tree) []string { return downwards(plan) }},
	}
	for _, l := range laws {
		t.Run(l.name, func(t *testing.T) {
			for _, b := range l.law(tr) {
				t.Error(b)
			}
		})
	}
}

// good is a small tree that breaks no law.
func good() *tree {
	return &tree{
		files: []string{"go.mod", "go.sum", "LICENSE", "CONTRIBUTING.md", "buf.yaml", "buf.gen.yaml", "interceptors/breaker/breaker.go", "examples/bench/main.go"},
		sources: []source{
			{file: "interceptors/breaker/breaker.go", imports: []string{"time", module + "/balancer/window"}},
			{file: "interceptors/breaker/breaker_test.go", imports: []string{"testing", module + "/interceptors/steadytest", "google.golang.org/grpc/balancer"}},
			{file: "interceptors/steady/experimental.go", imports: []string{"google.golang.org/grpc", module + "/resolver/follow"}, grpc: []string{"OnFinish", "WithDisableRetry"}},
			{file: "interceptors/steadytest/dial.go", imports: []string{"google.golang.org/grpc/resolver"}, grpc: []string{"WithResolvers"}},
			{file: "balancer/weighted/weighted.go", imports: []string{"google.golang.org/grpc/balancer/endpointsharding", module + "/balancer/internal/pool"}},
			{file: "examples/bench/main.go", imports: []string{"github.com/sony/gobreaker/v2", module + "/interceptors/steady"}},
		},
		modules: []gomod{
			{path: module, require: []requirement{{path: "google.golang.org/grpc"}, {path: "golang.org/x/net", indirect: true}}},
			{dir: "examples/bench", path: module + "/examples/bench", require: []requirement{{path: module}, {path: "google.golang.org/grpc"}, {path: "github.com/sony/gobreaker/v2"}}},
		},
		contributing: "| Module | go.mod | Reason |\n|---|---|---|\n" +
			"| `google.golang.org/grpc` | `.` | what this toolkit is for |\n" +
			"| `github.com/sony/gobreaker/v2` | `examples/bench` | the peer of the breaker row |\n",
	}
}

// TestLawsHold shows that each law catches what it is there for: a check that
// never fails would hold nothing.
func TestLawsHold(t *testing.T) {
	add := func(s source) func(*tree) {
		return func(t *tree) { t.sources = append(t.sources, s) }
	}
	for _, tt := range []struct {
		name  string
		law   func(*tree) []string
		spoil func(*tree)
		want  string // part of the only breach; "" for none
	}{
		{"good arrows", arrows, func(*tree) {}, ""},
		{"good folders", acyclic, func(*tree) {}, ""},
		{"good top level", topLevel, func(*tree) {}, ""},
		{"good stability", stability, func(*tree) {}, ""},
		{"good reasons", reasons, func(*tree) {}, ""},
		{"unknown folder", arrows, add(source{file: "interceptors/cache/cache.go"}), "not in the floor plan"},
		{"unknown folder of tests", arrows, add(source{file: "interceptors/cache/cache_test.go"}), "not in the floor plan"},
		{"subfolder of a room", arrows, add(source{file: "interceptors/breaker/extra/extra.go"}), "not in the floor plan"},
		{"subfolder of an example", arrows, add(source{file: "examples/lab/sim/sim.go", imports: []string{module + "/interceptors/prom"}}), ""},
		{"upwards", arrows, add(source{file: "interceptors/retry/r.go", imports: []string{module + "/interceptors/steady"}}), "no arrow"},
		{"sideways", arrows, add(source{file: "interceptors/prom/p.go", imports: []string{module + "/interceptors/debugz"}}), "no arrow"},
		{"mechanism to mechanism", arrows, add(source{file: "interceptors/retry/r.go", imports: []string{module + "/interceptors/breaker"}}), "no arrow"},
		{"the root", arrows, add(source{file: "interceptors/retry/r.go", imports: []string{module}}), "no arrow"},
		{"example imported", arrows, add(source{file: "interceptors/steady/r.go", imports: []string{module + "/examples/quickstart/orders/v1"}}), "no arrow"},
		{"echo in the facade", arrows, add(source{file: "interceptors/steady/r.go", imports: []string{module + "/proto/steady/echo/v1"}}), "no arrow"},
		{"gRPC in a mechanism", arrows, add(source{file: "interceptors/retry/r.go", imports: []string{"google.golang.org/grpc/codes"}}), "standard library only"},
		{"Prometheus in the facade", arrows, add(source{file: "interceptors/steady/r.go", imports: []string{"github.com/prometheus/client_golang/prometheus"}}), "not among the dependencies"},
		{"a name that only starts alike", arrows, add(source{file: "interceptors/steady/r.go", imports: []string{"google.golang.org/grpcx"}}), "not among the dependencies"},
		{"one way between folders", acyclic, add(source{file: "resolver/x/x.go", imports: []string{module + "/balancer/attempt"}}), ""},
		{"circle of folders", acyclic, add(source{file: "balancer/pick/p.go", imports: []string{module + "/interceptors/breaker"}}), "circle: balancer -> interceptors -> balancer"},
		{"file at the top", topLevel, func(t *tree) { t.files = append(t.files, "Makefile") }, "closed list"},
		{"internal at the top", topLevel, func(t *tree) { t.files = append(t.files, "internal/x/x.go", "internal/y/y.go") }, "closed list"},
		{"no licence", topLevel, func(t *tree) { t.files = t.files[:2] }, ""},
		{"root package", topLevel, add(source{file: "steady.go"}), "shelf"},
		{"package on a shelf", topLevel, add(source{file: "balancer/balancer.go"}), "shelf"},
		{"test on a shelf", topLevel, add(source{file: "examples/x_test.go"}), "shelf"},
		{"unplanned module", topLevel, func(t *tree) {
			t.modules = append(t.modules, gomod{dir: "healthsvc", path: module + "/healthsvc"})
		}, "not planned"},
		{"module of another name", topLevel, func(t *tree) { t.modules[1].path = "example.com/bench" }, "want " + module},
		{"missing module", topLevel, add(source{file: "resolver/kube/kube.go"}), "must be a module of its own"},
		{"experimental package", stability, add(source{file: "interceptors/steady/r.go", imports: []string{"google.golang.org/grpc/resolver/manual"}}), "experimental packages stay"},
		{"experimental package in a test", stability, add(source{file: "interceptors/steady/r_test.go", imports: []string{"google.golang.org/grpc/resolver/manual"}}), ""},
		{"experimental package in a module of its own", stability, add(source{file: "examples/bench/r.go", imports: []string{"google.golang.org/grpc/orca"}}), ""},
		{"experimental name elsewhere", stability, add(source{file: "healthsvc/r.go", grpc: []string{"OnFinish"}}), "stay in one file"},
		{"experimental name in two files", stability, add(source{file: "interceptors/steady/r.go", grpc: []string{"NewClient", "OnFinishCallOption"}}), "keep them in one file"},
		{"requirement without a reason", reasons, func(t *tree) {
			t.modules[0].require = append(t.modules[0].require, requirement{path: "example.com/new"})
		}, "no reason"},
		{"reason without words", reasons, func(t *tree) {
			t.contributing = strings.Replace(t.contributing, "the peer of the breaker row", "peer", 1)
		}, "no reason"},
		{"reason in the wrong module", reasons, func(t *tree) {
			t.modules[0].require = append(t.modules[0].require, requirement{path: "github.com/sony/gobreaker/v2"})
		}, "no reason"},
		{"reason that outlived its requirement", reasons, func(t *tree) { t.modules[1].require = t.modules[1].require[:2] }, "does not require it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := good()
			tt.spoil(tr)
			got := tt.law(tr)
			switch {
			case tt.name == "no licence":
				if len(got) != 4 || !strings.Contains(got[0], "LICENSE is missing") {
					t.Errorf("got %q, want the four that are missing", got)
				}
			case tt.want == "" && len(got) > 0:
				t.Errorf("got %q, want none", got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)):
				t.Errorf("got %q, want one with %q", got, tt.want)
			}
		})
	}
}

func TestPlanPointsDown(t *testing.T) {
	for _, tt := range []struct {
		name string
		rows []room
		want string
	}{
		{"up", []room{{path: "a", floor: 0, may: []string{"b"}}, {path: "b", floor: 1}}, "points up"},
		{"itself", []room{{path: "a", may: []string{"a"}}}, "points up"},
		{"nowhere", []room{{path: "a", may: []string{"c"}}}, "no row"},
	} {
		if got := downwards(tt.rows); len(got) != 1 || !strings.Contains(got[0], tt.want) {
			t.Errorf("%s: got %q, want one with %q", tt.name, got, tt.want)
		}
	}
}
