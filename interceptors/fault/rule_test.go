package fault_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/grpcsteady/steady/interceptors/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestValidate(t *testing.T) {
	const s = time.Second
	tests := map[string]struct {
		give fault.Rule
		want []string // parts of the error; none: valid
	}{
		"delay":           {give: fault.Rule{Share: 1, Delay: s}},
		"jitter alone":    {give: fault.Rule{Share: 1, DelayJitter: s}},
		"code":            {give: fault.Rule{Share: 1e-9, Code: 16, Message: "no"}},
		"delay, code":     {give: fault.Rule{Share: 0.5, Delay: 24 * time.Hour, DelayJitter: 24 * time.Hour, Code: 1}},
		"drop":            {give: fault.Rule{Share: 1, Drop: true}},
		"methods":         {give: fault.Rule{Share: 1, Drop: true, Methods: []string{"/a.B/C", "/a.B/", ""}}},
		"window":          {give: fault.Rule{Share: 1, Drop: true, From: s, Until: s + 1}},
		"window, no end":  {give: fault.Rule{Share: 1, Drop: true, From: s}},
		"periodic":        {give: fault.Rule{Share: 1, Drop: true, Every: time.Millisecond, For: 1}},
		"periodic to end": {give: fault.Rule{Share: 1, Drop: true, Every: s, For: s - 1, From: s, Until: 3 * s}},

		"zero":               {fault.Rule{}, []string{"Share: 0, want above 0", "Delay, DelayJitter, Code, Drop: none is set"}},
		"share above 1":      {fault.Rule{Share: 1.5, Drop: true}, []string{"Share: 1.5, want above 0 and up to 1"}},
		"share negative":     {fault.Rule{Share: -1, Drop: true}, []string{"Share: -1"}},
		"share NaN":          {fault.Rule{Share: math.NaN(), Drop: true}, []string{"Share: NaN"}},
		"delay negative":     {fault.Rule{Share: 1, Delay: -1}, []string{"Delay: -1ns, want 0 to 24h"}},
		"delay large":        {fault.Rule{Share: 1, Delay: 24*time.Hour + 1}, []string{"Delay: 24h0m0.000000001s"}},
		"jitter negative":    {fault.Rule{Share: 1, DelayJitter: -1}, []string{"DelayJitter: -1ns, want 0 to 24h"}},
		"jitter large":       {fault.Rule{Share: 1, DelayJitter: 25 * time.Hour}, []string{"DelayJitter: 25h0m0s"}},
		"code 17":            {fault.Rule{Share: 1, Code: 17}, []string{"Code: 17, want 0 (no error) to 16"}},
		"message alone":      {fault.Rule{Share: 1, Delay: s, Message: "x"}, []string{`Message: "x" without Code`}},
		"drop and code":      {fault.Rule{Share: 1, Drop: true, Code: 14}, []string{"Drop: true with Code: 14"}},
		"drop and delay":     {fault.Rule{Share: 1, Drop: true, Delay: s}, []string{"Drop: true with Delay: 1s"}},
		"drop and jitter":    {fault.Rule{Share: 1, Drop: true, DelayJitter: s}, []string{"DelayJitter: 1s"}},
		"from negative":      {fault.Rule{Share: 1, Drop: true, From: -1}, []string{"From: -1ns, want at least 0"}},
		"until at from":      {fault.Rule{Share: 1, Drop: true, From: s, Until: s}, []string{"Until: 1s", "above From: 1s"}},
		"until negative":     {fault.Rule{Share: 1, Drop: true, From: -5, Until: -1}, []string{"Until: -1ns"}},
		"every alone":        {fault.Rule{Share: 1, Drop: true, Every: s}, []string{"For: 0s, want above 0 and below Every: 1s"}},
		"for alone":          {fault.Rule{Share: 1, Drop: true, For: s}, []string{"Every: 0s, want at least 1ms"}},
		"for as every":       {fault.Rule{Share: 1, Drop: true, Every: s, For: s}, []string{"For: 1s"}},
		"every small":        {fault.Rule{Share: 1, Drop: true, Every: 2, For: 1}, []string{"Every: 2ns"}},
		"every negative":     {fault.Rule{Share: 1, Drop: true, Every: -s, For: -2 * s}, []string{"Every: -1s"}},
		"pattern, no slash":  {fault.Rule{Share: 1, Drop: true, Methods: []string{"a.B/C"}}, []string{`Methods: "a.B/C"`}},
		"pattern, one slash": {fault.Rule{Share: 1, Drop: true, Methods: []string{"/a.B"}}, []string{`Methods: "/a.B"`}},
		"pattern, no name":   {fault.Rule{Share: 1, Drop: true, Methods: []string{"//C"}}, []string{`Methods: "//C"`}},
		"pattern, long":      {fault.Rule{Share: 1, Drop: true, Methods: []string{"/a/" + strings.Repeat("x", 5000)}}, []string{"Methods: a pattern of 5003 bytes"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.give.Name = "the rule"
			err := tt.give.Validate()
			_, newErr := fault.New(1, []fault.Rule{tt.give})
			if len(tt.want) == 0 {
				if err != nil || newErr != nil {
					t.Fatal(err, newErr)
				}
				return
			}
			if err == nil || newErr == nil {
				t.Fatalf("accepted: Validate %v, New %v", err, newErr)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if !strings.Contains(newErr.Error(), `fault "the rule": `) {
				t.Errorf("%q does not name the rule", newErr)
			}
		})
	}
}

func TestNewNamesRules(t *testing.T) {
	drop := fault.Rule{Share: 1, Drop: true}
	named := drop
	named.Name = "rule 1"
	if _, err := fault.New(1, []fault.Rule{drop, named}); err == nil || !strings.Contains(err.Error(), `fault "rule 1": Name`) {
		t.Errorf("a name that stands twice: %v", err)
	}
	if _, err := fault.New(1, []fault.Rule{drop, {}, {Name: "x", Share: 2}}); err == nil ||
		!strings.Contains(err.Error(), `fault "rule 2"`) || !strings.Contains(err.Error(), `fault "x"`) {
		t.Errorf("not every bad rule is named: %v", err)
	}
	inj, err := fault.New(1, []fault.Rule{drop, drop})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"rule 1", "rule 2"} {
		if got := inj.Snapshot().Rules[i].Rule.Name; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestRuleString(t *testing.T) {
	tests := map[string]fault.Rule{
		`"a": 100% of all calls dropped`: {Name: "a", Share: 1, Drop: true},
		`"b": 12.5% of /s/M, /t/ delayed by 1s to 3s failed with UNAVAILABLE`: {
			Name: "b", Share: 0.125, Methods: []string{"/s/M", "/t/"}, Delay: time.Second, DelayJitter: 2 * time.Second, Code: 14,
		},
		`"c": 1% of all calls delayed by 20ms from 1s until 1m0s for 5s of every 10s`: {
			Name: "c", Share: 0.01, Methods: []string{"/s/M", ""}, Delay: 20 * time.Millisecond,
			From: time.Second, Until: time.Minute, Every: 10 * time.Second, For: 5 * time.Second,
		},
	}
	for want, r := range tests {
		if got := r.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// FuzzRule holds that a rule that is accepted can be used, whatever stands in it.
func FuzzRule(f *testing.F) {
	f.Add("/a.B/C", 0.5, int64(1), int64(1), uint32(14), "no", false, int64(0), int64(0), int64(0), int64(0))
	f.Add("/a.B/", 1.0, int64(0), int64(0), uint32(0), "", true, int64(1), int64(2), int64(time.Second), int64(1))
	f.Add("", 1e-300, int64(math.MaxInt64), int64(math.MinInt64), uint32(math.MaxUint32), "", true, int64(-1), int64(0), int64(1), int64(1))
	f.Fuzz(func(t *testing.T, pattern string, share float64, delay, jitter int64, code uint32, message string, drop bool, from, until, every, length int64) {
		r := fault.Rule{
			Methods: []string{pattern}, Share: share, Delay: time.Duration(delay), DelayJitter: time.Duration(jitter),
			Code: code, Message: message, Drop: drop,
			From: time.Duration(from), Until: time.Duration(until), Every: time.Duration(every), For: time.Duration(length),
		}
		inj, err := fault.New(1, []fault.Rule{r}, quiet)
		if (err == nil) != (r.Validate() == nil) {
			t.Fatalf("New %v, Validate %v", err, r.Validate())
		}
		if err != nil {
			return
		}
		inj.Enable()
		if got, ok := inj.Decide(pattern); ok {
			if got.Delay < r.Delay || got.Delay > r.Delay+r.DelayJitter || got.Code != code || got.Drop != drop {
				t.Fatalf("%+v of %+v", got, r)
			}
		}
		inj.Disable()
	})
}
