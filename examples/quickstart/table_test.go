package main

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"
)

func TestTable(t *testing.T) {
	c := comparison{
		Plain: result{
			Calls: 3150, answered: 2662, Availability: 0.84508, P50: 0.654, P99: 1000.9, P999: 1001.6,
			attempts: 3150, AttemptsPerCall: 1,
		},
		Steady: result{
			Calls: 3150, answered: 3149, Availability: 0.99968, P50: 0.801, P99: 203.4, P999: 217.8,
			attempts: 3748, AttemptsPerCall: 1.18984, Refused: 2, RetriedElsewhere: 551,
		},
	}
	want := `
          |availability|     p50|     p99|   p99.9|attempts per call|refused|retried elsewhere
plain gRPC|     84.51 %| 0.65 ms| 1001 ms| 1002 ms|             1.00|      0|                0
steady    |     99.97 %| 0.80 ms|  203 ms|  218 ms|             1.19|      2|              551

Plain gRPC left 488 of 3150 calls without an answer and steady 1 of 3150, for 19 % more attempts.
The slowest hundredth took 1001 ms or longer with plain gRPC and 203 ms with steady:
an attempt that hangs is given up after 200ms, and of 598 retries 551 went to a server not tried before.
`
	var got bytes.Buffer
	table(&got, c)
	if want := strings.ReplaceAll(want[1:], "|", "   "); got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &got, want)
	}

	c.Steady.RetriedElsewhere = 598
	if text := reading(c); !strings.Contains(text, "and all 598 retries went to a server not tried before.") {
		t.Errorf("the reading of a run in which no retry met a server again: %s", text)
	}

	// It says what there is, not what there should be.
	c.Plain, c.Steady = c.Steady, c.Plain
	if text := reading(c); !strings.Contains(text, "steady 488 of 3150") || !strings.Contains(text, "no gain") {
		t.Errorf("the reading of a bad run: %s", text)
	}
}

func TestQuantile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i+1) * time.Millisecond
	}
	tests := []struct {
		sorted []time.Duration
		q      float64
		want   float64
	}{
		{nil, 0.5, 0},
		{hundred[:1], 0, 1},
		{hundred[:1], 0.999, 1},
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 0.999, 100},
		{hundred, 1, 100},
	}
	for _, test := range tests {
		if got := quantile(test.sorted, test.q); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("quantile %v of %d: %v, want %v", test.q, len(test.sorted), got, test.want)
		}
	}
}
