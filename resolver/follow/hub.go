package follow

import (
	"sync"

	_ "google.golang.org/grpc/health" // without it gRPC passes over a document's healthCheckConfig
)

// Hub holds the service config that channels are given where their resolvers bring none. The zero Hub has
// none. Its methods may be called from any goroutine.
type Hub struct {
	mu     sync.Mutex // guards what follows, and is held over nothing else
	config string
	conns  map[*conn]struct{} // built and not closed
}

// Set changes the service config for every push from now on; "" is none. It pushes nothing itself, so it may
// be called with locks held.
func (h *Hub) Set(config string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.config = config
}

// Push hands the service config to every channel for which it changes something. It calls into gRPC and its
// balancing policies: hold no lock.
func (h *Hub) Push() {
	h.mu.Lock()
	conns := make([]*conn, 0, len(h.conns))
	for c := range h.conns {
		conns = append(conns, c)
	}
	h.mu.Unlock()
	for _, c := range conns {
		c.refresh()
	}
}

func (h *Hub) current() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.config
}

func (h *Hub) add(c *conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conns == nil {
		h.conns = make(map[*conn]struct{})
	}
	h.conns[c] = struct{}{}
}

func (h *Hub) remove(c *conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
}
