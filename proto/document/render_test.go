package document_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/grpcsteady/steady/proto/document"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden holds both renderings of each document in testdata, and that gRPC takes them.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.*")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range files {
		if strings.Contains(file, ".golden.") {
			continue
		}
		seen++
		d, err := document.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		base := strings.TrimSuffix(file, filepath.Ext(file))
		golden(t, base+".steady.golden.json", d.ForSteady())
		golden(t, base+".grpc.golden.json", d.ForGRPC())
	}
	if seen < 4 {
		t.Errorf("%d documents in testdata", seen)
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, []byte(got), "", "  "); err != nil {
		t.Fatal(err)
	}
	pretty.WriteByte('\n')
	if *update {
		if err := os.WriteFile(file, pretty.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(pretty.Bytes(), want) {
		t.Errorf("%s: got\n%s", file, pretty.String())
	}
	accepted(t, got)
}

// accepted: gRPC refuses a whole service config for one bad field of it.
func accepted(t *testing.T, config string) {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(config))
	if err != nil {
		t.Errorf("gRPC refuses %s: %v", config, err)
		return
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

func TestForGRPC(t *testing.T) {
	for _, tt := range []struct{ name, give, want string }{
		{"nothing", `{}`, `{}`},
		{"all defaults of a retry", `{methodConfig: [{name: [{service: a}], idempotent: true, retryPolicy: {}}]}`,
			`{"methodConfig":[{"name":[{"service":"a"}],"retryPolicy":{"maxAttempts":3,"initialBackoff":"0.025s","maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]}`},
		{"a first backoff above the default of the last", `{methodConfig: [{name: [{}], retryPolicy: {initialBackoff: 2s, retryableStatusCodes: [ABORTED]}}]}`,
			`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":3,"initialBackoff":"2s","maxBackoff":"2s","backoffMultiplier":2,"retryableStatusCodes":["ABORTED"]}}]}`},
		{"retries without permission", `{methodConfig: [{name: [{service: a}], retryPolicy: {}}]}`, `{}`},
		{"one attempt", `{methodConfig: [{name: [{service: a}], idempotent: true, retryPolicy: {maxAttempts: 1}}]}`, `{}`},
		{"max is a timeout", `{methodConfig: [{name: [{}], deadline: {max: 1500us}}]}`, `{"methodConfig":[{"name":[{}],"timeout":"0.0015s"}]}`},
		{"observed", `{methodConfig: [{name: [{}], mode: observe, timeout: 1s}]}`, `{}`},
		{"all is observed", `{mode: observe, retryThrottling: {maxTokens: 10, tokenRatio: 1}, methodConfig: [{name: [{}], timeout: 1s}]}`, `{}`},
		{"off", `{methodConfig: [{name: [{}], mode: off, timeout: 1s}]}`, `{}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := read(t, "x.yaml", tt.give).ForGRPC()
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			accepted(t, got)
		})
	}
}

// TestForSteadyAddsNothing: no timeout, retry or throttling of gRPC's own beside steady's.
func TestForSteadyAddsNothing(t *testing.T) {
	d, err := document.Load("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"timeout", "retryPolicy", "hedgingPolicy", "retryThrottling"} {
		if strings.Contains(d.ForSteady(), `"`+key+`"`) {
			t.Errorf("%s in %s", key, d.ForSteady())
		}
	}
}

// TestRenderedIsAFixedPoint: what is rendered for plain gRPC is a document that renders to itself.
func TestRenderedIsAFixedPoint(t *testing.T) {
	d, err := document.Load("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	once := d.ForGRPC()
	if twice := read(t, "again.json", once).ForGRPC(); twice != once {
		t.Errorf("first\n%s\nthen\n%s", once, twice)
	}
}
