package healthsvc_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/grpcsteady/steady/healthsvc"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// slow is a service whose calls take as long as their context allows, or longer.
type slow struct {
	echov1.UnimplementedEchoServer
	take   time.Duration
	ignore bool // the end of the context
}

func (s *slow) Get(ctx context.Context, _ *echov1.EchoRequest) (*echov1.EchoResponse, error) {
	if s.ignore {
		time.Sleep(s.take)
		return &echov1.EchoResponse{}, nil
	}
	select {
	case <-time.After(s.take):
		return &echov1.EchoResponse{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// call makes a call that takes its time and returns how it ended.
func (w *world) call() <-chan error {
	end := make(chan error, 1)
	ctx := within(w.t, time.Hour)
	go func() {
		_, err := echov1.NewEchoClient(w.conn).Get(ctx, &echov1.EchoRequest{})
		end <- err
	}()
	synctest.Wait()
	return end
}

// TestServe is the whole life, step by step: what is told, what is answered, and when.
func TestServe(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w, l, db := newWorld(t), newLog(), &dep{err: errDown}
		echov1.RegisterEchoServer(w.srv, &slow{take: 8 * s})
		h := newHealth(t, healthsvc.WithCheck("database", db, healthsvc.Jitter(0)), healthsvc.WithObserver(l))
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- h.Serve(ctx, w.srv, w.lis) }()
		synctest.Wait()
		process, live, startup := w.watch(""), w.watch("liveness"), w.watch("startup")
		wantLines(t, process.take(), notServing)
		wantLines(t, startup.take(), notServing)
		time.AfterFunc(3*s+s/2, func() { db.set(nil) })
		time.Sleep(10 * s)
		wantLines(t, process.take(), notServing, serving)
		wantLines(t, l.take(), `0s +["liveness"] -[] created`, "4s database starting->up", "4s starting->serving",
			`4s +["" "readiness" "startup" "steady.echo.v1.Echo"] -[] check database is up`)

		inFlight := w.call()
		cancel() // at 10 s
		wantLines(t, process.take(), notServing, serving, notServing)
		time.Sleep(2 * s) // the wait: connections and calls are taken
		if got := w.check("readiness"); got != notServing {
			t.Errorf("readiness is %s during the wait", got)
		}
		if got := w.check("liveness") + w.check("startup"); got != serving+serving {
			t.Errorf("liveness and startup are %s during the wait", got)
		}
		during := w.watch("steady.echo.v1.Echo")
		wantLines(t, during.take(), notServing)
		wantLines(t, w.watch("nobody").take(), unknown)
		conn, err := w.net.Dial(within(t, s), "a")
		if err != nil {
			t.Errorf("during the wait no connection is taken: %v", err)
		} else {
			_ = conn.Close()
		}
		if err := h.Resume(); !errors.Is(err, healthsvc.ErrStopping) {
			t.Errorf("Resume while Serve drains: %v", err)
		}
		time.Sleep(3*s + time.Millisecond) // 15.001 s
		for _, x := range []*watch{process, live, startup, during} {
			if got := x.take(); got[len(got)-1] != "Unavailable" || x.at[len(got)-1].Sub(l.start) != 15*s {
				t.Errorf("watch was told %q at %v, want its end at 15s", got, x.at)
			}
		}
		if _, err := w.net.Dial(within(t, s), "a"); err == nil {
			t.Error("after the wait a connection is taken")
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if at := time.Since(l.start); at != 18*s {
			t.Errorf("ended at %v, want 18s: when the call in flight had", at)
		}
		if err := <-inFlight; err != nil {
			t.Errorf("the call in flight: %v", err)
		}
		wantLines(t, l.take(), "10s serving->draining", `10s +[] -["" "readiness" "steady.echo.v1.Echo"] draining`,
			"15s draining->stopping", "18s stopping->stopped", `18s +[] -["liveness" "startup"] stopped`)
		if err := h.Drain(t.Context()); err != nil {
			t.Errorf("Drain after the end: %v", err)
		}
		if err := h.Suspend(); !errors.Is(err, healthsvc.ErrStopping) {
			t.Errorf("Suspend after the end: %v", err)
		}
		if err := h.Serve(t.Context(), grpc.NewServer(), w.lis); !errors.Is(err, healthsvc.ErrStopping) {
			t.Errorf("Serve after the end: %v", err)
		}
	})
}

// TestStopLimit: what does not end is cut off at the limit, also where handlers ignore their contexts.
func TestStopLimit(t *testing.T) {
	for _, ignore := range []bool{false, true} {
		steadytest.Run(t, func(t *testing.T) {
			w := newWorld(t)
			echov1.RegisterEchoServer(w.srv, &slow{take: time.Hour, ignore: ignore})
			h := newHealth(t)
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() { served <- h.Serve(ctx, w.srv, w.lis) }()
			synctest.Wait()
			inFlight := w.call()
			begin := time.Now()
			cancel()
			err := <-served
			if took := time.Since(begin); took != 25*s || !errors.Is(err, healthsvc.ErrCut) {
				t.Errorf("ended after %v with %v, want 25s and ErrCut", took, err)
			}
			wantCode(t, <-inFlight, codes.Unavailable)
			if ignore {
				time.Sleep(time.Hour) // the handler's own time
			}
		})
	}
}

func TestServeErrors(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		h := newHealth(t, healthsvc.WithCheck("x", &dep{}))
		_ = w.lis.Close()
		if err := h.Serve(t.Context(), w.srv, w.lis); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed listener: %v", err)
		}
		if p := h.Snapshot().Phase; p != healthsvc.PhaseStopped {
			t.Errorf("phase %v", p)
		}
		srv := grpc.NewServer()
		defer srv.Stop()
		healthpb.RegisterHealthServer(srv, health.NewServer())
		lis, err := w.net.Listen("b")
		if err != nil {
			t.Fatal(err)
		}
		if err := newHealth(t).Serve(t.Context(), srv, lis); err == nil {
			t.Error("another health service was taken for ours")
		}
	})
}

