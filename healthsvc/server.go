package healthsvc

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// maxList is how many names a List may have by gRPC's protocol (gRFC A90).
const maxList = 100

// server is the service of the protocol. It only reads pictures.
type server struct {
	healthpb.UnimplementedHealthServer
	h *Health
}

func wire(s Status) healthpb.HealthCheckResponse_ServingStatus {
	if s == Serving {
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}

// Check answers NOT_FOUND for a name that does not exist, as the protocol says.
func (s server) Check(_ context.Context, in *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if n := s.h.picture().names[in.GetService()]; n != nil {
		return &healthpb.HealthCheckResponse{Status: wire(n.status)}, nil
	}
	return nil, status.Error(codes.NotFound, "unknown service")
}

// List answers RESOURCE_EXHAUSTED for more names than the protocol allows.
func (s server) List(context.Context, *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	names := s.h.picture().names
	if len(names) > maxList {
		return nil, status.Errorf(codes.ResourceExhausted, "there are %d services, and a list may have %d: ask by name", len(names), maxList)
	}
	statuses := make(map[string]*healthpb.HealthCheckResponse, len(names))
	for name, n := range names {
		statuses[name] = &healthpb.HealthCheckResponse{Status: wire(n.status)}
	}
	return &healthpb.HealthListResponse{Statuses: statuses}, nil
}

// Watch sends the status and then each change, newest first: a client that reads slowly misses what was in
// between, and holds up its own stream only. The stream ends with its client, or with UNAVAILABLE when the
// server stops; clients come back, then to another server.
func (s server) Watch(in *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	h, name := s.h, in.GetService()
	p := h.picture()
	n := p.names[name]
	if n == nil && len(name) > maxName {
		h.refuse("the name is too long")
		return status.Errorf(codes.InvalidArgument, "a service name of %d bytes, at most %d are allowed", len(name), maxName)
	}
	if open := h.watches.Add(1); open > int64(h.cfg.maxWatches) {
		h.watches.Add(-1)
		h.refuse("too many watches")
		return status.Errorf(codes.ResourceExhausted, "%d watches are open, which is the limit", h.cfg.maxWatches)
	}
	defer h.watches.Add(-1)
	w := watcher{h: h}
	defer w.known()
	if n == nil {
		if !w.strange(true) {
			h.refuse("too many watches of unknown names")
			return status.Errorf(codes.ResourceExhausted, "%d watches of unknown services are open, which is the limit", h.cfg.maxUnknown)
		}
	} else {
		name = n.name // the request, and all it holds, may go
	}
	return w.follow(name, stream)
}

// watcher is the state of one Watch beside its stream.
type watcher struct {
	h       *Health
	unknown bool // counted as a Watch of a name that does not exist
}

func (w *watcher) follow(name string, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	h, done := w.h, stream.Context().Done()
	last := healthpb.HealthCheckResponse_ServingStatus(-1)
	for ending := false; ; {
		p := h.picture()
		now, changed := healthpb.HealthCheckResponse_SERVICE_UNKNOWN, p.added
		if n := p.names[name]; n != nil {
			w.known()
			now, changed = wire(n.status), n.changed
		} else {
			w.strange(false)
		}
		if now != last {
			if err := stream.Send(&healthpb.HealthCheckResponse{Status: now}); err != nil {
				return status.FromContextError(stream.Context().Err()).Err()
			}
			last = now
		}
		if ending {
			return status.Error(codes.Unavailable, "the server stops")
		}
		select {
		case <-changed:
		case <-done:
			return status.FromContextError(stream.Context().Err()).Err()
		case <-h.ended:
			ending = true // what changed at the same instant is told first
		}
	}
}

// strange counts the Watch as one of an unknown name. It fails only if it may, at the limit: a service that is
// removed takes its Watches along.
func (w *watcher) strange(mayFail bool) bool {
	if w.unknown {
		return true
	}
	if open := w.h.unknown.Add(1); mayFail && open > int64(w.h.cfg.maxUnknown) {
		w.h.unknown.Add(-1)
		return false
	}
	w.unknown = true
	return true
}

// known takes that back.
func (w *watcher) known() {
	if w.unknown {
		w.h.unknown.Add(-1)
		w.unknown = false
	}
}

// refuse counts a refused Watch and tells of it once a second: the events of those who are refused must not
// push aside the others.
func (h *Health) refuse(reason string) {
	total, now := h.refused.Add(1), time.Now()
	last := h.refusedAt.Load()
	if last != nil && now.Sub(*last) < time.Second || !h.refusedAt.CompareAndSwap(last, &now) {
		return
	}
	h.notices.tell(&WatchRefused{Reason: reason, Total: total, At: now})
}

// picture returns what is answered now. The first call after a server was registered looks up its services:
// when calls come in, all of them are registered, as gRPC demands.
func (h *Health) picture() *picture {
	if h.unadopted.Load() {
		h.adopt()
	}
	return h.pic.Load()
}
