package breaker_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/grpcsteady/steady/interceptors/breaker"
)

func TestConfigValidate(t *testing.T) {
	const ms, s, h = time.Millisecond, time.Second, time.Hour
	for _, tt := range []struct {
		name string
		give breaker.Config
		want string // "" for valid, else parts of the message separated by |
	}{
		{"zero", breaker.Config{}, ""},
		{"defaults", breaker.Config{}.WithDefaults(), ""},
		{"all off", breaker.Config{ConsecutiveFailures: -1, FailureRatio: -1, OpenJitter: -1}, ""},
		{"least", breaker.Config{ConsecutiveFailures: 1, FailureRatio: 1e-9, SlowRatio: 1e-9, SlowAfter: 1, MinimumCalls: 1, Window: 100 * ms, Buckets: 1, OpenTime: ms, MaxOpenTime: ms, OpenMultiplier: 1, OpenJitter: 1e-9, Probes: 1, Successes: 1}, ""},
		{"most", breaker.Config{ConsecutiveFailures: 1e6, FailureRatio: 1, SlowRatio: 1, SlowAfter: h, MinimumCalls: 1e6, Window: h, Buckets: 100, OpenTime: h, MaxOpenTime: 24 * h, OpenMultiplier: 10, OpenJitter: 1, Probes: 1000, Successes: 1000}, ""},
		{"open time above the default cap", breaker.Config{OpenTime: 10 * time.Minute}, ""},
		{"consecutive below", breaker.Config{ConsecutiveFailures: -2}, "ConsecutiveFailures is -2, want -1 (off) or 1 to 1000000"},
		{"consecutive above", breaker.Config{ConsecutiveFailures: 1e6 + 1}, "ConsecutiveFailures is 1000001"},
		{"ratio above", breaker.Config{FailureRatio: 1.5}, "FailureRatio is 1.5, want -1 (off) or above 0 up to 1"},
		{"ratio below", breaker.Config{FailureRatio: -0.5}, "FailureRatio is -0.5"},
		{"ratio NaN", breaker.Config{FailureRatio: math.NaN()}, "FailureRatio is NaN"},
		{"ratio Inf", breaker.Config{FailureRatio: math.Inf(1)}, "FailureRatio is +Inf"},
		{"slow ratio -1", breaker.Config{SlowRatio: -1, SlowAfter: s}, "SlowRatio is -1, want above 0 up to 1"},
		{"slow ratio NaN", breaker.Config{SlowRatio: math.NaN(), SlowAfter: s}, "SlowRatio is NaN"},
		{"slow ratio alone", breaker.Config{SlowRatio: 0.5}, "SlowAfter is 0s, want a time above 0, as SlowRatio is set"},
		{"slow after alone", breaker.Config{SlowAfter: s}, "SlowAfter is 1s, want 0, as SlowRatio is not set"},
		{"slow after negative", breaker.Config{SlowRatio: 0.5, SlowAfter: -s}, "SlowAfter is -1s"},
		{"minimum", breaker.Config{MinimumCalls: -1}, "MinimumCalls is -1, want 1 to 1000000"},
		{"window below", breaker.Config{Window: 99 * ms}, "Window is 99ms, want 100ms to 1h0m0s"},
		{"window above", breaker.Config{Window: h + 1}, "Window is 1h0m0.000000001s"},
		{"buckets", breaker.Config{Buckets: 101}, "Buckets is 101, want 1 to 100"},
		{"open time below", breaker.Config{OpenTime: 1}, "OpenTime is 1ns, want 1ms to 1h0m0s"},
		{"open time negative", breaker.Config{OpenTime: -s}, "OpenTime is -1s"},
		{"cap below open time", breaker.Config{OpenTime: 10 * s, MaxOpenTime: 9 * s}, "MaxOpenTime is 9s, want 10s to 24h0m0s"},
		{"cap below default open time", breaker.Config{MaxOpenTime: s}, "MaxOpenTime is 1s, want 5s to 24h0m0s"},
		{"cap above", breaker.Config{MaxOpenTime: 25 * h}, "MaxOpenTime is 25h0m0s"},
		{"multiplier below", breaker.Config{OpenMultiplier: 0.5}, "OpenMultiplier is 0.5, want 1 to 10"},
		{"multiplier NaN", breaker.Config{OpenMultiplier: math.NaN()}, "OpenMultiplier is NaN"},
		{"multiplier Inf", breaker.Config{OpenMultiplier: math.Inf(1)}, "OpenMultiplier is +Inf"},
		{"jitter", breaker.Config{OpenJitter: 1.1}, "OpenJitter is 1.1, want -1 (none) or above 0 up to 1"},
		{"jitter NaN", breaker.Config{OpenJitter: math.NaN()}, "OpenJitter is NaN"},
		{"probes", breaker.Config{Probes: 1001}, "Probes is 1001, want 1 to 1000"},
		{"successes", breaker.Config{Successes: -1}, "Successes is -1, want 1 to 1000"},
		{"all findings at once", breaker.Config{Probes: -7, Successes: -8, Window: -9}, "Probes is -7|Successes is -8|Window is -9ns"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.give.Validate()
			b, newErr := breaker.New(tt.give)
			if tt.want == "" {
				if err != nil || newErr != nil {
					t.Fatalf("Validate %v, New %v", err, newErr)
				}
				if upErr := b.Update(tt.give); upErr != nil {
					t.Fatalf("Update: %v", upErr)
				}
				return
			}
			if err == nil || newErr == nil || b != nil {
				t.Fatalf("accepted: Validate %v, New %v, %v", err, b, newErr)
			}
			parts := strings.Split(tt.want, "|")
			for _, part := range parts {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q lacks %q", err, part)
				}
			}
			if lines := strings.Count(err.Error(), "\n") + 1; lines != len(parts) {
				t.Errorf("%d findings, want %d: %v", lines, len(parts), err)
			}
		})
	}
}

func TestConfigDefaults(t *testing.T) {
	want := breaker.Config{
		ConsecutiveFailures: 5, FailureRatio: 0.5, MinimumCalls: 20, Window: 10 * time.Second, Buckets: 10,
		OpenTime: 5 * time.Second, MaxOpenTime: time.Minute, OpenMultiplier: 2, OpenJitter: 0.1, Probes: 1, Successes: 2,
	}
	if got := (breaker.Config{}).WithDefaults(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := want.WithDefaults(); got != want {
		t.Errorf("not idempotent: %+v", got)
	}
	if got := (breaker.Config{OpenTime: 90 * time.Second}).WithDefaults().MaxOpenTime; got != 90*time.Second {
		t.Errorf("MaxOpenTime %v, want OpenTime", got)
	}
	off := breaker.Config{ConsecutiveFailures: -1, FailureRatio: -1, OpenJitter: -1}
	got := off.WithDefaults()
	if got.ConsecutiveFailures != -1 || got.FailureRatio != -1 || got.OpenJitter != -1 {
		t.Errorf("-1 was replaced: %+v", got)
	}
}

func TestStateString(t *testing.T) {
	for state, want := range map[breaker.State]string{
		breaker.Closed: "closed", breaker.Open: "open", breaker.HalfOpen: "half-open",
		breaker.ForcedOpen: "forced-open", breaker.ForcedClosed: "forced-closed", 99: "unknown",
	} {
		if got := state.String(); got != want {
			t.Errorf("State(%d) is %q, want %q", uint8(state), got, want)
		}
	}
}
