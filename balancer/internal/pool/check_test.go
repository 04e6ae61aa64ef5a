package pool_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// doctor is the health service of every replica: it answers as the test says, and writes down when it was asked.
type doctor struct {
	mu    sync.Mutex
	sick  map[string]func(context.Context) error
	asked map[string][]time.Time
	names []string // services asked for
}

// register gives a replica its health service.
func (d *doctor) register(r *steadytest.Replica, s grpc.ServiceRegistrar) {
	healthpb.RegisterHealthServer(s, &clinic{doctor: d, name: r.Name()})
}

// say sets how a replica answers: an error, NOT_SERVING for nil, or well if answer is nil.
func (d *doctor) say(name string, answer func(context.Context) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sick == nil {
		d.sick = map[string]func(context.Context) error{}
	}
	d.sick[name] = answer
}

func (d *doctor) times(name string) []time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked[name])
}

func (d *doctor) services() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.names)
}

type clinic struct {
	healthpb.UnimplementedHealthServer
	doctor *doctor
	name   string
}

func (c *clinic) Check(ctx context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	d := c.doctor
	d.mu.Lock()
	if d.asked == nil {
		d.asked = map[string][]time.Time{}
	}
	d.asked[c.name] = append(d.asked[c.name], time.Now())
	d.names = append(d.names, r.GetService())
	answer := d.sick[c.name]
	d.mu.Unlock()
	if answer == nil {
		return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
	}
	if err := answer(ctx); err != nil {
		return nil, err
	}
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_NOT_SERVING}, nil
}

func notServing(context.Context) error { return nil }

func hangs(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func answers(code codes.Code) func(context.Context) error {
	return func(context.Context) error { return status.Error(code, "by the test") }
}

const exact = `"activeCheck":{"jitter":-1}`

// checkBed is a fleet of two whose replicas can be asked for their health.
func checkBed(t *testing.T, names ...string) (*bed, *doctor) {
	d := new(doctor)
	return newBed(t, names, steadytest.Services(d.register)), d
}

func TestCheckOutAfter15sBackAfter10s(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(context.Context) error
		late   time.Duration
	}{
		{"NOT_SERVING", notServing, 0},
		{"UNAVAILABLE", answers(codes.Unavailable), 0},
		{"NOT_FOUND", answers(codes.NotFound), 0}, // the server does not know the service that was asked for
		{"hangs", hangs, 2 * time.Second},         // a check that has no answer fails when its time is up
	} {
		for _, policy := range policies {
			steadytest.Run(t, func(t *testing.T) {
				b, d := checkBed(t, "a", "b")
				start := time.Now()
				conn := b.connected(serviceConfig(policy, `{`+exact+`,`+cold+`}`))
				d.say("a", tt.answer)
				time.Sleep(time.Until(start.Add(15*time.Second + tt.late - 1)))
				if got := b.out(); got != nil {
					t.Fatalf("%s: out before their time: %v", tt.name, got)
				}
				time.Sleep(1)
				if e := b.of("a"); e.Effective != 0 || !e.Unchecked || e.Reason != "health checks fail" {
					t.Fatalf("%s: 15 s and three failed checks later %+v", tt.name, e)
				}
				b.Forget()
				load(t, conn, 100, time.Second)
				if n := b.Replica("a").Count(); n != 0 {
					t.Errorf("%s: %d calls to who is out", tt.name, n)
				}
				d.say("a", nil)
				time.Sleep(time.Until(start.Add(25*time.Second - 1)))
				if got := b.out(); !slices.Equal(got, []string{"a"}) {
					t.Fatalf("%s: back before its time: out %v", tt.name, got)
				}
				time.Sleep(1)
				if got := b.out(); got != nil {
					t.Fatalf("%s: out %v after two good checks", tt.name, got)
				}
				if got, want := strings.Join(b.told(), "; "), "a out 0s (health checks fail); a back"; got != want {
					t.Errorf("%s: told %s, want %s", tt.name, got, want)
				}
				for i, at := range d.times("a") {
					if at.Sub(start) != time.Duration(i+1)*5*time.Second {
						t.Errorf("%s: asked at %v", tt.name, at.Sub(start))
					}
				}
			})
		}
	}
}

