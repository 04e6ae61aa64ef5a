package document_test

import (
	"fmt"

	"github.com/grpcsteady/steady/proto/document"
)

func ExampleRead() {
	doc, err := document.Read("orders.yaml", []byte(`
x-company: &company
  retryPolicy: {maxAttempts: 3, retryableStatusCodes: [UNAVAILABLE]}
  breaker: {}

loadBalancingConfig: [{round_robin: {}}]
methodConfig:
  - name: [{service: orders.v1.Orders}]
    <<: *company
    waitForReady: true
    deadline: {default: 250ms, max: 2s}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(doc.ForSteady())
	fmt.Println(doc.ForGRPC())
	fmt.Println(doc.Position("methodConfig[0].deadline.max"))
	// Output:
	// {"loadBalancingConfig":[{"round_robin":{}}],"methodConfig":[{"name":[{"service":"orders.v1.Orders"}],"waitForReady":true}]}
	// {"loadBalancingConfig":[{"round_robin":{}}],"methodConfig":[{"name":[{"service":"orders.v1.Orders"}],"waitForReady":true,"timeout":"2s","retryPolicy":{"maxAttempts":3,"initialBackoff":"0.025s","maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]}
	// orders.yaml:11
}

func ExampleRead_findings() {
	_, err := document.Read("orders.yaml", []byte(`
methodConfig:
  - name: [{service: orders.v1.Orders}]
    retry_policy: {maxAttempts: 3}
    deadline: {default: 1s, attemptTimeout: 2s}
  - name: [{service: orders.v1.Orders}]
    breaker: {failureRatio: 50}
`))
	fmt.Println(err)
	// Output:
	// orders.yaml:4:5: methodConfig[0].retry_policy: unknown key, did you mean retryPolicy?
	// orders.yaml:5:45: methodConfig[0].deadline.attemptTimeout: 2s is above default, 1s: no attempt could use it
	// orders.yaml:6:12: methodConfig[1].name[0]: /orders.v1.Orders/ has a rule on line 3 already
	// orders.yaml:7:29: methodConfig[1].breaker.failureRatio: 50, want above 0, up to 1, or -1 to switch it off
}
