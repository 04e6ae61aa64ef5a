package retry_test

import (
	"encoding"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/grpcsteady/steady/interceptors/retry"
)

var (
	_ encoding.TextMarshaler   = retry.FullJitter
	_ encoding.TextUnmarshaler = new(retry.Jitter)
)

func TestConfigDefaults(t *testing.T) {
	full := retry.Config{
		MaxAttempts: 3, InitialBackoff: 25 * ms, MaxBackoff: time.Second, Multiplier: 2,
		Jitter: retry.FullJitter, MaxElapsed: 10 * time.Second,
	}
	large := full
	large.InitialBackoff, large.MaxBackoff = 5*time.Second, 5*time.Second
	endless := full
	endless.MaxElapsed = -1
	for _, tt := range []struct {
		name       string
		give, want retry.Config
	}{
		{"zero", retry.Config{}, full},
		{"filled already", full, full},
		{"a first backoff above the cap's default raises the cap", retry.Config{InitialBackoff: 5 * time.Second}, large},
		{"none stays none", retry.Config{MaxElapsed: -1}, endless},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.give.WithDefaults()
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if again := got.WithDefaults(); again != got {
				t.Errorf("twice: %+v, once: %+v", again, got)
			}
			if err := tt.give.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestConfigValidate(t *testing.T) {
	for _, tt := range []struct {
		name string
		give retry.Config
		want []string // lines of the error, by their beginnings; none: valid
	}{
		{"least", retry.Config{MaxAttempts: 1, InitialBackoff: ms, MaxBackoff: ms, Multiplier: 1, MaxElapsed: ms}, nil},
		{"most", retry.Config{MaxAttempts: 5, InitialBackoff: time.Minute, MaxBackoff: 10 * time.Minute, Multiplier: 10, MaxElapsed: math.MaxInt64}, nil},
		{"one attempt more than gRPC allows", retry.Config{MaxAttempts: 6}, []string{"MaxAttempts: 6, want 1 to 5"}},
		{"negative attempts", retry.Config{MaxAttempts: -1}, []string{"MaxAttempts: -1, want 1 to 5"}},
		{"tiny backoff", retry.Config{InitialBackoff: ms - 1}, []string{"InitialBackoff: 999.999µs, want 1ms to 1m0s"}},
		{"negative backoff", retry.Config{InitialBackoff: -ms}, []string{"InitialBackoff: -1ms, want"}},
		{"long backoff is one finding", retry.Config{InitialBackoff: time.Hour}, []string{"InitialBackoff: 1h0m0s, want"}},
		{"cap below the first backoff", retry.Config{InitialBackoff: 2 * time.Second, MaxBackoff: time.Second}, []string{"MaxBackoff: 1s, want InitialBackoff (2s) to 10m0s"}},
		{"cap below the default of the first", retry.Config{MaxBackoff: 24 * ms}, []string{"MaxBackoff: 24ms, want InitialBackoff (25ms)"}},
		{"high cap", retry.Config{MaxBackoff: 10*time.Minute + 1}, []string{"MaxBackoff: 10m0.000000001s, want"}},
		{"shrinking", retry.Config{Multiplier: 0.5}, []string{"Multiplier: 0.5, want 1 to 10"}},
		{"exploding", retry.Config{Multiplier: 11}, []string{"Multiplier: 11, want"}},
		{"no number", retry.Config{Multiplier: math.NaN()}, []string{"Multiplier: NaN, want"}},
		{"infinite", retry.Config{Multiplier: math.Inf(1)}, []string{"Multiplier: +Inf, want"}},
		{"unknown jitter", retry.Config{Jitter: 4}, []string{"Jitter: 4, want"}},
		{"elapsed below -1", retry.Config{MaxElapsed: -2}, []string{"MaxElapsed: -2ns, want at least 1ms"}},
		{"tiny elapsed", retry.Config{MaxElapsed: 1}, []string{"MaxElapsed: 1ns, want at least 1ms"}},
		{
			"all at once",
			retry.Config{MaxAttempts: 9, InitialBackoff: -1, MaxBackoff: -5, Multiplier: -1, Jitter: 77, MaxElapsed: -9},
			[]string{"MaxAttempts:", "InitialBackoff:", "MaxBackoff:", "Multiplier:", "Jitter: 77", "MaxElapsed:"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) { wantFindings(t, tt.give.Validate(), tt.want) })
	}
}

// wantFindings compares the lines of an error with how each must begin.
func wantFindings(t *testing.T, err error, want []string) {
	t.Helper()
	if err == nil {
		if len(want) > 0 {
			t.Fatalf("accepted, want %q", want)
		}
		return
	}
	got := strings.Split(err.Error(), "\n")
	if len(got) != len(want) {
		t.Fatalf("findings %q, want %q", got, want)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("finding %q, want %q", got[i], want[i])
		}
	}
}

func TestJitterText(t *testing.T) {
	for j, want := range map[retry.Jitter]string{
		retry.FullJitter: "full", retry.EqualJitter: "equal", retry.DecorrelatedJitter: "decorrelated", retry.NoJitter: "none",
	} {
		text, err := j.MarshalText()
		if err != nil || string(text) != want || j.String() != want {
			t.Errorf("%d: %q, %q, %v; want %q", j, text, j, err, want)
		}
		back := retry.Jitter(200)
		if err := back.UnmarshalText(text); err != nil || back != j {
			t.Errorf("%q read as %v, %v", text, back, err)
		}
	}
	for _, bad := range []string{"", "Full", "full ", "half", "0"} {
		j := retry.EqualJitter
		if err := j.UnmarshalText([]byte(bad)); err == nil || !strings.Contains(err.Error(), "full, equal, decorrelated, none") {
			t.Errorf("%q: %v, want an error that names what is known", bad, err)
		}
		if j != retry.EqualJitter {
			t.Errorf("%q changed the value to %v", bad, j)
		}
	}
	if _, err := retry.Jitter(4).MarshalText(); err == nil {
		t.Error("an unknown jitter was written")
	}
	if got := retry.Jitter(4).String(); got != "Jitter(4)" {
		t.Errorf("got %q", got)
	}
}

func TestBudgetConfig(t *testing.T) {
	full := retry.BudgetConfig{Ratio: 0.2, MinPerSecond: 1, Interval: 10 * time.Second, MaxRatio: 1}
	if got := (retry.BudgetConfig{}).WithDefaults(); got != full {
		t.Errorf("defaults %+v, want %+v", got, full)
	}
	none := retry.BudgetConfig{Ratio: -1, MinPerSecond: -1, Interval: time.Second, MaxRatio: 2}
	if got := none.WithDefaults(); got != none {
		t.Errorf("defaults changed %+v to %+v", none, got)
	}
	for _, tt := range []struct {
		name string
		give retry.BudgetConfig
		want []string
	}{
		{"zero", retry.BudgetConfig{}, nil},
		{"none", none, nil},
		{"most", retry.BudgetConfig{Ratio: 10, MinPerSecond: 1000, Interval: 10 * time.Minute, MaxRatio: 10}, nil},
		{"least", retry.BudgetConfig{Ratio: 1e-9, MinPerSecond: 1e-9, Interval: time.Second, MaxRatio: 1e-9}, nil},
		{"negative ratio", retry.BudgetConfig{Ratio: -0.2}, []string{"Ratio: -0.2, want above 0 and at most 10"}},
		{"percent taken for a ratio", retry.BudgetConfig{Ratio: 20}, []string{"Ratio: 20, want"}},
		{"no number", retry.BudgetConfig{Ratio: math.NaN(), MinPerSecond: math.NaN(), MaxRatio: math.NaN()}, []string{"Ratio: NaN", "MinPerSecond: NaN", "MaxRatio: NaN"}},
		{"high floor", retry.BudgetConfig{MinPerSecond: 1001}, []string{"MinPerSecond: 1001, want above 0 and at most 1000"}},
		{"negative floor", retry.BudgetConfig{MinPerSecond: -2}, []string{"MinPerSecond: -2, want"}},
		{"short interval", retry.BudgetConfig{Interval: time.Second - 1}, []string{"Interval: 999.999999ms, want 1s to 10m"}},
		{"long interval", retry.BudgetConfig{Interval: time.Hour}, []string{"Interval: 1h0m0s, want 1s to 10m"}},
		{"no ceiling is not offered", retry.BudgetConfig{MaxRatio: -1}, []string{"MaxRatio: -1, want above 0 and at most 10"}},
		{"infinite", retry.BudgetConfig{MaxRatio: math.Inf(1)}, []string{"MaxRatio: +Inf, want"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantFindings(t, tt.give.Validate(), tt.want)
			if b, err := retry.NewBudget(tt.give); (err == nil) != (len(tt.want) == 0) || (b == nil) != (err != nil) {
				t.Errorf("NewBudget: %v, %v", b, err)
			}
		})
	}
}
