package healthsvc

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Health is a health service. Its methods may be called from any goroutine.
type Health struct {
	cfg     config
	checks  []*check // by index; never changes
	notices notices

	// pic is what all answers are read from. It is replaced under mu and never changed.
	pic atomic.Pointer[picture]

	// ended is closed when Watches must go. Under mu, once.
	ended chan struct{}

	watches, unknown atomic.Int64 // open Watches, and those of them for names that do not exist
	refused          atomic.Uint64
	refusedAt        atomic.Pointer[time.Time] // when that was told last
	unadopted        atomic.Bool               // a server was registered whose services are not known yet

	mu       sync.Mutex // guards the rest; held for moments, never while code of others runs
	services map[string]*service
	states   []checkState // by index
	dogs     map[string]*Watchdog
	ready    []int // the checks that readiness needs
	settled  bool  // each of them was found up or down once
	phase    Phase
	since    time.Time // of the phase
	servers  []stoppable
	drain    *drain
	wrapped  bool // registered with something that is no server
	started  bool
	closed   bool
	stop     context.CancelFunc // ends the checks
	running  sync.WaitGroup     // the goroutines of the checks
}

// service is a name and what it needs.
type service struct {
	deps    []int // indices of checks
	follows bool  // readiness decides
	adopted bool  // registered with the gRPC server, and not declared
	forced  *Status
}

type checkState struct {
	state State
	since time.Time
}

// New makes a health service, or returns one error that joins all that is wrong with its options, each with
// its name, value and range. Nothing runs before [Health.Register] or [Health.Start].
func New(opts ...Option) (*Health, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	h := &Health{cfg: cfg, notices: notices{observers: cfg.observers}, ended: make(chan struct{}), dogs: map[string]*Watchdog{}, since: time.Now()}
	for i, c := range cfg.checks {
		h.checks = append(h.checks, &check{checkConfig: c, index: i})
	}
	h.states = make([]checkState, len(h.checks))
	for i := range h.states {
		h.states[i].since = h.since
	}
	if h.services, err = h.declare(cfg.services); err != nil {
		return nil, err
	}
	for _, name := range []string{"", Readiness, Liveness, Startup} {
		h.services[name] = &service{follows: true}
	}
	if err := h.setReadiness(); err != nil {
		return nil, err
	}
	h.pic.Store(&picture{added: make(chan struct{})})
	h.publish("created", h.since)
	for _, o := range cfg.observers {
		if a, ok := o.(interface {
			Attach(snapshot func() Snapshot)
		}); ok {
			a.Attach(h.Snapshot)
		}
	}
	return h, nil
}

// declare resolves the services of the options, which may name each other in any order.
func (h *Health) declare(all []declaration) (map[string]*service, error) {
	var f findings
	declared := map[string][]string{}
	for _, d := range all {
		f.name("service", d.name)
		_, twice := declared[d.name]
		switch {
		case reserved(d.name):
			f.add("service", fmt.Sprintf("%q", d.name), "another name: this one is taken")
		case h.check(d.name) != nil:
			f.add("service", fmt.Sprintf("%q", d.name), "another name: a check is called so")
		case twice:
			f.add("service", fmt.Sprintf("%q twice", d.name), "each name once")
		}
		declared[d.name] = d.deps
	}
	services := map[string]*service{}
	under := map[string]bool{} // names that are being resolved, to find circles
	var resolve func(name string) []int
	resolve = func(name string) []int {
		if s := services[name]; s != nil {
			return s.deps
		}
		under[name] = true
		defer delete(under, name)
		var deps []int
		for _, dep := range declared[name] {
			c := h.check(dep)
			_, known := declared[dep]
			switch {
			case c != nil:
				deps = append(deps, c.index)
			case under[dep]:
				f.add(fmt.Sprintf("service %q: dependency", name), fmt.Sprintf("%q", dep), "no circle")
			case known:
				deps = append(deps, resolve(dep)...)
			default:
				f.add(fmt.Sprintf("service %q: dependency", name), fmt.Sprintf("%q", dep), "the name of a check or service")
			}
		}
		s := &service{deps: unique(deps)}
		services[name] = s
		return s.deps
	}
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		resolve(name)
	}
	return services, f.err()
}

func unique(deps []int) []int {
	slices.Sort(deps)
	return slices.Compact(deps)
}