func TestOneFailedCheckIsNothing(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b, d := checkBed(t, "a", "b")
		b.connected(serviceConfig(weighted, `{`+exact+`}`))
		var n atomic.Int64
		d.say("a", func(context.Context) error { // fails two of three
			if n.Add(1)%3 == 0 {
				return nil
			}
			return status.Error(codes.Unimplemented, "as good as well")
		})
		d.say("b", func(ctx context.Context) error {
			if n.Add(1)%2 == 0 {
				return hangs(ctx)
			}
			return nil
		})
		time.Sleep(3 * time.Second)
		d.say("b", nil)
		time.Sleep(5 * time.Minute)
		if got := b.told(); len(got) != 0 {
			t.Errorf("told %v", got)
		}
	})
}

func TestServersWithoutHealthServiceAreHealthy(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		var asked atomic.Int64
		b := newBed(t, []string{"a", "b"}, steadytest.ServerOptions(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
			asked.Add(1)
			return status.Error(codes.Unimplemented, "unknown service grpc.health.v1.Health")
		})))
		b.connected(serviceConfig(weighted, `{`+exact+`}`))
		time.Sleep(time.Minute + time.Millisecond)
		if got := b.out(); got != nil {
			t.Errorf("out %v", got)
		}
		if n := asked.Load(); n != 24 {
			t.Errorf("asked %d times in a minute, want 12 times each", n)
		}
		b.pusher.push(serviceConfig(weighted, `{}`))
		time.Sleep(time.Minute)
		if n := asked.Load(); n != 24 {
			t.Errorf("asked %d times more after checks were switched off", n-24)
		}
	})
}

func TestCheckAsksForTheService(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b, d := checkBed(t, "a")
		b.connected(serviceConfig(weighted, `{"activeCheck":{"service":"orders","interval":"1s"}}`))
		time.Sleep(100 * time.Second)
		names := d.services()
		if n := len(names); n < 95 || n > 105 {
			t.Errorf("asked %d times in 100 s", n)
		}
		for _, name := range names {
			if name != "orders" {
				t.Fatalf("asked for %q", name)
			}
		}
		spread := map[time.Duration]int{}
		at := d.times("a")
		for i := range at[1:] {
			gap := at[i+1].Sub(at[i])
			spread[gap]++
			if gap < 900*time.Millisecond || gap > 1100*time.Millisecond {
				t.Errorf("%v between two checks, want 1s +- 10 %%", gap)
			}
		}
		if len(spread) < 20 {
			t.Errorf("jitter makes %d different gaps", len(spread))
		}
	})
}

// Checks belong to a connection: they end with it, and begin again with the next one.
func TestChecksStopAndGoOn(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b, d := checkBed(t, "a", "b")
		conn := b.connected(serviceConfig(weighted, `{`+exact+`,"panicThreshold":-1}`))
		time.Sleep(11 * time.Second)
		b.Replica("a").Crash()
		time.Sleep(time.Minute)
		if n := len(d.times("a")); n != 2 {
			t.Errorf("a was asked %d times", n)
		}
		b.Replica("a").Start()
		d.say("a", notServing)
		time.Sleep(20 * time.Second)
		if got := b.out(); !slices.Equal(got, []string{"a"}) {
			t.Errorf("out %v after it came back ill", got)
		}
		// What is known survives a reconnect.
		b.Replica("a").Drain()
		b.Replica("a").Start()
		time.Sleep(time.Second)
		if e := b.of("a"); !e.Unchecked || e.State != "ready" {
			t.Errorf("after a reconnect %+v", e)
		}
		d.say("a", nil)
		time.Sleep(11 * time.Second)
		if got := b.out(); got != nil {
			t.Errorf("out %v after it is well", got)
		}
		_ = conn.Close()
		synctest.Wait()
		n := len(d.times("a"))
		time.Sleep(time.Minute)
		if len(d.times("a")) != n {
			t.Error("asked after the channel was closed")
		}
	})
}

