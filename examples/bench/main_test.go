package main

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/grpcsteady/steady/examples/bench/pairs"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) // go-zero starts goroutines when it is imported
}

// tiny keeps a smoke run short; what it says of time means nothing.
var tiny = pairs.Options{Pairs: pairs.MinPairs, Batch: 100 * time.Microsecond}

func TestEveryRowRuns(t *testing.T) {
	rows := allRows()
	var out, talk bytes.Buffer
	if err := (config{json: true, opts: tiny}).bench(t.Context(), rows, &out, &talk); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	decoder := json.NewDecoder(&out)
	for _, row := range rows {
		var got struct {
			Row, Peer    string
			Ours         *float64 `json:"ours_ns"`
			Theirs       *float64 `json:"peer_ns"`
			TargetNS     *float64 `json:"target_ns"`
			TargetAllocs *float64 `json:"target_allocs"`
		}
		if err := decoder.Decode(&got); err != nil {
			t.Fatalf("%s: %v", row, err)
		}
		if got.Row != row.Name || got.Peer != row.Peer || got.Ours == nil || got.Theirs == nil {
			t.Errorf("%s: %+v, want its name and both times", row, got)
		}
		if (got.TargetNS == nil) != (row.Target.NS == nil) || (got.TargetAllocs == nil) != (row.Target.Allocs == nil) {
			t.Errorf("%s: targets %v and %v, want those of the row", row, got.TargetNS, got.TargetAllocs)
		}
		if seen[row.String()] {
			t.Errorf("%s is there twice", row)
		}
		seen[row.String()] = true
		if parallel := strings.HasSuffix(row.Name, "parallel"); parallel != (row.Threads == 2) {
			t.Errorf("%s has %d threads", row, row.Threads)
		}
	}
	if decoder.More() {
		t.Error("more objects than rows")
	}
	for _, want := range []string{"factor", "rows without a budget"} {
		if !strings.Contains(talk.String(), want) {
			t.Errorf("stderr lacks %q:\n%s", want, talk.String())
		}
	}
}

func TestTable(t *testing.T) {
	pick := regexp.MustCompile("breaker serial vs gobreaker")
	var rows []pairs.Row
	for _, row := range allRows() {
		if pick.MatchString(row.String()) {
			rows = append(rows, row)
		}
	}
	var out, talk bytes.Buffer
	if err := (config{opts: tiny}).bench(t.Context(), rows, &out, &talk); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"geometric mean of the bricks", "ours allocs/B", "breaker serial", "gobreaker rolling", "70 x "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, out.String())
		}
	}
	if talk.Len() > 0 {
		t.Errorf("stderr %q, want nothing", talk.String())
	}
}

func TestFlags(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		args   []string
		code   int
		stderr string
	}{
		{"help", t.Context(), []string{"-h"}, exitOK, "-quick"},
		{"unknown flag", t.Context(), []string{"-slow"}, exitUsage, "-slow"},
		{"argument", t.Context(), []string{"breaker"}, exitUsage, `unknown argument "breaker"`},
		{"bad regexp", t.Context(), []string{"-row", "("}, exitUsage, "-row"},
		{"no such row", t.Context(), []string{"-row", "teapot"}, exitUsage, `no row matches "teapot"`},
		{"interrupted", ended, []string{"-quick"}, exitInterrupted, "interrupted"},
	} {
		var out, talk bytes.Buffer
		if code := run(c.ctx, c.args, &out, &talk); code != c.code || !strings.Contains(talk.String(), c.stderr) {
			t.Errorf("%s: exit code %d, stderr %q; want %d and %q", c.name, code, talk.String(), c.code, c.stderr)
		}
	}
	got, err := parse([]string{"-quick", "-json", "-row", "^breaker"}, new(bytes.Buffer))
	if err != nil || !got.json || got.opts != quickOptions || !got.pick.MatchString("breaker serial") {
		t.Errorf("parsed %+v, %v", got, err)
	}
}

// TestQuickIsQuick adds up what the options allow, since a test cannot wait for it.
func TestQuickIsQuick(t *testing.T) {
	if most := time.Duration(len(allRows())) * quickOptions.Limit; quickOptions.Limit == 0 || most > 70*time.Second {
		t.Errorf("%d rows of %v may take %v, want 70s at most, as opening them takes time too", len(allRows()), quickOptions.Limit, most)
	}
}