// TestServeSomebodyElseStops: the program stops its server itself.
func TestServeSomebodyElseStops(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		h := newHealth(t)
		served := make(chan error, 1)
		go func() { served <- h.Serve(t.Context(), w.srv, w.lis) }()
		synctest.Wait()
		open := make([]*watch, 20)
		for i := range open {
			open[i] = w.watch("")
		}
		synctest.Wait()
		h.Close() // ends the watch that GracefulStop would wait for
		w.srv.GracefulStop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		for _, x := range open { // what changed at the same instant is told before the end
			wantLines(t, x.take(), serving, notServing, "Unavailable")
		}
	})
}

// TestClosedThenDone: after Close the end of ctx still stops the server, at once.
func TestClosedThenDone(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		h := newHealth(t)
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- h.Serve(ctx, w.srv, w.lis) }()
		synctest.Wait()
		h.Close()
		begin := time.Now()
		cancel()
		if err := <-served; err != nil || time.Since(begin) != 0 {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}

// TestResume brings back what was set before and during a drain, and not that everything serves.
func TestResume(t *testing.T) {
	for _, how := range []string{"suspend", "drain"} {
		steadytest.Run(t, func(t *testing.T) {
			w, db := newWorld(t), &dep{err: errDown}
			h := newHealth(t, healthsvc.WithCheck("database", db, healthsvc.Jitter(0), healthsvc.Grace(0)), healthsvc.WithDrainWait(time.Minute),
				healthsvc.WithService("orders", "database"), healthsvc.WithService("a"), healthsvc.WithService("b"), healthsvc.WithService("gone"))
			w.serve(h)
			time.Sleep(10 * s)
			_ = h.Force("a", healthsvc.NotServing)
			open := w.watch("b")
			synctest.Wait()

			drained := make(chan error, 1)
			if how == "suspend" {
				if err := h.Suspend(); err != nil {
					t.Fatal(err)
				}
				drained <- healthsvc.ErrResumed
			} else {
				go func() { drained <- h.Drain(t.Context()) }()
			}
			wantLines(t, open.take(), serving, notServing)
			for _, name := range []string{"", "readiness", "orders", "a", "b", "gone"} {
				if got := w.check(name); got != notServing {
					t.Errorf("%s: %q is %s", how, name, got)
				}
			}
			if err := h.AddService("new"); err != nil {
				t.Fatal(err)
			}
			_ = h.Force("b", healthsvc.NotServing)
			_ = h.Force("gone", healthsvc.Serving)
			h.RemoveService("gone")
			if got := w.check("new") + w.check("liveness") + w.check("startup"); got != notServing+serving+serving {
				t.Errorf("%s: new, liveness, startup are %s", how, got)
			}
			time.Sleep(10 * s)
			if err := h.Resume(); err != nil {
				t.Fatal(err)
			}
			if err := <-drained; !errors.Is(err, healthsvc.ErrResumed) {
				t.Errorf("%s: %v", how, err)
			}
			for name, want := range map[string]string{
				"": notServing, "readiness": notServing, "orders": notServing, // the database is still down
				"a": notServing, "b": notServing, "new": serving, "gone": "NotFound", "liveness": serving, "startup": serving,
			} {
				if got := w.check(name); got != want {
					t.Errorf("%s: after Resume %q is %s, want %s", how, name, got, want)
				}
			}
			_ = h.Unforce("b")
			wantLines(t, open.take(), serving, notServing, serving)
			db.set(nil)
			time.Sleep(10 * s)
			if got := w.check(""); got != serving || h.Snapshot().Phase != healthsvc.PhaseServing {
				t.Errorf("%s: at last %s, %v", how, got, h.Snapshot().Phase)
			}
			if err := h.Resume(); err != nil {
				t.Errorf("a Resume too many: %v", err)
			}
			// And it can be drained after all.
			begin := time.Now()
			if err := h.Drain(t.Context()); err != nil || time.Since(begin) != time.Minute {
				t.Errorf("%s: Drain: %v after %v", how, err, time.Since(begin))
			}
			if err := h.Resume(); !errors.Is(err, healthsvc.ErrStopping) {
				t.Errorf("%s: Resume after the end: %v", how, err)
			}
		})
	}
}