func (h *Health) setReadiness() error {
	if h.cfg.readiness == nil {
		for _, c := range h.checks {
			if c.class == ClassCritical {
				h.ready = append(h.ready, c.index)
			}
		}
		return nil
	}
	deps, err := h.resolve("readiness", h.cfg.readiness)
	h.ready = deps
	return err
}

// resolve turns names of checks and services into indices of checks. It needs mu, or that nobody else has h.
func (h *Health) resolve(what string, names []string) ([]int, error) {
	var f findings
	var deps []int
	for _, dep := range names {
		switch c, s := h.check(dep), h.services[dep]; {
		case c != nil:
			deps = append(deps, c.index)
		case s != nil && !s.follows:
			deps = append(deps, s.deps...)
		default:
			f.add(what+": dependency", fmt.Sprintf("%q", dep), "the name of a check, or of a service with dependencies")
		}
	}
	return unique(deps), f.err()
}

func (h *Health) check(name string) *check {
	for _, c := range h.checks {
		if c.name == name {
			return c
		}
	}
	return nil
}

// Start starts the checks. [Health.Register] and [Health.Serve] do it too; it is for programs that use
// [Health.Handler] alone. A second call, and one after Close, does nothing.
func (h *Health) Start() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.started || h.closed {
		return
	}
	h.started = true
	now := time.Now()
	for i := range h.states {
		h.states[i].since = now
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	for _, c := range h.checks {
		h.running.Go(func() { h.run(ctx, c) })
	}
	h.publish("started", now)
}

// Close stops the checks, ends open Watches, and waits until the probes under way have ended, at most for
// their timeouts. From then on nothing serves. [Health.Drain] and [Health.Serve] end with it.
func (h *Health) Close() {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		for _, w := range h.dogs {
			w.timer.Stop()
		}
		if h.stop != nil {
			h.stop()
		}
		h.enter(PhaseStopped, time.Now())
	}
	h.mu.Unlock()
	h.running.Wait()
	h.notices.flush()
}

// checkChanged is told by the goroutine of the check.
func (h *Health) checkChanged(c *check, to State, r *result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	from := h.states[c.index].state
	h.states[c.index] = checkState{to, r.at}
	h.notices.tell(&CheckChanged{Check: c.name, Class: c.class, From: from, To: to, Err: r.err, At: r.at})
	h.publish("check "+c.name+" is "+to.String(), r.at)
}

// AddService adds a service, or gives one that exists other dependencies: checks and services by their names,
// which are resolved now. It keeps what was forced, and it may be called during a drain, to be seen when that
// is called off. The error is about a name that is taken, too long or unknown.
func (h *Health) AddService(name string, dependencies ...string) error {
	if err := validName("service", name); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if reserved(name) || h.check(name) != nil {
		return fmt.Errorf("healthsvc: service is %q, want a name that is not taken", name)
	}
	deps, err := h.resolve(fmt.Sprintf("service %q", name), dependencies)
	if err != nil {
		return err
	}
	s := &service{deps: deps}
	if before := h.services[name]; before != nil {
		s.forced = before.forced
	}
	h.services[name] = s
	h.publish("service "+name+" added", time.Now())
	return nil
}

// RemoveService removes a service: Watches of it are told SERVICE_UNKNOWN, and stay open. It reports whether
// there was one; the four names that always exist stay.
func (h *Health) RemoveService(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.services[name] == nil || reserved(name) {
		return false
	}
	delete(h.services, name)
	h.publish("service "+name+" removed", time.Now())
	return true
}

// Force makes a name answer with a status whatever its dependencies are, for maintenance or in an emergency,
// until [Health.Unforce]. What is forced on readiness holds for "" and for undeclared services too. A drain
// and Suspend are stronger. The error is about a name that does not exist, or that may not be forced: liveness
// and startup tell facts.
func (h *Health) Force(name string, s Status) error { return h.force(name, &s) }

// Unforce ends what Force began.
func (h *Health) Unforce(name string) error { return h.force(name, nil) }

func (h *Health) force(name string, s *Status) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	svc := h.services[name]
	if svc == nil || name == Liveness || name == Startup {
		return fmt.Errorf("healthsvc: forced name is %q, want %q, \"\" or a service", shorten(name), Readiness)
	}
	svc.forced = s
	what := "no longer forced"
	if s != nil {
		what = "forced to " + s.String()
	}
	h.publish(name+" "+what, time.Now())
	return nil
}

// shorten keeps errors short whatever name is in them.
func shorten(name string) string {
	if len(name) > 100 {
		return name[:100] + "..."
	}
	return name
}
