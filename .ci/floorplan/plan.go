// Package floorplan holds the shape of the module: which folder may import
// which, what may lie at the top, which parts of gRPC may be touched where, and
// that every dependency has its reason in CONTRIBUTING.md.
//
// It reads sources instead of asking go list: so it sees every build tag and
// every module of the repository, also while the tree does not compile or the
// dependencies are not downloaded.
//
//	go test -count=1 ./.ci/floorplan
package floorplan

// module is the path that all our packages share.
const module = "github.com/grpcsteady/steady"

// A room is a folder of the plan with its law. A path that ends in "/..." is a
// whole subtree; the longest matching path counts.
type room struct {
	path  string
	floor int
	// may lists what of ours the room may import, beside its own subtree.
	may []string
	// ext lists import path prefixes of other modules that it may import;
	// "*" is any. The standard library is always allowed.
	ext []string
}

// Groups of the table. An entry that ends in "/..." is a subtree, as above.
var (
	grpcOnly = []string{"google.golang.org/grpc", "google.golang.org/protobuf", "google.golang.org/genproto/googleapis/rpc"}

	mechanisms = []string{
		"interceptors/breaker", "interceptors/retry", "interceptors/deadline", "interceptors/hedge",
		"interceptors/limit", "interceptors/throttle", "interceptors/fault",
	}
	schema = []string{"proto/steady/v1"}
	facade = join(mechanisms, []string{"balancer/window", "balancer/attempt", "resolver/follow", "resolver/endpoint", "proto/document"}, schema)
	glue   = join([]string{"balancer/attempt", "balancer/window", "resolver/endpoint", "proto/document"}, schema)
	all    = []string{"..."}
)

// plan is the picture in CONTRIBUTING.md and docs, written for a machine. A
// folder without a row fails: whoever adds one says where it stands. Rows of
// folders that do not exist yet are the plan for them.
var plan = []room{
	// Floor 0: mechanism without gRPC, and schema.
	{path: "balancer/window", floor: 0},
	{path: "interceptors/breaker", floor: 0, may: []string{"balancer/window"}},
	{path: "interceptors/retry", floor: 0, may: []string{"balancer/window"}},
	{path: "interceptors/deadline", floor: 0, may: []string{"balancer/window"}},
	{path: "interceptors/hedge", floor: 0, may: []string{"balancer/window"}},
	{path: "interceptors/limit", floor: 0, may: []string{"balancer/window"}},
	{path: "interceptors/throttle", floor: 0, may: []string{"balancer/window"}},
	{path: "interceptors/fault", floor: 0, may: []string{"balancer/window"}},
	{path: "balancer/attempt", floor: 0},
	{path: "proto/steady/v1", floor: 0, ext: grpcOnly},
	{path: "proto/steady/echo/v1", floor: 0, ext: grpcOnly},

	// Floor 1: documents, and what resolvers say.
	{path: "resolver/endpoint", floor: 1, ext: grpcOnly},
	{path: "proto/document", floor: 1, may: schema, ext: join(grpcOnly, []string{"go.yaml.in/yaml"})},
	{path: "proto/lint", floor: 1, may: join(schema, []string{"proto/document"}), ext: grpcOnly},
	{path: "proto/cmd/steadylint", floor: 1, may: join(schema, []string{"proto/document", "proto/lint"}), ext: grpcOnly},
	{path: "resolver/follow", floor: 1, may: join(schema, []string{"proto/document", "resolver/endpoint"}), ext: grpcOnly},

	// Floor 2: gRPC glue, and the facade.
	{path: "interceptors/steady", floor: 2, may: facade, ext: grpcOnly},
	{path: "balancer/internal/pool", floor: 2, may: glue, ext: grpcOnly},
	{path: "balancer/internal/capture", floor: 2, may: []string{"balancer/attempt", "resolver/endpoint"}, ext: grpcOnly}, // for tests
	{path: "balancer/leastrequest", floor: 2, may: join(glue, []string{"balancer/internal/pool"}), ext: grpcOnly},
	{path: "balancer/weighted", floor: 2, may: join(glue, []string{"balancer/internal/pool"}), ext: grpcOnly},
	{path: "balancer/consistenthash", floor: 2, may: join(glue, []string{"balancer/internal/pool"}), ext: join(grpcOnly, []string{"github.com/cespare/xxhash"})},
	{path: "resolver/static", floor: 2, may: join(schema, []string{"resolver/endpoint", "proto/document"}), ext: grpcOnly},
	{path: "resolver/file", floor: 2, may: join(schema, []string{"resolver/endpoint", "proto/document"}), ext: grpcOnly},
	{path: "resolver/dns", floor: 2, may: join(schema, []string{"resolver/endpoint", "proto/document"}), ext: grpcOnly},
	{path: "resolver/failover", floor: 2, may: join(schema, []string{"resolver/endpoint", "proto/document"}), ext: grpcOnly},
	{path: "resolver/kube", floor: 2, may: join(schema, []string{"resolver/endpoint", "proto/document"}), ext: join(grpcOnly, []string{"k8s.io"})},
	{path: "healthsvc", floor: 2, ext: grpcOnly},

	// Floor 3: leaves on top of the facade, with its vocabulary. None imports
	// another; healthsvc's snapshot reaches them through an interface.
	{path: "interceptors/prom", floor: 3, may: join(facade, []string{"interceptors/steady"}), ext: join(grpcOnly, []string{"github.com/prometheus"})},
	{path: "interceptors/debugz", floor: 3, may: join(facade, []string{"interceptors/steady"}), ext: grpcOnly},
	{path: "interceptors/steadytest", floor: 3, may: join(facade, glue, []string{"interceptors/steady", "proto/steady/echo/v1"}), ext: join(grpcOnly, []string{"go.uber.org/goleak"})},

	// Floor 4: examples may import everything, and nobody imports them.
	{path: "examples/quickstart/...", floor: 4, may: all, ext: []string{"*"}},
	{path: "examples/health/...", floor: 4, may: all, ext: []string{"*"}},
	{path: "examples/monitoring/...", floor: 4, may: all, ext: []string{"*"}},
	{path: "examples/lab/...", floor: 4, may: all, ext: []string{"*"}},
	{path: "examples/template/...", floor: 4, may: all, ext: []string{"*"}},
	{path: "examples/bench/...", floor: 4, may: all, ext: []string{"*"}},
	{path: "examples/interop/...", floor: 4, may: all, ext: []string{"*"}},

	// The tools of the house need nothing but the standard library.
	{path: ".ci/...", floor: 4},
}