// TestSuspendAtStart: the start goes on, and Resume goes back to where it is.
func TestSuspendAtStart(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		db := &dep{err: errDown}
		h := newHealth(t, healthsvc.WithCheck("database", db))
		h.Start()
		phases := []healthsvc.Phase{h.Snapshot().Phase}
		step := func(do func() error) {
			if err := do(); err != nil {
				t.Error(err)
			}
			phases = append(phases, h.Snapshot().Phase)
		}
		step(h.Suspend)
		step(h.Resume)
		step(h.Suspend)
		db.set(nil)
		time.Sleep(10 * s)
		step(h.Resume)
		want := []healthsvc.Phase{healthsvc.PhaseStarting, healthsvc.PhaseSuspended, healthsvc.PhaseStarting, healthsvc.PhaseSuspended, healthsvc.PhaseServing}
		if !slices.Equal(phases, want) {
			t.Errorf("phases %v, want %v", phases, want)
		}
	})
}

// TestDrainInAHurry: the end of its context skips the waits; a second Drain waits for the first.
func TestDrainInAHurry(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		echov1.RegisterEchoServer(w.srv, &slow{take: time.Hour})
		h := newHealth(t)
		w.serve(h)
		inFlight := w.call()
		ctx, cancel := context.WithTimeout(t.Context(), 3*s)
		defer cancel()
		begin := time.Now()
		second := make(chan error, 1)
		time.AfterFunc(s, func() { second <- h.Drain(context.Background()) })
		impatient := make(chan error, 1)
		time.AfterFunc(s, func() {
			ctx, cancel := context.WithTimeout(context.Background(), s)
			defer cancel()
			impatient <- h.Drain(ctx)
		})
		if err := h.Drain(ctx); !errors.Is(err, healthsvc.ErrCut) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain: %v", err)
		}
		if took := time.Since(begin); took != 3*s {
			t.Errorf("took %v, want 3s", took)
		}
		if err := <-second; !errors.Is(err, healthsvc.ErrCut) {
			t.Errorf("second Drain: %v", err)
		}
		if err := <-impatient; !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, healthsvc.ErrCut) {
			t.Errorf("impatient Drain: %v", err)
		}
		wantCode(t, <-inFlight, codes.Unavailable)
	})
}

