package healthsvc

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// A HandlerOption shapes [Health.Handler].
type HandlerOption func(*handler)

// Details adds since, latency and error of each check. Errors may hold addresses and secrets, so give this
// only to a handler that strangers cannot reach. Default: the status of each check alone.
func Details() HandlerOption { return func(h *handler) { h.details = true } }

type handler struct {
	h       *Health
	details bool
}

// Handler answers the same over HTTP, with 200 or 503 and JSON:
//
//	GET /health          {"status": "healthy" | "degraded" | "unhealthy", "checks": {...}}   all checks; the status of ""
//	GET /health/live     {"status": "alive" | "not alive", "checks": {...}}                  the watchdogs
//	GET /health/ready    {"status": "ready" | "not ready", "checks": {...}}                  what readiness needs
//	GET /health/startup  {"status": "started" | "starting", "checks": {...}}                 what readiness needs
//
// Degraded is 200: what is down takes nothing down. "checks" is {"database": {"status": "up"}, ...}, with
// [Details] also "since", "latency" and "error". HEAD answers without the body, other methods 405, other paths
// 404. Nothing may be cached. Mount it on any mux, under a prefix with http.StripPrefix:
//
//	mux.Handle("/health", h.Handler())
//	mux.Handle("/health/", h.Handler())
func (h *Health) Handler(opts ...HandlerOption) http.Handler {
	x := &handler{h: h}
	for _, o := range opts {
		o(x)
	}
	return x
}

// answer is the body. A map is written in the order of its keys.
type answer struct {
	Status string            `json:"status"`
	Checks map[string]detail `json:"checks"`
}

type detail struct {
	Status  string `json:"status"`
	Since   string `json:"since,omitempty"`
	Latency string `json:"latency,omitempty"`
	Error   string `json:"error,omitempty"`
}

// ServeHTTP answers one request.
func (x *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Cache-Control", "no-store")
	head.Set("X-Content-Type-Options", "nosniff")
	p := x.h.pic.Load()
	var a answer
	var ok Status
	switch r.URL.Path {
	case "/health":
		ok, a = x.process(p)
	case "/health/live":
		ok, a = x.live(p)
	case "/health/ready":
		ok, a = x.named(p, Readiness, "ready", "not ready")
	case "/health/startup":
		ok, a = x.named(p, Startup, "started", "starting")
	default:
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		head.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	body, err := json.Marshal(a)
	if err != nil {
		http.Error(w, "no answer", http.StatusInternalServerError)
		return
	}
	body = append(body, '\n')
	head.Set("Content-Type", "application/json")
	head.Set("Content-Length", strconv.Itoa(len(body)))
	code := http.StatusOK
	if ok != Serving {
		code = http.StatusServiceUnavailable
	}
	w.WriteHeader(code)
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // who hung up needs no answer
	}
}

func (x *handler) process(p *picture) (Status, answer) {
	a := answer{Checks: map[string]detail{}}
	degraded := false
	for i := range x.h.checks {
		a.Checks[x.h.checks[i].name] = x.detail(p, i)
		degraded = degraded || p.checks[i].state == Down
	}
	ok := p.names[""].status
	switch {
	case ok != Serving:
		a.Status = "unhealthy"
	case degraded:
		a.Status = "degraded"
	default:
		a.Status = "healthy"
	}
	return ok, a
}

func (x *handler) named(p *picture, name, yes, no string) (Status, answer) {
	a := answer{Status: no, Checks: map[string]detail{}}
	for _, i := range p.ready {
		a.Checks[x.h.checks[i].name] = x.detail(p, i)
	}
	ok := p.names[name].status
	if ok == Serving {
		a.Status = yes
	}
	return ok, a
}

func (x *handler) live(p *picture) (Status, answer) {
	a := answer{Status: "not alive", Checks: map[string]detail{}}
	for _, w := range p.dogs {
		d := detail{Status: "up"}
		if w.stalled {
			d.Status = "down"
		}
		if x.details {
			d.Since = stamp(w.since)
		}
		a.Checks[w.name] = d
	}
	ok := p.names[Liveness].status
	if ok == Serving {
		a.Status = "alive"
	}
	return ok, a
}

func (x *handler) detail(p *picture, i int) detail {
	s := x.h.checkSnapshot(p, i)
	d := detail{Status: s.State.String()}
	if !x.details {
		return d
	}
	d.Since = stamp(s.Since)
	if s.Probes > 0 {
		d.Latency = s.Latency.String()
	}
	if s.Err != nil {
		d.Error = text(s.Err)
	}
	return d
}

// maxText is how much of an error is told: those of others may hold whole pages.
const maxText = 1000

// text asks an error of the user's for its words, which may panic: then that is what is said.
func text(err error) (s string) {
	defer func() {
		if recover() != nil {
			s = "the error's own Error method panicked"
		}
	}()
	if s = err.Error(); len(s) > maxText {
		s = s[:maxText] + "..."
	}
	return s
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
