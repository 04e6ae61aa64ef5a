package main

import (
	_ "embed"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/proto/document"
	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

//go:embed orders.yaml
var ordersYAML []byte

// The document says what the rules in Go say: nothing more, and nothing less.
func TestDocument(t *testing.T) {
	doc, err := document.Read("orders.yaml", ordersYAML)
	if err != nil {
		t.Fatal(err)
	}
	in := rules()
	if len(in) != 1 {
		t.Fatalf("%d rules, want one", len(in))
	}
	rule := in[0]

	// First, that what is compared below is all that a rule here says.
	want := steady.Rule{
		Methods:  rule.Methods,
		Deadline: &deadline.Config{Default: rule.Deadline.Default, AttemptTimeout: rule.Deadline.AttemptTimeout},
		Retry:    &retry.Config{MaxAttempts: rule.Retry.MaxAttempts, InitialBackoff: rule.Retry.InitialBackoff},
		Breaker:  &breaker.Config{ConsecutiveFailures: rule.Breaker.ConsecutiveFailures},
	}
	if !rule.Equal(want) {
		t.Fatalf("the rule is %+v, want no more than %+v", rule, want)
	}
	written := proto.CloneOf(doc.Config)
	written.LoadBalancingConfig = nil
	if p := document.Patterns(written.GetMethodConfig()[0]); len(p) != len(rule.Methods) || p[0] != rule.Methods[0] {
		t.Errorf("orders.yaml is for %v, the rule for %v", p, rule.Methods)
	}
	same := &steadyv1.Config{
		RetryBudget: &steadyv1.RetryBudget{Ratio: new(budgetRatio)},
		MethodConfig: []*steadyv1.MethodConfig{{
			Name: written.GetMethodConfig()[0].GetName(),
			Deadline: &steadyv1.Deadline{
				Default:        durationpb.New(rule.Deadline.Default),
				AttemptTimeout: durationpb.New(rule.Deadline.AttemptTimeout),
			},
			RetryPolicy: &steadyv1.RetryPolicy{
				MaxAttempts:    new(uint32(rule.Retry.MaxAttempts)),
				InitialBackoff: durationpb.New(rule.Retry.InitialBackoff),
			},
			Breaker: &steadyv1.Breaker{ConsecutiveFailures: new(int32(rule.Breaker.ConsecutiveFailures))},
		}},
	}
	if !proto.Equal(written, same) {
		t.Errorf("orders.yaml says\n%v\nand the rules in Go\n%v", written, same)
	}
	if got := doc.ForSteady(); got != balancing {
		t.Errorf("orders.yaml asks gRPC for %s, and client.go for %s", got, balancing)
	}
}
