package healthsvc_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcsteady/steady/healthsvc"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// TestSlog: transitions, and no line for a probe.
func TestSlog(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		var b bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		db := &dep{}
		opts := []healthsvc.Option{
			healthsvc.WithCheck("database", db, healthsvc.Jitter(0)), healthsvc.WithObserver(healthsvc.SlogObserver(logger)), healthsvc.WithReadiness(),
		}
		for i := range 12 {
			opts = append(opts, healthsvc.WithService(fmt.Sprintf("s%02d", i), "database"))
		}
		h := newHealth(t, opts...)
		h.Start()
		dog, err := h.Watchdog("loop", 100*s)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(s)
		synctest.Wait()
		b.Reset()
		time.Sleep(90 * s) // 18 good probes
		db.set(errDown)
		time.Sleep(13 * s) // 3 failed ones, and the watchdog
		db.set(nil)
		dog.Feed()
		time.Sleep(10 * s)
		h.Close()
		want := `level=WARN msg="health check changed" check=database class=critical from=up to=down error="connection refused"
level=WARN msg="not serving" services=12 names="[s00 s01 s02 s03 s04 s05 s06 s07 s08 s09]" reason="check database is down"
level=ERROR msg="watchdog not fed in time" watchdog=loop limit=1m40s
level=WARN msg="not serving" services=1 names=[liveness] reason="watchdog loop was not fed in time"
level=INFO msg="watchdog fed again" watchdog=loop
level=INFO msg=serving services=1 names=[liveness] reason="watchdog loop is fed again"
level=INFO msg="health check changed" check=database class=critical from=down to=up
level=INFO msg=serving services=12 names="[s00 s01 s02 s03 s04 s05 s06 s07 s08 s09]" reason="check database is up"
level=INFO msg="health phase changed" from=serving to=stopped
level=WARN msg="not serving" services=16 names="[ liveness readiness s00 s01 s02 s03 s04 s05 s06]" reason=stopped
`
		if got := b.String(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

// attached takes the snapshot function, as metrics do.
type attached struct {
	diary
	snapshot func() healthsvc.Snapshot
}

func (a *attached) Attach(snapshot func() healthsvc.Snapshot) { a.snapshot = snapshot }

// TestEventsAndSnapshot: both tell the same, probe by probe.
func TestEventsAndSnapshot(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		a, db := &attached{diary: diary{start: time.Now()}}, &dep{}
		h := newHealth(t, healthsvc.WithObserver(a), healthsvc.WithCheck("database", db, healthsvc.Jitter(0), healthsvc.Degrading()), healthsvc.WithService("orders", "database"))
		_ = h.Force("orders", healthsvc.NotServing)
		h.Start()
		time.AfterFunc(12*s, func() { db.set(errDown) })
		time.Sleep(20 * s)
		synctest.Wait()
		ended, failed := 0, 0
		for _, e := range a.all {
			if e, ok := e.(*healthsvc.CheckEnded); ok {
				if e.Check != "database" || e.Class != healthsvc.ClassDegrading {
					t.Errorf("%+v", e)
				}
				if ended++; e.Err != nil {
					failed++
				}
			}
		}
		snap := a.snapshot()
		c := snap.Checks[0]
		if c.Probes != uint64(ended) || c.Failures != uint64(failed) || ended != 6 || failed != 3 || c.InARow != 3 ||
			c.State != healthsvc.Down || c.Since.Sub(a.start) != 17*s || c.At.Sub(a.start) != 17*s {
			t.Errorf("%d probes, %d failed; snapshot %+v", ended, failed, c)
		}
		want := `{ SERVING 0s false true []} {liveness SERVING 0s false true []} {orders NOT_SERVING 0s true false [database]} {readiness SERVING 0s false true []} {startup SERVING 0s false true []}`
		var got []string
		for _, n := range snap.Names {
			got = append(got, fmt.Sprintf("{%s %v %v %v %v %v}", n.Name, n.Status, n.Since.Sub(a.start), n.Forced, n.Follows, n.Checks))
		}
		if g := strings.Join(got, " "); g != want {
			t.Errorf("got\n%s\nwant\n%s", g, want)
		}
	})
}

func TestStrings(t *testing.T) {
	odd := regexp.MustCompile(`^(State|Class|Phase)\(99\)$`)
	for _, v := range []fmt.Stringer{healthsvc.State(99), healthsvc.Class(99), healthsvc.Phase(99)} {
		if !odd.MatchString(v.String()) {
			t.Error(v)
		}
	}
}
