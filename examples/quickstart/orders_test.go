package main

import (
	"testing"
	"time"

	"github.com/grpcsteady/steady/balancer/leastrequest"
	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/proto/document"
)

// The file and what is embedded of it are rules in force, and say what the text around the table says of them.
func TestDocument(t *testing.T) {
	want := steady.Rule{
		Methods:  []string{"/orders.v1.Orders/"},
		Deadline: &deadline.Config{Default: callTimeout, AttemptTimeout: attemptTimeout, FirstMessage: attemptTimeout},
		Retry:    &retry.Config{MaxAttempts: maxAttempts, InitialBackoff: time.Millisecond},
		Breaker:  &breaker.Config{ConsecutiveFailures: -1},
	}
	for name, open := range map[string]func() (*steady.Outbound, error){
		"embedded": func() (*steady.Outbound, error) { return newOutbound() },
		"file":     func() (*steady.Outbound, error) { return steady.Load("orders.yaml") },
	} {
		out, err := open()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := out.Rules(); len(got) != 1 || !got[0].Equal(want) {
			t.Errorf("%s: the rules are %+v, want only %+v", name, got, want)
		}
	}
	doc, err := document.Read("orders.yaml", ordersYAML)
	if err != nil {
		t.Fatal(err)
	}
	if got := doc.ForSteady(); got != leastrequest.ServiceConfig {
		t.Errorf("gRPC itself is asked for %s, want %s", got, leastrequest.ServiceConfig)
	}
}
