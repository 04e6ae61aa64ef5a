package steady

import (
	"testing"

	"github.com/grpcsteady/steady/interceptors/breaker"
)

// TestNobodyGoesBackToAnOlderTable: a goroutine that saw the old rules and comes to renew its channel after an
// update must find the new ones, with the breakers that were made under them.
func TestNobodyGoesBackToAnOlderTable(t *testing.T) {
	rules := func(name string) []Rule {
		return []Rule{{Name: name, Methods: []string{""}, Breaker: &breaker.Config{}}}
	}
	o, err := NewOutbound(rules("old"))
	if err != nil {
		t.Fatal(err)
	}
	ch := o.newChannel("x", nil)
	ch.method("/a.B/C", false)
	if err := o.Update(rules("new")); err != nil {
		t.Fatal(err)
	}
	m := ch.method("/a.B/C", false)
	m.breaker.ForceOpen()
	ch.renew()
	o.Snapshot()
	if got := ch.method("/a.B/C", false).breaker; got != m.breaker || got.State() != breaker.ForcedOpen {
		t.Errorf("the breaker was lost: %v", got.State())
	}
}
