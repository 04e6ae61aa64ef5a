package healthsvc_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/grpcsteady/steady/healthsvc"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

const (
	serving    = "SERVING"
	notServing = "NOT_SERVING"
	unknown    = "SERVICE_UNKNOWN"
)

// TestRegisters: the implementation fits the protocol's description, on a server that is stopped at once.
func TestRegisters(t *testing.T) {
	h := newHealth(t)
	srv := grpc.NewServer()
	h.Register(srv)
	if _, ok := srv.GetServiceInfo()["grpc.health.v1.Health"]; !ok {
		t.Errorf("registered: %v", srv.GetServiceInfo())
	}
	srv.Stop()
}

// TestNames: what each name is, while dependencies come and go.
func TestNames(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		db, cache, disk := &dep{}, &dep{}, &dep{}
		opts := func(more ...healthsvc.CheckOption) []healthsvc.CheckOption {
			return append(more, healthsvc.Jitter(0), healthsvc.Fall(1), healthsvc.Rise(1), healthsvc.Every(s), healthsvc.Suspect(s))
		}
		w := newWorld(t)
		echov1.RegisterEchoServer(w.srv, &echov1.UnimplementedEchoServer{})
		h := newHealth(t,
			healthsvc.WithCheck("database", db, opts()...),
			healthsvc.WithCheck("cache", cache, opts(healthsvc.Degrading())...),
			healthsvc.WithCheck("disk", disk, opts()...),
			healthsvc.WithService("orders.v1.Orders", "storage"), // a group that is declared later
			healthsvc.WithService("storage", "database", "disk", "database"),
			healthsvc.WithService("lookup.v1.Lookup", "cache"),
			healthsvc.WithService("echo.v1.Free"),
		)
		w.serve(h)
		time.Sleep(s / 2)
		all := []string{"", "readiness", "steady.echo.v1.Echo", "orders.v1.Orders", "storage", "lookup.v1.Lookup", "echo.v1.Free", "liveness", "startup"}
		check := func(when string, down ...string) {
			t.Helper()
			time.Sleep(s)
			for _, name := range all {
				want := serving
				if slices.Contains(down, name) {
					want = notServing
				}
				if got := w.check(name); got != want {
					t.Errorf("%s: %q is %s, want %s", when, name, got, want)
				}
			}
		}
		check("all up")
		db.set(errDown)
		check("database down", "", "readiness", "steady.echo.v1.Echo", "orders.v1.Orders", "storage")
		db.set(nil)
		cache.set(errDown)
		check("cache down", "lookup.v1.Lookup")
		cache.set(nil)
		check("all up again")
		for _, name := range []string{"nobody", "database", "grpc.health.v1.Health", strings.Repeat("x", 1<<20)} {
			if got := w.check(name); got != "NotFound" {
				t.Errorf("%.20q is %s, want NotFound", name, got)
			}
		}
		r, err := w.hc.List(within(t, s), &healthpb.HealthListRequest{})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(all)
		if got := slices.Sorted(maps.Keys(r.GetStatuses())); !slices.Equal(got, all) {
			t.Errorf("listed %q, want %q", got, all)
		}
		for name, st := range r.GetStatuses() {
			if st.GetStatus() != healthpb.HealthCheckResponse_SERVING {
				t.Errorf("listed %q as %v", name, st)
			}
		}
	})
}

func TestReadinessOfItsOwn(t *testing.T) {
	for _, tt := range []struct {
		deps []string
		want string
	}{{nil, serving}, {[]string{"cache"}, serving}, {[]string{"all"}, notServing}, {[]string{"database"}, notServing}} {
		steadytest.Run(t, func(t *testing.T) {
			w := newWorld(t)
			h := newHealth(t, healthsvc.WithReadiness(tt.deps...), healthsvc.WithService("all", "cache", "database"),
				healthsvc.WithCheck("database", &dep{err: errDown}), healthsvc.WithCheck("cache", &dep{}, healthsvc.Degrading()))
			w.serve(h)
			time.Sleep(s)
			if got := w.check(""); got != tt.want || w.check(healthsvc.Readiness) != got {
				t.Errorf("%v: %s, want %s", tt.deps, got, tt.want)
			}
		})
	}
}

// TestWatch: what it is told, when, and that it is told once.
func TestWatch(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		db := &dep{err: errDown}
		w := newWorld(t)
		h := newHealth(t, healthsvc.WithCheck("database", db, healthsvc.Jitter(0)), healthsvc.WithService("orders", "database"), healthsvc.WithService("free"))
		w.serve(h)
		start := time.Now()
		process, orders, free, later := w.watch(""), w.watch("orders"), w.watch("free"), w.watch("later")
		wantLines(t, process.take(), notServing)
		time.AfterFunc(10*s+s/2, func() { db.set(nil) })
		time.Sleep(15 * s)
		wantLines(t, process.take(), notServing, serving)
		wantLines(t, orders.take(), notServing, serving)
		wantLines(t, free.take(), serving)
		if at := orders.at[1].Sub(start); at != 11*s {
			t.Errorf("told at %v, want 11s", at)
		}

		wantLines(t, later.take(), unknown)
		if err := h.AddService("later", "orders"); err != nil {
			t.Fatal(err)
		}
		wantLines(t, later.take(), unknown, serving)
		if err := h.Force("later", healthsvc.NotServing); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := h.AddService("later"); err != nil { // keeps what was forced, and tells nothing twice
			t.Fatal(err)
		}
		synctest.Wait()
		if !h.RemoveService("later") || h.RemoveService("later") {
			t.Error("removed not once")
		}
		wantLines(t, later.take(), unknown, serving, notServing, unknown)
		if h.RemoveService("") || h.RemoveService("liveness") {
			t.Error("a name that always exists was removed")
		}
		if got := h.Snapshot(); got.Watches != 4 || got.UnknownWatches != 1 {
			t.Errorf("%d watches, %d of unknown names, want 4 and 1", got.Watches, got.UnknownWatches)
		}
		orders.cancel()
		wantLines(t, orders.take(), notServing, serving, "Canceled")
		later.cancel()
		synctest.Wait()
		if got := h.Snapshot(); got.Watches != 2 || got.UnknownWatches != 0 {
			t.Errorf("%d watches, %d of unknown names, want 2 and 0", got.Watches, got.UnknownWatches)
		}
	})
}

