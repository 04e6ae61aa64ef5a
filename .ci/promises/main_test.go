package main

import (
	"strings"
	"testing"
)

const kept = `{"plain":{"calls":7000,"availability":0.74,"p50_ms":1,"p99_ms":500,"p999_ms":501,"attempts_per_call":1,"refused":0,"retried_elsewhere":0},` +
	`"steady":{"calls":7000,"availability":0.9999,"p50_ms":1,"p99_ms":250,"p999_ms":300,"attempts_per_call":1.4,"refused":2,"retried_elsewhere":2500}}`

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name, old, put string
		want           string // part of the only line; "" for none
	}{
		{"kept", "", "", ""},
		{"just kept", "0.9999", "0.999", ""},
		{"steady fails calls", "0.9999", "0.9989", "availability 0.99890, want at least"},
		{"plain is not sick", "0.74", "0.9", "want under"},
		{"slower", `"p99_ms":250,"p999_ms":300`, `"p99_ms":500,"p999_ms":501`, "want below plain's"},
		{"percent", "0.9999", "99.99", "want a share"},
		{"missing key", `"refused":2,`, "", "steady: a key is missing"},
		{"unknown key", `"refused":2`, `"refused":2,"x":1`, oneObject},
		{"too few calls", `"plain":{"calls":7000`, `"plain":{"calls":10`, "10 calls"},
		{"quantiles fall", `"p50_ms":1,"p99_ms":250`, `"p50_ms":260,"p99_ms":250`, "do not rise"},
		{"a storm", `"attempts_per_call":1.4`, `"attempts_per_call":4.4`, "attempts per call"},
		{"one run only", `"steady"`, `"other"`, oneObject},
		{"text after it", "2500}}", "2500}}done", oneObject},
		{"nothing", kept, "", oneObject},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := kept
			if tt.old != "" {
				if !strings.Contains(kept, tt.old) {
					t.Fatalf("%q is not in the sample", tt.old)
				}
				in = strings.Replace(kept, tt.old, tt.put, 1)
			}
			got := check(strings.NewReader(in))
			if (tt.want == "") != (len(got) == 0) || len(got) > 1 || tt.want != "" && !strings.Contains(got[0], tt.want) {
				t.Errorf("got %q, want one line with %q", got, tt.want)
			}
		})
	}
}
