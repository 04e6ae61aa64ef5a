package document

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

// What gRPC reads, in the order it is written.
type (
	serviceConfig struct {
		LoadBalancingConfig json.RawMessage  `json:"loadBalancingConfig,omitempty"`
		HealthCheckConfig   *healthCheck     `json:"healthCheckConfig,omitempty"`
		RetryThrottling     *retryThrottling `json:"retryThrottling,omitempty"`
		MethodConfig        []methodConfig   `json:"methodConfig,omitempty"`
	}
	healthCheck struct {
		ServiceName string `json:"serviceName"`
	}
	retryThrottling struct {
		MaxTokens  float64 `json:"maxTokens"`
		TokenRatio float64 `json:"tokenRatio"`
	}
	methodConfig struct {
		Name                    []methodName `json:"name"`
		WaitForReady            *bool        `json:"waitForReady,omitempty"`
		Timeout                 string       `json:"timeout,omitempty"`
		MaxRequestMessageBytes  *uint32      `json:"maxRequestMessageBytes,omitempty"`
		MaxResponseMessageBytes *uint32      `json:"maxResponseMessageBytes,omitempty"`
		RetryPolicy             *retryPolicy `json:"retryPolicy,omitempty"`
	}
	methodName struct {
		Service string `json:"service,omitempty"`
		Method  string `json:"method,omitempty"`
	}
	retryPolicy struct {
		MaxAttempts          uint32   `json:"maxAttempts"`
		InitialBackoff       string   `json:"initialBackoff"`
		MaxBackoff           string   `json:"maxBackoff"`
		BackoffMultiplier    float64  `json:"backoffMultiplier"`
		RetryableStatusCodes []string `json:"retryableStatusCodes"`
	}
)

// ForSteady returns the service config, in JSON, for a channel with steady: what gRPC itself has to do.
// Timeouts, retries and their throttling are left out, since the rules do that and gRPC would do it again.
func (d *Document) ForSteady() string { return d.render(false) }

// ForGRPC returns the service config, in JSON, for a client without steady, in any language. Timeouts and
// retries are as near as gRPC comes to what the document says:
//
//   - timeout is as written, else deadline.max; a default for calls without a deadline is not to be had.
//   - retryPolicy gets the five fields that gRPC demands. Without codes it is UNAVAILABLE for rules that are
//     idempotent, and none for others: gRPC can not see which methods may be repeated, and would repeat all.
//   - Rules that are only observed, or off, have neither.
//
// Breakers, the retry budget, reserves and attempt timeouts have no counterpart.
func (d *Document) ForGRPC() string { return d.render(true) }

func (d *Document) render(plain bool) string {
	c := d.Config
	out := serviceConfig{LoadBalancingConfig: d.policies}
	if h := c.HealthCheckConfig; h != nil {
		out.HealthCheckConfig = &healthCheck{h.ServiceName}
	}
	enforced := func(m steadyv1.Mode) bool { return m <= steadyv1.Mode_MODE_ENFORCE }
	if t := c.RetryThrottling; t != nil && plain && enforced(c.Mode) {
		out.RetryThrottling = &retryThrottling{t.GetMaxTokens(), t.GetTokenRatio()}
	}
	says := false
	for _, m := range c.MethodConfig {
		if len(m.Name) == 0 {
			continue
		}
		r := methodConfig{
			WaitForReady:            m.WaitForReady,
			MaxRequestMessageBytes:  m.MaxRequestMessageBytes,
			MaxResponseMessageBytes: m.MaxResponseMessageBytes,
		}
		for _, n := range m.Name {
			r.Name = append(r.Name, methodName{n.Service, n.Method})
		}
		if plain && enforced(c.Mode) && enforced(m.Mode) {
			r.Timeout, r.RetryPolicy = timeoutOf(m), retriesOf(m)
		}
		says = says || r.WaitForReady != nil || r.MaxRequestMessageBytes != nil || r.MaxResponseMessageBytes != nil ||
			r.Timeout != "" || r.RetryPolicy != nil
		out.MethodConfig = append(out.MethodConfig, r)
	}
	// An entry that says nothing still keeps wider ones from its methods, so it is all of them or none.
	if !says {
		out.MethodConfig = nil
	}
	var s bytes.Buffer
	enc := json.NewEncoder(&s)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(out); err != nil { // plain data, and JSON that was written by write
		panic("document: a checked document can not be rendered: " + err.Error())
	}
	return strings.TrimSuffix(s.String(), "\n")
}

func timeoutOf(m *steadyv1.MethodConfig) string {
	switch {
	case m.Timeout != nil:
		return seconds(m.Timeout.AsDuration())
	case m.GetDeadline().GetMax() != nil:
		return seconds(m.Deadline.Max.AsDuration())
	}
	return ""
}

func retriesOf(m *steadyv1.MethodConfig) *retryPolicy {
	p := m.RetryPolicy
	if p == nil || p.MaxAttempts != nil && *p.MaxAttempts == 1 {
		return nil
	}
	first := or(p.InitialBackoff, defaultInitialBackoff)
	out := &retryPolicy{
		MaxAttempts:       3,
		InitialBackoff:    seconds(first),
		MaxBackoff:        seconds(or(p.MaxBackoff, max(time.Second, first))),
		BackoffMultiplier: 2,
	}
	if p.MaxAttempts != nil {
		out.MaxAttempts = *p.MaxAttempts
	}
	if p.BackoffMultiplier != nil {
		out.BackoffMultiplier = *p.BackoffMultiplier
	}
	codes := p.RetryableStatusCodes
	if len(codes) == 0 {
		if !m.Idempotent {
			return nil
		}
		codes = []steadyv1.Code{steadyv1.Code_CODE_UNAVAILABLE}
	}
	for _, c := range codes {
		out.RetryableStatusCodes = append(out.RetryableStatusCodes, strings.TrimPrefix(c.String(), "CODE_"))
	}
	return out
}

func or(d *durationpb.Duration, otherwise time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	return d.AsDuration()
}

// seconds is the only form of a duration that gRPC takes: 0.25s.
func seconds(d time.Duration) string {
	s := fmt.Sprintf("%d.%09d", d/time.Second, d%time.Second)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") + "s"
}
