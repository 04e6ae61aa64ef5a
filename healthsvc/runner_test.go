package healthsvc_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcsteady/steady/healthsvc"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

const s = time.Second

// TestFallAndRise: a database that stops, exact to the interval.
func TestFallAndRise(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		d, l := &dep{}, newLog()
		h := newHealth(t, healthsvc.WithCheck("database", d, healthsvc.Jitter(0)), healthsvc.WithService("orders", "database"), healthsvc.WithObserver(l))
		h.Start()
		wantLines(t, l.take(), `0s +["liveness"] -[] created`, "0s database starting->up", "0s starting->serving",
			`0s +["" "orders" "readiness" "startup"] -[] check database is up`)

		time.AfterFunc(7*s, func() { d.set(errDown) }) // one probe is lost, at 10 s
		time.AfterFunc(10*s+s/2, func() { d.set(nil) })
		time.Sleep(20 * s)
		wantLines(t, l.take())

		time.AfterFunc(2*s+s/2, func() { d.set(errDown) }) // at 22.5 s
		time.Sleep(20 * s)
		wantLines(t, l.take(), "28s database up->down", `28s +[] -["" "orders" "readiness"] check database is down`)

		time.AfterFunc(s/2, func() { d.set(nil) })
		time.Sleep(10 * s)
		wantLines(t, l.take(), "44s database down->up", `44s +["" "orders" "readiness"] -[] check database is up`)

		want := []time.Duration{0, 5 * s, 10 * s, 11 * s, 16 * s, 21 * s, 26 * s, 27 * s, 28 * s, 33 * s, 38 * s, 43 * s, 44 * s, 49 * s}
		if got := d.probes(l.start); !slices.Equal(got, want) {
			t.Errorf("probes at %v, want %v", got, want)
		}
	})
}

// TestJitter: the injected source decides, and 10 % is the default.
func TestJitter(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		d, start := &dep{}, time.Now()
		us := []float64{0, 0.5, 0.75, 0.25}
		i := -1
		h := newHealth(t, healthsvc.WithCheck("x", d, healthsvc.Every(10*s)), healthsvc.WithRandom(func() float64 { i++; return us[i%4] }))
		h.Start()
		time.Sleep(40 * s)
		synctest.Wait()
		if got, want := d.probes(start), []time.Duration{0, 9 * s, 19 * s, 29*s + s/2, 39 * s}; !slices.Equal(got, want) {
			t.Errorf("probes at %v, want %v", got, want)
		}
	})
}

func TestGrace(t *testing.T) {
	for _, tt := range []struct {
		name string
		up   time.Duration // 0: never
		want []string
	}{
		{"comes up within", 4*s + s/2, []string{"5s x starting->up", "5s starting->serving", `5s +["" "readiness" "startup"] -[] check x is up`}},
		{"never comes up", 0, []string{"12s x starting->down", "12s starting->serving", `12s +["startup"] -[] check x is down`}},
	} {
		steadytest.Run(t, func(t *testing.T) {
			d, l := &dep{err: errDown}, newLog()
			h := newHealth(t, healthsvc.WithCheck("x", d, healthsvc.Jitter(0), healthsvc.Grace(10*s)), healthsvc.WithObserver(l))
			h.Start()
			if tt.up > 0 {
				time.AfterFunc(tt.up, func() { d.set(nil) })
			}
			time.Sleep(14 * s)
			wantLines(t, l.take()[1:], tt.want...)
		})
	}
}

// TestBadProbes: whatever user code does, it is a failed check, there is one goroutine, and it recovers.
func TestBadProbes(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(ctx context.Context) error
		want error
		down time.Duration // after the first bad probe
	}{
		{"panics", func(context.Context) error { panic("boom") }, healthsvc.ErrPanic, 2 * s},
		{"Goexit", func(context.Context) error { runtime.Goexit(); return nil }, healthsvc.ErrPanic, 2 * s},
		{"panics with nil", func(context.Context) error { panic(nil) }, healthsvc.ErrPanic, 2 * s}, //nolint:govet // on purpose
		{"until its timeout", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, healthsvc.ErrTimeout, 8 * s},
		{"late success", func(ctx context.Context) error { <-ctx.Done(); return nil }, healthsvc.ErrTimeout, 8 * s},
		{"ignores its context", func(context.Context) error { time.Sleep(2500 * time.Millisecond); return nil }, healthsvc.ErrTimeout, 8 * s},
	} {
		steadytest.Run(t, func(t *testing.T) {
			d, l := &dep{}, newLog()
			h := newHealth(t, healthsvc.WithCheck("x", d, healthsvc.Jitter(0)), healthsvc.WithObserver(l))
			h.Start()
			time.Sleep(s)
			l.take()
			d.act(tt.do)
			time.Sleep(4*s + tt.down) // first bad probe at 5 s
			synctest.Wait()
			c := h.Snapshot().Checks[0]
			if c.State != healthsvc.Down || !errors.Is(c.Err, tt.want) || c.Since.Sub(l.start) != 5*s+tt.down {
				t.Errorf("%s: %+v, want down after %v by %v", tt.name, c, 5*s+tt.down, tt.want)
			}
			d.set(nil)
			time.Sleep(10 * s)
			if c := h.Snapshot().Checks[0]; c.State != healthsvc.Up {
				t.Errorf("%s: does not come back: %+v", tt.name, c)
			}
		})
	}
}

