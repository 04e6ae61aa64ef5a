package steady_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/fault"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

func TestSlogObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		c := newClient(t, always(answer{err: unavailable("down"), from: "a"}),
			[]steady.Rule{{Name: "r", Methods: []string{""}, Breaker: &countOnly, Retry: &retry.Config{MaxAttempts: 2}}}, wide,
			steady.WithObserver(steady.SlogObserver(logger)))
		for range 4 {
			_, _ = c.call(t.Context(), get)
		}
		_ = c.out.Update([]steady.Rule{{}})
		for _, want := range []string{
			`level=INFO msg="rules in force" rules=1 mode=enforce`,
			`level=WARN msg="retries limited to attempts that never left the client" rule=r`,
			`level=WARN msg="circuit breaker changed" channel="" rule=r method="" from=closed to=open`,
			`level=WARN msg="call failed" channel="" story="steady.echo.v1.Echo/Get: UNAVAILABLE after 2 attempts`,
			`level=ERROR msg="rules refused, the old ones stay in force"`,
		} {
			if !strings.Contains(buf.String(), want) {
				t.Errorf("the log misses %s:\n%s", want, buf.String())
			}
		}
	})
	if steady.SlogObserver(nil) == nil {
		t.Error("nil logs to the default logger")
	}
}

// TestOwnBreakerIsAGate holds the breaker against the contract that every gate must keep.
func TestOwnBreakerIsAGate(t *testing.T) {
	steadytest.TestGate(t, func() steadytest.Gate {
		b, err := breaker.New(breaker.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
}

func TestFaultsOnBothSides(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		injector := func(r fault.Rule) *fault.Injector {
			i, err := fault.New(1, []fault.Rule{r}, fault.WithLogger(slog.New(slog.DiscardHandler)))
			if err != nil {
				t.Fatal(err)
			}
			return i
		}
		server := injector(fault.Rule{Name: "server says no", Share: 1, Code: uint32(codes.Unavailable), Message: "injected"})
		client := injector(fault.Rule{Name: "slow road", Share: 1, Delay: time.Second})
		rec := new(recorder)
		in, err := steady.NewInbound(nil, steady.WithFaults(server), steady.WithObserver(rec))
		if err != nil {
			t.Fatal(err)
		}
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(in.ServerOptions()...))
		out := outbound(t, nil, steady.WithFaults(client), steady.WithObserver(rec))
		call := steadytest.Get(dial(fleet, out))
		if err := call(within(t, time.Minute), 0); err != nil {
			t.Fatalf("%v: an injector is off until it is enabled", err)
		}
		server.Enable()
		wantCode(t, call(within(t, time.Minute), 0), codes.Unavailable)
		client.Enable()
		start := time.Now()
		wantCode(t, call(within(t, time.Minute), 0), codes.Unavailable)
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v, want the injected second", took)
		}
		if !out.Snapshot().Faults {
			t.Error("the snapshot does not say that faults are on")
		}
		told := of[steady.FaultInjected](rec)
		if len(told) != 3 || !told[0].Server || told[0].Fault != "server says no" || told[1].Server || told[1].Delay != time.Second {
			t.Errorf("%d events: %+v", len(told), told)
		}
		client.Disable()
		server.Disable()
		if err := call(within(t, time.Minute), 0); err != nil {
			t.Error(err)
		}
		// A drop ends with the caller's deadline, on either side.
		drop := injector(fault.Rule{Name: "drop", Share: 1, Drop: true})
		drop.Enable()
		dropping := steadytest.Get(dial(fleet, outbound(t, nil, steady.WithFaults(drop))))
		err = dropping(within(t, 2*time.Second), 0)
		wantCode(t, err, codes.DeadlineExceeded)
		if errors.Is(err, fault.ErrInjected) {
			t.Error("a drop looks like what it is, a deadline")
		}
	})
}
