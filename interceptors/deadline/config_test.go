package deadline_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/grpcsteady/steady/interceptors/deadline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestValidate(t *testing.T) {
	const ms = time.Millisecond
	nan := math.NaN()
	tests := map[string]struct {
		give deadline.Config
		want []string // parts of the error; none: valid
	}{
		"zero":                {},
		"everything":          {give: deadline.Config{time.Second, time.Minute, 200 * ms, 0.5, 10 * ms, 0.1, deadline.FeasibilityAll, time.Minute, time.Hour, 10 * time.Second}},
		"all off":             {give: deadline.Config{Default: -1, Reserve: -1, ReserveShare: -1, Feasibility: deadline.FeasibilityOff, FirstMessage: -1}},
		"lower ends":          {give: deadline.Config{Default: ms, Max: ms, AttemptTimeout: ms, AttemptShare: 1e-9, Reserve: 1, ReserveShare: 1e-9, FirstMessage: ms, Idle: ms, Send: ms}},
		"upper ends":          {give: deadline.Config{Default: 24 * time.Hour, Max: math.MaxInt64, AttemptTimeout: 24 * time.Hour, AttemptShare: 1, Reserve: time.Minute, ReserveShare: 0.5, FirstMessage: 24 * time.Hour, Idle: 24 * time.Hour, Send: 24 * time.Hour}},
		"cap below 30s alone": {give: deadline.Config{Max: time.Second}},

		"default small":          {deadline.Config{Default: ms - 1}, []string{"Default: 999.999µs", "1ms to 24h"}},
		"default large":          {deadline.Config{Default: 24*time.Hour + 1}, []string{"Default: 24h0m0.000000001s", "1ms to 24h"}},
		"default -2":             {deadline.Config{Default: -2}, []string{"Default: -2ns", "-1 (none)"}},
		"max small":              {deadline.Config{Max: ms - 1}, []string{"Max: 999.999µs", "at least 1ms"}},
		"max -1":                 {deadline.Config{Max: -1}, []string{"Max: -1ns", "0 (no cap)"}},
		"max below default":      {deadline.Config{Default: 2 * time.Second, Max: time.Second}, []string{"Max: 1s is below Default: 2s"}},
		"attempt small":          {deadline.Config{AttemptTimeout: 1}, []string{"AttemptTimeout: 1ns", "1ms to 24h"}},
		"attempt -1":             {deadline.Config{AttemptTimeout: -1}, []string{"AttemptTimeout: -1ns", "0 (none)"}},
		"attempt above default":  {deadline.Config{Default: time.Second, AttemptTimeout: 2 * time.Second}, []string{"AttemptTimeout: 2s is above Default: 1s"}},
		"attempt above 30s":      {deadline.Config{AttemptTimeout: time.Minute}, []string{"AttemptTimeout: 1m0s is above Default: 30s"}},
		"attempt above max":      {deadline.Config{Default: -1, Max: time.Second, AttemptTimeout: 2 * time.Second}, []string{"AttemptTimeout: 2s is above Max: 1s"}},
		"attempt share above 1":  {deadline.Config{AttemptShare: 1.01}, []string{"AttemptShare: 1.01", "up to 1"}},
		"attempt share negative": {deadline.Config{AttemptShare: -1}, []string{"AttemptShare: -1"}},
		"attempt share NaN":      {deadline.Config{AttemptShare: nan}, []string{"AttemptShare: NaN"}},
		"attempt share Inf":      {deadline.Config{AttemptShare: math.Inf(1)}, []string{"AttemptShare: +Inf"}},
		"reserve -2":             {deadline.Config{Reserve: -2}, []string{"Reserve: -2ns", "up to 1m"}},
		"reserve large":          {deadline.Config{Reserve: time.Minute + 1}, []string{"Reserve: 1m0.000000001s", "up to 1m"}},
		"reserve share large":    {deadline.Config{ReserveShare: 0.51}, []string{"ReserveShare: 0.51", "up to 0.5"}},
		"reserve share -0.5":     {deadline.Config{ReserveShare: -0.5}, []string{"ReserveShare: -0.5"}},
		"reserve share NaN":      {deadline.Config{ReserveShare: nan}, []string{"ReserveShare: NaN"}},
		"feasibility":            {deadline.Config{Feasibility: 3}, []string{"Feasibility: 3", "retries, all or off"}},
		"first message small":    {deadline.Config{FirstMessage: ms - 1}, []string{"FirstMessage: 999.999µs", "-1 (none), 0 (30s) or 1ms to 24h"}},
		"first message large":    {deadline.Config{FirstMessage: 24*time.Hour + 1}, []string{"FirstMessage: 24h0m0.000000001s", "1ms to 24h"}},
		"first message -2":       {deadline.Config{FirstMessage: -2}, []string{"FirstMessage: -2ns", "-1 (none)"}},
		"idle small":             {deadline.Config{Idle: 1}, []string{"Idle: 1ns", "0 (none) or 1ms to 24h"}},
		"idle large":             {deadline.Config{Idle: 24*time.Hour + 1}, []string{"Idle: 24h0m0.000000001s", "1ms to 24h"}},
		"idle -1":                {deadline.Config{Idle: -1}, []string{"Idle: -1ns", "0 (none)"}},
		"send small":             {deadline.Config{Send: 1}, []string{"Send: 1ns", "0 (none) or 1ms to 24h"}},
		"send large":             {deadline.Config{Send: 24*time.Hour + 1}, []string{"Send: 24h0m0.000000001s", "1ms to 24h"}},
		"send -1":                {deadline.Config{Send: -1}, []string{"Send: -1ns", "0 (none)"}},
		"several":                {deadline.Config{Default: -5, AttemptShare: 7}, []string{"Default: -5ns", "AttemptShare: 7"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := tt.give.Validate()
			if len(tt.want) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				if err := tt.give.WithDefaults().Validate(); err != nil {
					t.Fatalf("invalid once defaults are filled in: %v", err)
				}
				return
			}
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

func TestWithDefaults(t *testing.T) {
	tests := map[string]struct{ give, want deadline.Config }{
		"zero":       {deadline.Config{}, deadline.Config{Default: 30 * time.Second, Reserve: 5 * time.Millisecond, ReserveShare: 0.05, FirstMessage: 30 * time.Second}},
		"cap":        {deadline.Config{Max: time.Second}, deadline.Config{Default: time.Second, Max: time.Second, Reserve: 5 * time.Millisecond, ReserveShare: 0.05, FirstMessage: 30 * time.Second}},
		"wide cap":   {deadline.Config{Max: time.Hour}, deadline.Config{Default: 30 * time.Second, Max: time.Hour, Reserve: 5 * time.Millisecond, ReserveShare: 0.05, FirstMessage: 30 * time.Second}},
		"off is off": {deadline.Config{Default: -1, Reserve: -1, ReserveShare: -1, FirstMessage: -1}, deadline.Config{Default: -1, Reserve: -1, ReserveShare: -1, FirstMessage: -1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := tt.give.WithDefaults()
			if got != tt.want {
				t.Fatalf("got %+v, want %+v", got, tt.want)
			}
			if again := got.WithDefaults(); again != got {
				t.Fatalf("a second time %+v", again)
			}
		})
	}
}

func TestFeasibilityText(t *testing.T) {
	for want, f := range map[string]deadline.Feasibility{
		"retries": deadline.FeasibilityRetries, "all": deadline.FeasibilityAll, "off": deadline.FeasibilityOff,
	} {
		text, err := f.MarshalText()
		if err != nil || string(text) != want || f.String() != want {
			t.Errorf("%d: text %q, string %q, error %v, want %q", f, text, f, err, want)
		}
		var back deadline.Feasibility
		if err := back.UnmarshalText(text); err != nil || back != f {
			t.Errorf("%q read as %v, %v", text, back, err)
		}
	}
	if _, err := deadline.Feasibility(9).MarshalText(); err == nil {
		t.Error("an unknown feasibility has a text")
	}
	if got := deadline.Feasibility(9).String(); got != "Feasibility(9)" {
		t.Errorf("an unknown feasibility is %q", got)
	}
}

func FuzzFeasibilityText(f *testing.F) {
	for _, s := range []string{"retries", "all", "off", "", "All", "off "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		const before = deadline.FeasibilityAll
		v := before
		if err := v.UnmarshalText([]byte(s)); err != nil {
			if v != before || !strings.Contains(err.Error(), "retries, all, off") {
				t.Fatalf("%q: %v left behind, error %v", s, v, err)
			}
			return
		}
		if text, err := v.MarshalText(); err != nil || string(text) != s {
			t.Fatalf("%q read, %q written, %v", s, text, err)
		}
	})
}