// A check that hangs does not hold up the end of a channel; that nothing is left behind is checked for the package.
func TestHungCheckDoesNotBlockClose(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b, d := checkBed(t, "a", "b")
		conn := b.connected(serviceConfig(weighted, `{`+exact+`}`))
		d.say("a", hangs)
		time.Sleep(5*time.Second + time.Millisecond)
		if len(d.times("a")) != 1 {
			t.Fatal("the test wants a check under way")
		}
		start := time.Now()
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("Close took %v", took)
		}
	})
}

// Checks that are switched off take their findings with them.
func TestChecksSwitchedOff(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b, d := checkBed(t, "a", "b")
		b.connected(serviceConfig(weighted, `{`+exact+`}`))
		d.say("a", notServing)
		time.Sleep(16 * time.Second)
		if got := b.out(); !slices.Equal(got, []string{"a"}) {
			t.Fatalf("out %v", got)
		}
		b.pusher.push(serviceConfig(weighted, `{}`))
		if e := b.of("a"); e.Effective == 0 || e.Unchecked {
			t.Errorf("after checks were switched off %+v", e)
		}
		if got, want := strings.Join(b.told(), "; "), "a out 0s (health checks fail); a back"; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
		b.pusher.push(serviceConfig(weighted, `{`+exact+`}`))
		time.Sleep(16 * time.Second)
		if got := b.out(); !slices.Equal(got, []string{"a"}) {
			t.Errorf("out %v after they were switched on again", got)
		}
	})
}

func TestPanicIgnoresChecks(t *testing.T) {
	for _, threshold := range []string{"0.5", "-1"} {
		steadytest.Run(t, func(t *testing.T) {
			b, d := checkBed(t, "a", "b", "c")
			conn := b.connected(serviceConfig(weighted, `{`+exact+`,`+cold+`,"panicThreshold":`+threshold+`}`))
			for _, name := range []string{"a", "b"} {
				d.say(name, notServing)
			}
			time.Sleep(16 * time.Second)
			want := map[string]int{"a": 100, "b": 100, "c": 100}
			if threshold == "-1" {
				want = map[string]int{"a": 0, "b": 0, "c": 300}
			}
			load(t, conn, 100, 3*time.Second)
			if got := b.Count(); got["a"] != want["a"] || got["b"] != want["b"] {
				t.Errorf("threshold %s, two of three ill: %v, want %v", threshold, got, want)
			}
			d.say("c", notServing)
			time.Sleep(16 * time.Second)
			if r := load(t, conn, 100, time.Second); r.Availability() != 1 {
				t.Errorf("threshold %s, all ill: %v", threshold, r)
			}
			b.quiet()
		})
	}
}

// gRPC's own client-side health checks go on working beside ours: they take the connection out of READY.
func TestBesideClientSideHealthChecks(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		servers := map[string]*health.Server{}
		b := newBed(t, []string{"a", "b"}, steadytest.Services(func(r *steadytest.Replica, s grpc.ServiceRegistrar) {
			servers[r.Name()] = health.NewServer()
			servers[r.Name()].SetServingStatus("orders", healthpb.HealthCheckResponse_SERVING)
			healthpb.RegisterHealthServer(s, servers[r.Name()])
		}))
		conn := b.connected(serviceConfig(weighted, `{"activeCheck":{"jitter":-1,"service":"orders"},`+cold+`}`, `"healthCheckConfig":{"serviceName":"orders"}`))
		load(t, conn, 100, time.Second)
		if got := b.Count(); got["a"] != 50 || got["b"] != 50 {
			t.Fatalf("%v", got)
		}
		servers["a"].SetServingStatus("orders", healthpb.HealthCheckResponse_NOT_SERVING)
		synctest.Wait()
		if e := b.of("a"); e.State == "ready" || e.Effective != 0 {
			t.Errorf("at once after the server said so: %+v", e)
		}
		b.Forget()
		if r := load(t, conn, 100, 10*time.Second); r.Availability() != 1 || b.Replica("a").Count() != 0 {
			t.Errorf("%v %v", r, b.Count())
		}
		servers["a"].SetServingStatus("orders", healthpb.HealthCheckResponse_SERVING)
		b.Forget()
		load(t, conn, 100, time.Second)
		if got := b.Count(); got["a"] < 48 || got["b"] < 48 {
			t.Errorf("after it is back: %v; %v", got, b.told())
		}
	})
}
