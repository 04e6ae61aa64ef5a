package steady

import (
	"runtime"
	"strings"
	"testing"

	"github.com/grpcsteady/steady/interceptors/breaker"
)

// TestNobodyGoesBackToAnOlderTable: whoever saw the rules before an update, and comes to renew his channel after it,
// must go by the new ones. Otherwise the channel is back under rules that are gone, and the next one to renew it drops
// the breakers that were made under the newest rules, with what they know.
//
// The late one is made by holding the lock that he needs, until he waits for it.
func TestNobodyGoesBackToAnOlderTable(t *testing.T) {
	o, err := NewOutbound(nil)
	if err != nil {
		t.Fatal(err)
	}
	ch := o.newChannel("x", nil)
	ch.method("/a.B/C", false)
	update := func(name string) {
		if err := o.Update([]Rule{{Name: name, Methods: []string{""}, Breaker: &breaker.Config{}}}); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 20 {
		ch.mu.Lock()
		update("old")
		done := make(chan struct{})
		go func() {
			defer close(done)
			ch.method("/a.B/C", false)
		}()
		waitUntilQueued(t)
		update("new")
		ch.mu.Unlock()
		if round%2 == 0 { // he is the first one under the new rules
			<-done
			if v := ch.view.Load(); v.table != o.table.Load() {
				t.Fatalf("round %d: the channel went back to the rules of %q", round, v.table.rules[0].Name)
			}
			continue
		}
		m := ch.method("/a.B/C", false) // somebody overtakes him, most of the time
		m.breaker.ForceOpen()
		<-done
		o.Snapshot()
		if got := ch.method("/a.B/C", false).breaker; got != m.breaker || got.State() != breaker.ForcedOpen {
			t.Fatalf("round %d: the breaker of the newest rules was lost: %v", round, got.State())
		}
	}
}

// waitUntilQueued returns when a goroutine waits for the lock of a channel.
func waitUntilQueued(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for range 1_000_000 {
		for g := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if strings.Contains(g, "[sync.Mutex.Lock") && strings.Contains(g, "(*channel).method") {
				return
			}
		}
		runtime.Gosched()
	}
	t.Fatal("nobody queued for the lock of the channel")
}
