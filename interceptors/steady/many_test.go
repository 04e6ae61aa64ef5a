package steady_test

import (
	"fmt"
	"testing"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
)

// TestOneRuleForTenThousandMethods: each that is called has its own breaker, each that is not costs a name; the rule
// that drops them drops their state, and a rule that does not know one finds no trace of it.
func TestOneRuleForTenThousandMethods(t *testing.T) {
	const methods = 10_000
	names := make([]string, methods)
	for i := range names {
		names[i] = fmt.Sprintf("/s%d.S/M%d", i%100, i)
	}
	rec := new(recorder)
	full := []steady.Rule{{
		Name: "all", Methods: names, Retry: &retry.Config{}, Deadline: &deadline.Config{}, Breaker: &breaker.Config{}, PerMethod: true,
	}}
	c := newClient(t, always(answer{from: "a"}), full, steady.WithObserver(rec))
	for _, n := range names {
		if _, err := c.call(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.out.Snapshot().Channels[0].Breakers); n != methods {
		t.Errorf("%d breakers, want one for each of %d methods that the rule names", n, methods)
	}
	if told := of[steady.RetryLimited](rec); len(told) != 1 || !told[0].Undescribed || len(told[0].Methods) > 0 {
		t.Errorf("told %d times", len(told))
	}
	full[0].Methods = []string{""}
	if err := c.out.Update(full); err != nil {
		t.Fatal(err)
	}
	if err := c.out.Update(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.call(t.Context(), names[0]); err != nil {
		t.Fatal(err)
	}
	if snap := c.out.Snapshot(); len(snap.Channels[0].Breakers) != 0 || len(snap.Rules) != 0 {
		t.Errorf("%d breakers and %d rules after all were dropped", len(snap.Channels[0].Breakers), len(snap.Rules))
	}
}

// TestStrangersKeepTheirNames: methods beyond those that have state of their own share it, and are still told apart
// in events, stories and errors; only for labels are they no good.
func TestStrangersKeepTheirNames(t *testing.T) {
	rec := new(recorder)
	c := newClient(t, always(answer{err: unavailable("x"), from: "a"}), nil, steady.WithObserver(rec))
	const strangers = 1100
	for i := range strangers {
		_, _ = c.call(t.Context(), fmt.Sprintf("/stranger%d/M", i))
	}
	ended := of[steady.CallEnded](rec)
	for i, e := range ended {
		if want := fmt.Sprintf("/stranger%d/M", i); e.Method != want || e.Known {
			t.Fatalf("call %d is told of as %q, known %v", i, e.Method, e.Known)
		}
	}
	if len(ended) != strangers || ended[strangers-1].Memo != ended[strangers-2].Memo || ended[0].Memo == ended[1].Memo {
		t.Errorf("%d calls told", len(ended))
	}
}