// TestHungProbe: it keeps its one goroutine, counts as failed at each turn, and no second one begins beside it.
func TestHungProbe(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		d, l := &dep{}, newLog()
		h := newHealth(t, healthsvc.WithCheck("x", d, healthsvc.Jitter(0)), healthsvc.WithObserver(l))
		h.Start()
		time.Sleep(s)
		l.take()
		release := make(chan struct{})
		d.act(func(context.Context) error { <-release; return nil })
		time.Sleep(4 * s)
		synctest.Wait()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if n := strings.Count(string(stacks), "created by github.com/grpcsteady/steady/healthsvc.start "); n != 1 {
			t.Errorf("%d goroutines hang, want 1:\n%s", n, stacks)
		}
		if n := len(d.probes(l.start)); n != 2 {
			t.Errorf("%d probes were begun, want 2", n)
		}
		// 5 s, and 2 s until the timeout; then twice more after the short interval.
		wantLines(t, l.take(), "9s x up->down", `9s +[] -["" "readiness"] check x is down`)
		c := h.Snapshot().Checks[0]
		if !strings.Contains(c.Err.Error(), "still under way") || c.InARow < 100 || c.Failures != uint64(c.InARow) {
			t.Errorf("%+v", c)
		}
		d.set(nil)
		close(release)
		time.Sleep(10 * s)
		if c := h.Snapshot().Checks[0]; c.State != healthsvc.Up {
			t.Errorf("does not come back: %+v", c)
		}
	})
}

// TestCloseWaitsForProbes: those that mind their context at once, others at most for their timeout.
func TestCloseWaitsForProbes(t *testing.T) {
	for _, tt := range []struct {
		do   func(ctx context.Context, release chan struct{}) error
		want time.Duration
	}{
		{func(ctx context.Context, _ chan struct{}) error { <-ctx.Done(); time.Sleep(s / 4); return nil }, s / 4},
		{func(_ context.Context, release chan struct{}) error { <-release; return nil }, 3 * s / 2},
	} {
		steadytest.Run(t, func(t *testing.T) {
			d, release := &dep{}, make(chan struct{})
			defer close(release)
			d.act(func(ctx context.Context) error { return tt.do(ctx, release) })
			h := newHealth(t, healthsvc.WithCheck("x", d))
			h.Start()
			time.Sleep(s / 2)
			begin := time.Now()
			h.Close()
			h.Close()
			if took := time.Since(begin); took != tt.want {
				t.Errorf("Close took %v, want %v", took, tt.want)
			}
			h.Start()
			time.Sleep(time.Hour)
			if n := len(d.probes(begin)); n != 1 {
				t.Errorf("%d probes, one of them before Close", n)
			}
		})
	}
}

// TestObserversHurtNobody: one that blocks, panics or calls Goexit changes no check and no answer.
func TestObserversHurtNobody(t *testing.T) {
	for name, do := range map[string]func(chan struct{}){
		"blocks": func(c chan struct{}) { <-c },
		"panics": func(chan struct{}) { panic("observer") },
		"Goexit": func(chan struct{}) { runtime.Goexit() },
	} {
		steadytest.Run(t, func(t *testing.T) {
			d, release := &dep{}, make(chan struct{})
			h := newHealth(t, healthsvc.WithCheck("x", d, healthsvc.Jitter(0)), healthsvc.WithObserver(healthsvc.ObserverFunc(func(healthsvc.Event) { do(release) })))
			h.Start()
			time.Sleep(3*time.Hour + s)
			d.set(errDown)
			time.Sleep(8 * s)
			snap := h.Snapshot()
			if snap.Checks[0].State != healthsvc.Down || snap.Names[0].Status != healthsvc.NotServing {
				t.Errorf("%s: %+v", name, snap)
			}
			if lost := snap.LostEvents > 0; lost != (name == "blocks") {
				t.Errorf("%s: %d events lost", name, snap.LostEvents)
			}
			begin := time.Now()
			h.Close()
			if took := time.Since(begin); name == "blocks" && took != s || name != "blocks" && took != 0 {
				t.Errorf("%s: Close took %v", name, took)
			}
			close(release)
		})
	}
}
