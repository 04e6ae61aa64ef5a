package main

import (
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// The services of the hierarchy are the echo service of one fleet on replicas of their own: what a replica's
// name stands for decides what it calls.
const echoService = "steady.echo.v1.Echo"

// hierarchy is the guide's: client -> gateway -> service A -> database and service B.
type hierarchy struct {
	network *steadytest.Network
	fleets  map[string]*steadytest.Fleet
	client  echov1.EchoClient
	start   time.Time // of the last call

	mu    sync.Mutex
	ended map[string]time.Time // when the last call to a service ended, as its caller saw it
}

// call makes a call of the user's, who has set no deadline, and returns how long it took.
func (h *hierarchy) call() (time.Duration, error) {
	h.start = time.Now()
	_, err := h.client.Get(context.Background(), &echov1.EchoRequest{})
	return time.Since(h.start), err
}

func newHierarchy(t *testing.T) *hierarchy {
	h := &hierarchy{network: steadytest.NewNetwork(), fleets: map[string]*steadytest.Fleet{}, ended: map[string]time.Time{}}
	t.Cleanup(h.network.Close)
	database := h.serve(t, "database", guideDatabase)
	serviceB := h.serve(t, "service B", guideServiceB)
	serviceA := h.serve(t, "service A", guideServiceA,
		h.dial(t, database, guideDatabase), h.dial(t, serviceB, guideServiceB))
	gateway := h.serve(t, "gateway", guideGateway, h.dial(t, serviceA, guideServiceA))
	h.client = h.dial(t, gateway, guideClient)
	return h
}

// serve starts a service that calls its children one after the other and gives up with the first that fails.
func (h *hierarchy) serve(t *testing.T, name string, limit time.Duration, children ...echov1.EchoClient) *steadytest.Fleet {
	t.Helper()
	in, err := steady.NewInbound([]steady.Rule{guideLimit(echoService, limit)})
	if err != nil {
		t.Fatal(err)
	}
	f := steadytest.NewFleet(t, steadytest.OnNetwork(h.network), steadytest.Replicas(name),
		steadytest.ServerOptions(in.ServerOptions()...),
		steadytest.ServerOptions(grpc.ChainUnaryInterceptor(
			func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				for _, child := range children {
					if _, err := child.Get(ctx, &echov1.EchoRequest{}); err != nil {
						return nil, err
					}
				}
				return handler(ctx, req)
			})))
	h.fleets[name] = f
	return f
}

// dial opens the channel of the one service that calls f, under the rule for f.
func (h *hierarchy) dial(t *testing.T, f *steadytest.Fleet, limit time.Duration) echov1.EchoClient {
	t.Helper()
	name := f.Replicas()[0].Name()
	out, err := steady.NewOutbound([]steady.Rule{guideLimit(echoService, limit)},
		steady.WithObserver(steady.ObserverFunc(func(e steady.Event) {
			if e, ok := e.(*steady.CallEnded); ok {
				h.mu.Lock()
				defer h.mu.Unlock()
				h.ended[name] = e.Start.Add(e.Duration)
			}
		})))
	if err != nil {
		t.Fatal(err)
	}
	return echov1.NewEchoClient(f.Dial(out.DialOptions()...))
}

func TestGuideHierarchy(t *testing.T) {
	tests := []struct {
		sick string
		how  string
		want time.Duration
	}{
		// A handler that hangs is ended by its own service's rule ...
		{"database", "hangs", guideDatabase},
		{"service B", "hangs", guideServiceB},
		{"service A", "hangs", guideServiceA},
		{"gateway", "hangs", guideGateway},
		// ... and a host that is gone without a word by its caller's.
		{"database", "is gone", guideDatabase},
		{"service B", "is gone", guideServiceB},
		{"service A", "is gone", guideServiceA},
		{"gateway", "is gone", guideClient},
	}
	sicken := map[string]func(*steadytest.Replica){
		"hangs":   func(r *steadytest.Replica) { r.Behave(steadytest.Hanging(1)) },
		"is gone": (*steadytest.Replica).BlackHole,
	}
	for _, test := range tests {
		t.Run(test.sick+" "+test.how, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				h := newHierarchy(t)
				if _, err := h.call(); err != nil { // all connections stand
					t.Fatal(err)
				}
				sicken[test.how](h.fleets[test.sick].Replica(test.sick))
				took, err := h.call()
				if took != test.want || status.Code(err) != codes.DeadlineExceeded {
					t.Errorf("the client got %v after %v, want DEADLINE_EXCEEDED after %v", err, took, test.want)
				}
				h.mu.Lock()
				defer h.mu.Unlock()
				if got := h.ended[test.sick].Sub(h.start); got != test.want {
					t.Errorf("the call to %s ended after %v, want %v", test.sick, got, test.want)
				}
			})
		})
	}
}

// Every step had time left when its child failed: the failure came up as an answer, not as a timeout of each
// step of its own, and what a service was given is less than what its caller had.
func TestGuideParentOutlastsChild(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		h := newHierarchy(t)
		if _, err := h.call(); err != nil {
			t.Fatal(err)
		}
		steps := []struct {
			name string
			want time.Duration // what the wire said on arrival; the gateway's own rule makes 50 s of 60
		}{
			{"gateway", guideClient}, {"service A", guideServiceA}, {"database", guideDatabase}, {"service B", guideServiceB},
		}
		for _, step := range steps {
			calls := h.fleets[step.name].Calls()
			if len(calls) != 1 || !calls[0].HasDeadline || calls[0].Remaining != step.want {
				t.Errorf("%s was given %+v, want one call with %v", step.name, calls, step.want)
			}
		}
	})
}
