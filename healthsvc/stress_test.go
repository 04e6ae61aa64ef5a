package healthsvc_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcsteady/steady/healthsvc"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// TestEverybodyAgrees: many goroutines change everything at once, in an order that the seed chooses; then every
// Watch was last told what Check answers and what the snapshot says, and what follows from checks, forces and
// declarations alone.
func TestEverybodyAgrees(t *testing.T) {
	for seed := range uint64(20) {
		steadytest.Run(t, func(t *testing.T) { everybodyAgrees(t, seed) })
	}
}

func everybodyAgrees(t *testing.T, seed uint64) {
	deps := []*dep{{}, {}, {}}
	opts := []healthsvc.Option{healthsvc.WithDrainWait(time.Hour)}
	for i, d := range deps {
		opts = append(opts, healthsvc.WithCheck(fmt.Sprint("c", i), d, healthsvc.Every(s), healthsvc.Fall(1), healthsvc.Rise(1)))
	}
	h, w := newHealth(t, opts...), newWorld(t)
	w.serve(h)
	names := []string{"", "readiness", "a", "b", "c", "d"}
	watches := map[string]*watch{}
	for _, name := range names {
		watches[name] = w.watch(name)
	}
	handler := h.Handler(healthsvc.Details())
	var all sync.WaitGroup
	for g := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, g))
		all.Go(func() {
			for range 60 {
				name := names[r.IntN(len(names))]
				switch r.IntN(12) {
				case 0, 1:
					_ = h.AddService(name, fmt.Sprint("c", r.IntN(3)))
				case 2:
					h.RemoveService(name)
				case 3:
					_ = h.Force(name, healthsvc.Status(r.IntN(2) == 0))
				case 4, 5:
					_ = h.Unforce(name)
				case 6:
					_ = h.Suspend()
				case 7:
					_ = h.Resume()
				case 8:
					deps[r.IntN(3)].set([]error{nil, errDown}[r.IntN(2)])
				case 9:
					if dog, err := h.Watchdog(name, s); err == nil {
						dog.Feed()
						time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
						dog.Feed()
						dog.Remove()
					}
				case 10:
					get(handler, "GET", "/health")
					h.Snapshot()
				case 11:
					x := w.watch(name)
					x.cancel()
				}
				time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
			}
		})
	}
	all.Wait()
	_ = h.Resume()
	time.Sleep(5 * s) // every check has found what is
	synctest.Wait()
	snap := h.Snapshot()
	up := map[string]bool{}
	ready := true
	for i, c := range snap.Checks {
		up[c.Name] = deps[i].err == nil
		if ready = ready && up[c.Name]; (c.State == healthsvc.Up) != up[c.Name] {
			t.Errorf("seed %d: %+v, the dependency has %v", seed, c, deps[i].err)
		}
	}
	answers := map[string]string{}
	readiness := ready
	for _, n := range snap.Names {
		answers[n.Name] = n.Status.String()
		want := ready
		switch {
		case n.Forced:
			want = n.Status == healthsvc.Serving
		case n.Name == "liveness" || n.Name == "startup":
			want = true
		case !n.Follows:
			want = true
			for _, c := range n.Checks {
				want = want && up[c]
			}
		case n.Name == "": // comes before readiness in the list
			continue
		}
		if n.Name == "readiness" {
			readiness = want
		}
		if healthsvc.Status(want) != n.Status {
			t.Errorf("seed %d: %+v, want %v", seed, n, want)
		}
	}
	if n := snap.Names[0]; !n.Forced && n.Status != healthsvc.Status(readiness) {
		t.Errorf("seed %d: %+v, readiness %v", seed, n, readiness)
	}
	for _, name := range names {
		told := watches[name].take()
		want, known := answers[name]
		check := want
		if !known {
			want, check = unknown, "NotFound"
		}
		if last := told[len(told)-1]; last != want || w.check(name) != check {
			t.Errorf("seed %d: %q was told %s last, Check says %s, the snapshot %s", seed, name, last, w.check(name), want)
		}
		for i := 1; i < len(told); i++ {
			if told[i] == told[i-1] {
				t.Errorf("seed %d: %q was told %s twice in a row", seed, name, told[i])
			}
		}
	}
	if snap.Watches != len(names) || snap.UnknownWatches != len(names)-count(names, answers) || len(snap.Watchdogs) != 0 {
		t.Errorf("seed %d: left: %+v", seed, snap)
	}
}

func count(names []string, answers map[string]string) (n int) {
	for _, name := range names {
		if _, ok := answers[name]; ok {
			n++
		}
	}
	return n
}