func TestForce(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		db := &dep{}
		w := newWorld(t)
		echov1.RegisterEchoServer(w.srv, &echov1.UnimplementedEchoServer{})
		h := newHealth(t, healthsvc.WithCheck("database", db, healthsvc.Jitter(0)), healthsvc.WithService("orders", "database"))
		w.serve(h)
		time.Sleep(s)
		state := func() []string {
			return []string{w.check(""), w.check("readiness"), w.check("steady.echo.v1.Echo"), w.check("orders"), w.check("liveness")}
		}
		wantLines(t, state(), serving, serving, serving, serving, serving)
		force := func(name string, st healthsvc.Status) {
			t.Helper()
			if err := h.Force(name, st); err != nil {
				t.Error(err)
			}
		}
		force("readiness", healthsvc.NotServing)
		wantLines(t, state(), notServing, notServing, notServing, serving, serving)
		force("orders", healthsvc.NotServing)
		force("", healthsvc.Serving)
		wantLines(t, state(), serving, notServing, notServing, notServing, serving)
		db.set(errDown)
		time.Sleep(20 * s)
		for _, name := range []string{"orders", "", "readiness"} {
			if err := h.Unforce(name); err != nil {
				t.Error(err)
			}
		}
		wantLines(t, state(), notServing, notServing, notServing, notServing, serving)
		force("orders", healthsvc.Serving)
		wantLines(t, state(), notServing, notServing, notServing, serving, serving)
		for _, name := range []string{"liveness", "startup", "nobody", strings.Repeat("x", 5000)} {
			if err := h.Force(name, healthsvc.NotServing); err == nil || len(err.Error()) > 300 {
				t.Errorf("%.20q: forced with %v", name, err)
			}
		}
	})
}

func TestListLimit(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		h := newHealth(t)
		w.serve(h)
		list := func() error {
			_, err := w.hc.List(within(t, s), &healthpb.HealthListRequest{})
			return err
		}
		for i := range 96 { // and the four that always exist
			if err := h.AddService(fmt.Sprint("s", i)); err != nil {
				t.Fatal(err)
			}
		}
		wantCode(t, list(), codes.OK)
		_ = h.AddService("one more")
		wantCode(t, list(), codes.ResourceExhausted)
		h.RemoveService("one more")
		wantCode(t, list(), codes.OK)
	})
}

// TestHostileClient: long names and watches of names that do not exist are bounded, and harm no other watch.
func TestHostileClient(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w, l := newWorld(t), newLog()
		h := newHealth(t, healthsvc.WithMaxUnknownWatches(50), healthsvc.WithMaxWatches(80), healthsvc.WithObserver(l))
		w.serve(h)
		end := func(name string) codes.Code {
			x := w.watch(name)
			x.take()
			select {
			case <-x.ended:
				return grpcCode(x.err)
			default:
				return codes.OK
			}
		}
		if got := end(strings.Repeat("x", 1025)); got != codes.InvalidArgument {
			t.Errorf("long name: %v", got)
		}
		counts := map[codes.Code]int{}
		for i := range 2000 {
			counts[end(fmt.Sprint(strings.Repeat("x", 1000), i))]++
		}
		if counts[codes.OK] != 50 || counts[codes.ResourceExhausted] != 1950 {
			t.Errorf("%v", counts)
		}
		time.Sleep(s)
		clear(counts)
		for range 100 {
			counts[end("")]++
		}
		if counts[codes.OK] != 30 || counts[codes.ResourceExhausted] != 70 {
			t.Errorf("%v", counts)
		}
		if snap := h.Snapshot(); snap.Watches != 80 || snap.UnknownWatches != 50 {
			t.Errorf("%d watches, %d unknown", snap.Watches, snap.UnknownWatches)
		}
		wantLines(t, l.take()[3:], "0s refused: the name is too long, 1", "1s refused: too many watches, 1952")
		if got := h.Snapshot().RefusedWatches; got != 1+1950+70 {
			t.Errorf("%d watches were refused", got)
		}
		// A service that comes takes its watches out of the count, and one that goes puts them back.
		name := fmt.Sprint(strings.Repeat("x", 1000), 0)
		if err := h.AddService(name); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := h.Snapshot().UnknownWatches; got != 49 {
			t.Errorf("%d unknown, want 49", got)
		}
		h.RemoveService(name)
		synctest.Wait()
		if got := h.Snapshot().UnknownWatches; got != 50 {
			t.Errorf("%d unknown, want 50", got)
		}
	})
}

// TestEndsWithWatchersOpen: nothing is left behind when the server is stopped hard.
func TestEndsWithWatchersOpen(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		h := newHealth(t, healthsvc.WithCheck("x", &dep{}))
		w.serve(h)
		a, b := w.watch(""), w.watch("unknown")
		synctest.Wait()
		w.srv.Stop()
		<-a.ended
		<-b.ended
		synctest.Wait()
		if got := h.Snapshot(); got.Watches != 0 || got.UnknownWatches != 0 {
			t.Errorf("left: %+v", got)
		}
	})
}