// shelves hold folders and no package: one named balancer or resolver would
// shadow gRPC's own in every file that needs both.
var shelves = []string{"", "interceptors", "balancer", "resolver", "proto", "examples"}

// top is all that may lie at the top level.
var top = []string{
	"go.mod", "go.sum", "interceptors", "balancer", "resolver", "healthsvc", "proto", "examples",
	"buf.yaml", "buf.gen.yaml", "README.md",
	"LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs", ".ci", ".golangci.yml", ".gitignore",
}

// ownModules are the folders whose dependencies must not enter the go.mod of
// those who use steady. Every other folder is part of the root module.
var ownModules = []string{
	"resolver/kube", "examples/bench", "examples/health", "examples/interop", "examples/template",
}

// experimental lists gRPC packages that may change in any release, and the
// folders of the root module that may import them all the same.
var (
	experimental = []string{
		"google.golang.org/grpc/attributes", "google.golang.org/grpc/balancer", "google.golang.org/grpc/experimental",
		"google.golang.org/grpc/orca", "google.golang.org/grpc/resolver", "google.golang.org/grpc/serviceconfig",
	}
	experimentalIn = []string{"balancer", "resolver", "interceptors/steadytest"}

	// experimentalNames are those of the grpc package itself; they stay in one
	// file of interceptors/steady, so that a gRPC release without them is one
	// file's work. The test kit may use them as it uses the packages. Examples
	// and tests are users' code: a resolver is given to a channel by
	// grpc.WithResolvers.
	experimentalNames   = []string{"OnFinish", "OnFinishCallOption", "WithResolvers", "WithDisableRetry"}
	experimentalNamesIn = "interceptors/steady"
)

func join(lists ...[]string) []string {
	var out []string
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}
