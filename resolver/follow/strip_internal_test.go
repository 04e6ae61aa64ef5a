package follow

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func TestStrip(t *testing.T) {
	for _, tt := range []struct{ give, want string }{ // "": an error
		{`{}`, `{}`},
		{`{"loadBalancingConfig":[{"x":{"timeout":1e400,"n":12345678901234567890}}]}`, `{"loadBalancingConfig":[{"x":{"timeout":1e400,"n":12345678901234567890}}]}`},
		{`{"retryThrottling":{"maxTokens":1},"unknown":[1]}`, `{"unknown":[1]}`},
		{`{"methodConfig":[{"name":[{}],"timeout":"1s","retryPolicy":{},"hedgingPolicy":{},"waitForReady":true}]}`, `{"methodConfig":[{"name":[{}],"waitForReady":true}]}`},
		{`{"MethodConfig":[{"TIMEOUT":"1s","RetryPOLICY":7}],"RETRYthrottling":0}`, `{"MethodConfig":[{}]}`}, // as gRPC reads keys
		{`{"methodConfig":[{"timeout":"1s"}],"METHODCONFIG":[{"timeout":"1s"}]}`, `{"METHODCONFIG":[{}],"methodConfig":[{}]}`},
		{`{"methodConfig":null}`, `{"methodConfig":null}`},
		{`{"methodConfig":[null]}`, `{"methodConfig":[null]}`},
		{`{"methodConfig":7}`, ``},
		{`{"methodConfig":[7]}`, ``},
		{`[]`, ``},
		{`null`, ``},
		{`{`, ``},
		{``, ``},
	} {
		got, err := strip(tt.give, 0)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%s: %s, %v, want %s", tt.give, got, err, tt.want)
		}
	}
}

// TestMark: a connection tells the mark of its service config, whatever else stands there, and what is none is
// not taken for one.
func TestMark(t *testing.T) {
	for _, tt := range []struct {
		config string
		mark   uint32
		want   uint32
	}{
		{`{}`, 1, 1},
		{`{}`, markBase - 1, markBase - 1},
		{`{"methodConfig":[{"name":[{}],"maxRequestMessageBytes":7}]}`, 12, 12},
		{`{}`, 0, 0},
		{`{"methodConfig":[{"name":[{}],"maxRequestMessageBytes":7,"maxResponseMessageBytes":7}]}`, 0, 0},
	} {
		config, err := mark(tt.config, tt.mark)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(config))
		if err != nil {
			t.Fatal(err)
		}
		if m := MarkOf(conn); m != 0 {
			t.Errorf("%s: mark %d before there is a service config", config, m)
		}
		conn.Connect()
		for conn.GetState().String() == "IDLE" {
			conn.WaitForStateChange(t.Context(), conn.GetState())
		}
		if m := MarkOf(conn); m != tt.want {
			t.Errorf("%s: mark %d, want %d", config, m, tt.want)
		}
		conn.Close()
	}
}

// FuzzStrip: what comes out is JSON without any key that gRPC would take for a timeout or a retry of its own.
func FuzzStrip(f *testing.F) {
	f.Add(`{"methodConfig":[{"name":[{}],"Timeout":"1s"}],"retryThrottling":{}}`)
	f.Add(`{"methodConfig":null}`)
	f.Fuzz(func(t *testing.T, give string) {
		got, err := strip(give, 3)
		if err != nil {
			return
		}
		var c struct {
			RetryThrottling any
			MethodConfig    []struct{ Timeout, RetryPolicy, HedgingPolicy any }
		}
		if !json.Valid([]byte(got)) {
			t.Fatalf("%s became %s", give, got)
		}
		if json.Unmarshal([]byte(got), &c) != nil {
			return // nor does gRPC read it
		}
		if c.RetryThrottling != nil || !strings.Contains(got, markService) {
			t.Fatalf("%s became %s", give, got)
		}
		for _, m := range c.MethodConfig {
			if m.Timeout != nil || m.RetryPolicy != nil || m.HedgingPolicy != nil {
				t.Fatalf("%s became %s", give, got)
			}
		}
	})
}
