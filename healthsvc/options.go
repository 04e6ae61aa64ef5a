package healthsvc

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
	"unicode/utf8"
)

// Names that always exist, beside "" for the process.
const (
	Liveness  = "liveness"
	Readiness = "readiness"
	Startup   = "startup"
)

// An Option shapes a [Health].
type Option func(*config)

type config struct {
	checks    []checkConfig
	services  []declaration
	readiness []string // nil: every critical check

	drainWait, stopLimit time.Duration
	maxWatches           int
	maxUnknown           int

	observers []Observer
	random    func() float64
}

// declaration is a service and what it needs.
type declaration struct {
	name string
	deps []string
}

func newConfig(opts []Option) (config, error) {
	c := config{
		drainWait: 5 * time.Second, stopLimit: 20 * time.Second,
		maxWatches: 20_000, maxUnknown: 1000,
		random: rand.Float64,
	}
	for _, o := range opts {
		o(&c)
	}
	var f findings
	seen := map[string]bool{}
	for i := range c.checks {
		c.checks[i] = c.checks[i].withDefaults()
		c.checks[i].validate(&f)
		if name := c.checks[i].name; seen[name] {
			f.add("check", fmt.Sprintf("%q twice", name), "each name once")
		} else {
			seen[name] = true
		}
	}
	f.span("DrainWait", c.drainWait, 0, maxInterval)
	f.span("StopLimit", c.stopLimit, 0, maxInterval)
	f.count("MaxWatches", c.maxWatches, 1, 1_000_000)
	f.count("MaxUnknownWatches", c.maxUnknown, 0, 1_000_000)
	if slices.Contains(c.observers, nil) {
		f.add("Observer", nil, "one")
	}
	if c.random == nil {
		f.add("Random", "nil", "a function")
	}
	return c, f.err()
}

// WithCheck adds a check of a dependency under a name, by which services declare it. Defaults of its options
// stand at each of them.
func WithCheck(name string, c Checker, opts ...CheckOption) Option {
	return func(cfg *config) {
		check := newCheckConfig(name, c)
		for _, o := range opts {
			o(&check)
		}
		cfg.checks = append(cfg.checks, check)
	}
}

// WithService declares what a service needs: it serves while all of them are up, degrading checks included,
// since it says that it needs them. Without dependencies it serves whenever the process does.
//
// A dependency is the name of a check, or of a service declared before or after, which stands for the checks
// that it needs: a group, under a name that is answered for as well.
//
//	healthsvc.WithService("storage", "database", "disk"),
//	healthsvc.WithService("orders.v1.Orders", "storage"),
//
// A service that is registered with the gRPC server and not declared follows readiness.
func WithService(name string, dependencies ...string) Option {
	return func(c *config) { c.services = append(c.services, declaration{name, dependencies}) }
}

// WithReadiness says what readiness, "" and undeclared services need, instead of every critical check. Without
// dependencies they are ready whenever the process serves, as in Spring Boot's readiness group: for a
// dependency that all replicas share, whose outage no other replica would mend.
func WithReadiness(dependencies ...string) Option {
	return func(c *config) { c.readiness = append([]string{}, dependencies...) }
}

// WithDrainWait sets how long a drain waits between telling NOT_SERVING and ending the Watches, for balancers
// and endpoint lists to notice. Default 5 s, range 0 to 1 h.
func WithDrainWait(d time.Duration) Option { return func(c *config) { c.drainWait = d } }

// WithStopLimit sets how long a drain lets calls in flight end before it cuts them off. Default 20 s, so that
// with the default wait it is over before Kubernetes' 30 s are; range 0 to 1 h.
func WithStopLimit(d time.Duration) Option { return func(c *config) { c.stopLimit = d } }

// WithMaxWatches bounds how many Watches may be open at once: a further one is refused with
// RESOURCE_EXHAUSTED. Default 20,000, which is some 240 MB; range 1 to 1,000,000.
func WithMaxWatches(n int) Option { return func(c *config) { c.maxWatches = n } }

// WithMaxUnknownWatches bounds how many of them may wait for names that do not exist: only those can be made
// up without end. Default 1,000, range 0 (each is refused) to 1,000,000.
func WithMaxUnknownWatches(n int) Option { return func(c *config) { c.maxUnknown = n } }

// WithObserver adds an observer of what happens. It may be given more than once.
func WithObserver(o Observer) Option { return func(c *config) { c.observers = append(c.observers, o) } }

// WithRandom sets what jitter draws from: numbers from 0 to below 1. It must be safe for concurrent use.
// Default: math/rand/v2. Tests give their own, or no jitter.
func WithRandom(f func() float64) Option { return func(c *config) { c.random = f } }

// validName bounds names, and refuses what a protobuf string cannot carry.
func validName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("healthsvc: name of a %s is empty, want 1 to %d bytes", what, maxName)
	case len(name) > maxName:
		return fmt.Errorf("healthsvc: name of a %s has %d bytes, want 1 to %d", what, len(name), maxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("healthsvc: name of a %s is %q, want UTF-8", what, name)
	}
	return nil
}

func reserved(name string) bool {
	return name == "" || name == Liveness || name == Readiness || name == Startup
}
