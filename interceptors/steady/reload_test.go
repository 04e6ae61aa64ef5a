package steady_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/proto/document"
)

// reloadDoc is document number n: its rule is called by the number, and its policy follows from it. A hundred
// further rules make it large enough to be missed if it is kept.
func reloadDoc(n int) string {
	policy := []string{"round_robin", "pick_first"}[n%2]
	var b strings.Builder
	fmt.Fprintf(&b, "loadBalancingConfig: [{%s: {}}]\nmethodConfig:\n- {name: [{service: steady.echo.v1.Echo}], rule: r%d, deadline: {default: 2s}, "+
		"retryPolicy: {}, idempotent: true, breaker: {}}\n", policy, n)
	for i := range 100 {
		fmt.Fprintf(&b, "- {name: [{service: orders.v1.Orders, method: Get%d}], retryPolicy: {}, breaker: {}}\n", i)
	}
	return b.String()
}

// TestReloadUnderLoad: a hundred documents in a row, good and bad ones in turn, while calls go on: no call
// fails, rules and balancer come from the same document, each bad one is refused with its line, and nothing is
// left of those before.
func TestReloadUnderLoad(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "orders.yaml")
		write(t, path, reloadDoc(0))
		var ev events
		out, err := steady.Load(path, steady.WithObserver(&ev))
		if err != nil {
			t.Fatal(err)
		}
		fleet := steadytest.NewFleet(t)
		conn := dialNamed(t, fleet, out)

		watching, stopWatching := context.WithCancel(t.Context())
		watched := make(chan error, 1)
		now := make(chan struct{})
		go func() { watched <- out.Watch(watching, document.OnDemand(now), document.Every(time.Hour)) }()

		loading, stopLoading := context.WithCancel(t.Context())
		loaded := make(chan *steadytest.Result, 1)
		var reports atomic.Int64 // calls that the rule of the moment was for
		var expect atomic.Pointer[string]
		go func() {
			loaded <- steadytest.Load{Rate: 100, For: time.Hour, Call: func(_ context.Context, i int) error {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // the end of the load must not end calls
				defer cancel()
				var report steady.Report
				_, err := echov1.NewEchoClient(conn).Get(ctx, &req{}, steady.ReportTo(&report))
				if want := expect.Load(); want != nil && report.Rule != *want {
					t.Errorf("call %d went by rule %s, want %s", i, report.Rule, *want)
				} else if want != nil {
					reports.Add(1)
				}
				return err
			}}.Run(loading)
		}()

		good := "r0"
		replicas := 3
		var first uint64
		for n := 1; n <= 100; n++ {
			expect.Store(nil)
			bad := ""
			if n%2 == 0 {
				bad = strings.Replace(reloadDoc(n), "retryPolicy: {}", "retryPolicy: {maxAttempts: 6}", 1)
				write(t, path, bad)
			} else {
				// 1, 2, 3, ... of the good ones, so that policies take turns.
				write(t, path, reloadDoc(n/2+1))
				good = fmt.Sprintf("r%d", n/2+1)
				replicas = []int{3, 1}[(n/2+1)%2]
			}
			now <- struct{}{}
			time.Sleep(time.Second)
			got := ev.reloads()
			last := got[len(got)-1]
			if len(got) != n+1 || (last.Err != nil) != (bad != "") {
				t.Fatalf("document %d: %d reloads, the last %v", n, len(got), last.Err)
			}
			if bad != "" && !strings.HasPrefix(last.Err.Error(), path+":3:") {
				t.Errorf("document %d: %v, want line 3 of the file", n, last.Err)
			}
			fleet.Forget()
			want := good
			expect.Store(&want)
			time.Sleep(time.Second)
			seen := 0
			for _, calls := range fleet.Count() {
				seen += min(calls, 1)
			}
			if seen != replicas {
				t.Errorf("document %d: %d replicas got calls, want %d", n, seen, replicas)
			}
			if n == 20 {
				first = heap()
			}
		}
		if last := heap(); last > first+4<<20 {
			t.Errorf("%d KiB in use after 100 reloads, %d KiB after 20", last>>10, first>>10)
		}
		stopLoading()
		result := <-loaded
		if result.OK != result.Calls || result.Calls < 19_000 || reports.Load() < 9_500 {
			t.Errorf("%v, %d of them looked at", result, reports.Load())
		}
		stopWatching()
		if err := <-watched; err != nil {
			t.Error(err)
		}
	})
}

// heap returns the bytes in use, garbage not counted.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what the first one has finalized
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