func TestWatchdog(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w, l := newWorld(t), newLog()
		h := newHealth(t, healthsvc.WithObserver(l), healthsvc.WithCheck("database", &dep{err: errDown}))
		w.serve(h)
		live := w.watch("liveness")
		dog, err := h.Watchdog("loop", 10*s)
		if err != nil {
			t.Fatal(err)
		}
		l.take()
		for range 5 { // fed just in time
			time.Sleep(10*s - 1)
			dog.Feed()
		}
		wantLines(t, live.take(), serving)
		time.Sleep(20 * s)
		wantLines(t, live.take(), serving, notServing)
		dog.Feed()
		wantLines(t, live.take(), serving, notServing, serving)
		time.Sleep(10*s + 1)
		wantLines(t, live.take(), serving, notServing, serving, notServing)
		other, err := h.Watchdog("other", s)
		if err != nil {
			t.Fatal(err)
		}
		dog.Remove()
		dog.Remove()
		dog.Feed()
		wantLines(t, live.take(), serving, notServing, serving, notServing, serving)
		for name, limit := range map[string]time.Duration{"": s, "other": s, "x": 0, "y": 25 * time.Hour} {
			if _, err := h.Watchdog(name, limit); err == nil {
				t.Errorf("watchdog %q of %v was taken", name, limit)
			}
		}
		lines := l.take()
		for _, want := range []string{"59.999999995s loop stalled=true", "1m9.999999995s loop stalled=false", "1m19.999999995s loop stalled=true"} {
			if !slices.Contains(lines, want) {
				t.Errorf("no %q in %q", want, lines)
			}
		}
		h.Close()
		other.Feed()
		time.Sleep(time.Hour)
		if _, err := h.Watchdog("late", s); !errors.Is(err, healthsvc.ErrStopping) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// wrapped is a registrar around a server, as frameworks have them.
type wrapped struct{ grpc.ServiceRegistrar }

// TestServeBehindAWrapper: a service registered through somebody's registrar is the server's own.
func TestServeBehindAWrapper(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w := newWorld(t)
		echov1.RegisterEchoServer(w.srv, &echov1.UnimplementedEchoServer{})
		h := newHealth(t)
		h.Register(wrapped{w.srv})
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- h.Serve(ctx, w.srv, w.lis) }()
		synctest.Wait()
		open := w.watch("steady.echo.v1.Echo")
		wantLines(t, open.take(), serving)
		begin := time.Now()
		cancel()
		if err := <-served; err != nil || time.Since(begin) != 5*s {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		wantLines(t, open.take(), serving, notServing, "Unavailable")
	})
}

// TestTwoServersDrainTogether: one health service behind two ports.
func TestTwoServersDrainTogether(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		a, b := newWorld(t), newWorld(t)
		echov1.RegisterEchoServer(b.srv, &slow{take: 7 * s})
		h := newHealth(t)
		h.Register(a.srv)
		b.serve(h)
		served := make(chan error, 1)
		go func() { served <- a.srv.Serve(a.lis) }()
		inFlight := b.call()
		if got := a.check("steady.echo.v1.Echo"); got != serving {
			t.Errorf("the other server's service is %s", got)
		}
		begin := time.Now()
		if err := h.Drain(t.Context()); err != nil || time.Since(begin) != 7*s {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := <-inFlight; err != nil {
			t.Error(err)
		}
	})
}
