package healthsvc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/healthsvc"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// newHealth returns a service that ends with the test.
func newHealth(t testing.TB, opts ...healthsvc.Option) *healthsvc.Health {
	t.Helper()
	h, err := healthsvc.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

var errDown = errors.New("connection refused")

// dep is a dependency that can be stopped and mended, and that remembers when it was asked.
type dep struct {
	mu    sync.Mutex
	err   error
	asked []time.Time
	do    func(ctx context.Context) error // instead of err
}

func (d *dep) Check(ctx context.Context) error {
	d.mu.Lock()
	d.asked = append(d.asked, time.Now())
	do, err := d.do, d.err
	d.mu.Unlock()
	if do != nil {
		return do(ctx)
	}
	return err
}

func (d *dep) set(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err, d.do = err, nil
}

func (d *dep) act(do func(ctx context.Context) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.do = do
}

// probes returns when it was asked, in time since the start of the test.
func (d *dep) probes(start time.Time) (all []time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, at := range d.asked {
		all = append(all, at.Sub(start))
	}
	return all
}

// diary is an observer that writes down what happened when.
type diary struct {
	start time.Time
	mu    sync.Mutex
	lines []string
	all   []healthsvc.Event
}

func newLog() *diary { return &diary{start: time.Now()} }

func (l *diary) Observe(e healthsvc.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, e)
	switch e := e.(type) {
	case *healthsvc.CheckChanged:
		l.lines = append(l.lines, fmt.Sprintf("%v %s %v->%v", e.At.Sub(l.start), e.Check, e.From, e.To))
	case *healthsvc.ServingChanged:
		l.lines = append(l.lines, fmt.Sprintf("%v +%q -%q %s", e.At.Sub(l.start), e.Serving, e.NotServing, e.Reason))
	case *healthsvc.PhaseChanged:
		l.lines = append(l.lines, fmt.Sprintf("%v %v->%v", e.At.Sub(l.start), e.From, e.To))
	case *healthsvc.WatchdogChanged:
		l.lines = append(l.lines, fmt.Sprintf("%v %s stalled=%v", e.At.Sub(l.start), e.Watchdog, e.Stalled))
	case *healthsvc.WatchRefused:
		l.lines = append(l.lines, fmt.Sprintf("%v refused: %s, %d", e.At.Sub(l.start), e.Reason, e.Total))
	}
}

func (l *diary) take() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n\t%q\nwant\n\t%q", got, want)
	}
}

// world is a gRPC server with the health service, on a network in memory.
type world struct {
	t    *testing.T
	net  *steadytest.Network
	srv  *grpc.Server
	lis  net.Listener
	conn *grpc.ClientConn
	hc   healthpb.HealthClient
}

func newWorld(t *testing.T, opts ...grpc.ServerOption) *world {
	t.Helper()
	w := &world{t: t, net: steadytest.NewNetwork(), srv: grpc.NewServer(opts...)}
	var err error
	if w.lis, err = w.net.Listen("a"); err != nil {
		t.Fatal(err)
	}
	w.conn = w.dial()
	w.hc = healthpb.NewHealthClient(w.conn)
	return w
}

func (w *world) dial(opts ...grpc.DialOption) *grpc.ClientConn {
	w.t.Helper()
	conn, err := grpc.NewClient("passthrough:///a", append([]grpc.DialOption{
		grpc.WithContextDialer(w.net.Dial), insecureCreds, grpc.WithDisableServiceConfig(),
	}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// serve registers h and serves in the background; the test's end stops it.
func (w *world) serve(h *healthsvc.Health) {
	w.t.Helper()
	h.Register(w.srv)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.srv.Serve(w.lis)
	}()
	w.t.Cleanup(func() { // after the health service's Close, and before the channel's
		w.srv.Stop()
		<-done
	})
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// check asks for a name and returns SERVING, NOT_SERVING, or the code of the error.
func (w *world) check(name string) string {
	w.t.Helper()
	r, err := w.hc.Check(within(w.t, time.Minute), &healthpb.HealthCheckRequest{Service: name})
	if err != nil {
		return status.Code(err).String()
	}
	return r.GetStatus().String()
}

// watch is an open Watch.
type watch struct {
	stream healthpb.Health_WatchClient
	cancel context.CancelFunc
	mu     sync.Mutex
	seen   []string
	at     []time.Time
	ended  chan struct{}
	err    error
}

// watch watches a name and writes down what it is told, and the code of the end.
func (w *world) watch(name string) *watch {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Hour)
	w.t.Cleanup(cancel)
	stream, err := w.hc.Watch(ctx, &healthpb.HealthCheckRequest{Service: name})
	if err != nil {
		w.t.Fatal(err)
	}
	x := &watch{stream: stream, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(x.ended)
		for {
			r, err := stream.Recv()
			x.mu.Lock()
			x.at = append(x.at, time.Now())
			if err != nil {
				x.err = err
				x.seen = append(x.seen, status.Code(err).String())
				x.mu.Unlock()
				return
			}
			x.seen = append(x.seen, r.GetStatus().String())
			x.mu.Unlock()
		}
	}()
	return x
}

func (x *watch) take() []string {
	synctest.Wait()
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.seen)
}

func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("got %v, want code %v", err, want)
	}
}

func TestMain(m *testing.M) {
	if served() {
		return
	}
	steadytest.Main(m)
}

var insecureCreds = grpc.WithTransportCredentials(insecure.NewCredentials())

func grpcCode(err error) codes.Code { return status.Code(err) }
