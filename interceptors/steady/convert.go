package steady

import (
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/proto/document"
	steadyv1 "github.com/grpcsteady/steady/proto/steady/v1"
)

// rulesOf makes rules of a document that was read, one function for each message of the schema. A test walks
// the schema and fails for a field that nothing here, and no rendering, makes a difference of.
func rulesOf(d *document.Document) ruleset {
	s := ruleset{source: d.Name(), mode: modeOf(d.Config.GetMode()), budget: budgetOf(d.Config)}
	list := d.Config.GetMethodConfig()
	positions := positionsOf(d, len(list))
	for i, m := range list {
		if len(m.GetName()) == 0 {
			continue // a pushed one that is for no method
		}
		s.rules = append(s.rules, ruleOf(m))
		s.where = append(s.where, positions[i])
	}
	return s
}

// positionsOf says where each rule stands, as a report tells it: the file without its folders.
func positionsOf(d *document.Document, n int) []string {
	lines := d.Lines("methodConfig", n)
	for i := range lines {
		lines[i] = filepath.Base(lines[i])
	}
	return lines
}

func ruleOf(m *steadyv1.MethodConfig) Rule {
	return Rule{
		Name:       document.RuleName(m),
		Methods:    document.Patterns(m),
		Mode:       modeOf(m.GetMode()),
		Deadline:   deadlineOf(m),
		Retry:      retryOf(m.GetRetryPolicy()),
		RetryOn:    codesOf(m.GetRetryPolicy().GetRetryableStatusCodes()),
		Idempotent: m.GetIdempotent(),
		Breaker:    breakerOf(m.GetBreaker()),
		PerMethod:  m.GetPerMethod(),
		FailOn:     codesOf(m.GetFailOn()),
	}
}

// deadlineOf reads timeout too, which is short for default and max.
func deadlineOf(m *steadyv1.MethodConfig) *deadline.Config {
	d, timeout := m.GetDeadline(), timeOf(m.GetTimeout())
	if d == nil && timeout == 0 {
		return nil
	}
	c := &deadline.Config{
		Default:        timeOf(d.GetDefault()),
		Max:            timeOf(d.GetMax()),
		AttemptTimeout: timeOf(d.GetAttemptTimeout()),
		AttemptShare:   d.GetAttemptShare(),
		Reserve:        timeOf(d.GetReserve()),
		ReserveShare:   d.GetReserveShare(),
		FirstMessage:   timeOf(d.GetFirstMessage()),
		Idle:           timeOf(d.GetIdle()),
		Send:           timeOf(d.GetSend()),
	}
	if d == nil { // gRPC's own word says nothing of streams
		c.FirstMessage = -1
	}
	if timeout > 0 {
		c.Default, c.Max = timeout, timeout
	}
	switch d.GetFeasibility() {
	case steadyv1.Feasibility_FEASIBILITY_ALL:
		c.Feasibility = deadline.FeasibilityAll
	case steadyv1.Feasibility_FEASIBILITY_OFF:
		c.Feasibility = deadline.FeasibilityOff
	case steadyv1.Feasibility_FEASIBILITY_UNSPECIFIED, steadyv1.Feasibility_FEASIBILITY_RETRIES:
	}
	return c
}

func retryOf(p *steadyv1.RetryPolicy) *retry.Config {
	if p == nil {
		return nil
	}
	c := &retry.Config{
		MaxAttempts:    int(p.GetMaxAttempts()),
		InitialBackoff: timeOf(p.GetInitialBackoff()),
		MaxBackoff:     timeOf(p.GetMaxBackoff()),
		Multiplier:     p.GetBackoffMultiplier(),
		MaxElapsed:     timeOf(p.GetMaxElapsed()),
	}
	switch p.GetJitter() {
	case steadyv1.Jitter_JITTER_EQUAL:
		c.Jitter = retry.EqualJitter
	case steadyv1.Jitter_JITTER_DECORRELATED:
		c.Jitter = retry.DecorrelatedJitter
	case steadyv1.Jitter_JITTER_NONE:
		c.Jitter = retry.NoJitter
	case steadyv1.Jitter_JITTER_UNSPECIFIED, steadyv1.Jitter_JITTER_FULL:
	}
	return c
}

func breakerOf(b *steadyv1.Breaker) *breaker.Config {
	if b == nil {
		return nil
	}
	return &breaker.Config{
		ConsecutiveFailures: int(b.GetConsecutiveFailures()),
		FailureRatio:        b.GetFailureRatio(),
		SlowRatio:           b.GetSlowRatio(),
		SlowAfter:           timeOf(b.GetSlowAfter()),
		MinimumCalls:        int(b.GetMinimumCalls()),
		Window:              timeOf(b.GetWindow()),
		Buckets:             int(b.GetBuckets()),
		OpenTime:            timeOf(b.GetOpenTime()),
		MaxOpenTime:         timeOf(b.GetMaxOpenTime()),
		OpenMultiplier:      b.GetOpenMultiplier(),
		OpenJitter:          b.GetOpenJitter(),
		Probes:              int(b.GetProbes()),
		Successes:           int(b.GetSuccesses()),
	}
}

// budgetOf reads the throttling of gRPC as well, where no budget of ours is written. Nil: neither is.
func budgetOf(c *steadyv1.Config) *retry.BudgetConfig {
	b := c.GetRetryBudget()
	switch {
	case b != nil:
		return &retry.BudgetConfig{
			Ratio:        b.GetRatio(),
			MinPerSecond: b.GetMinPerSecond(),
			Interval:     timeOf(b.GetInterval()),
			MaxRatio:     b.GetMaxRatio(),
		}
	case c.GetRetryThrottling() != nil:
		return &retry.BudgetConfig{Ratio: min(c.GetRetryThrottling().GetTokenRatio(), 1)}
	}
	return nil
}

func modeOf(m steadyv1.Mode) Mode {
	switch m {
	case steadyv1.Mode_MODE_OBSERVE:
		return ModeObserve
	case steadyv1.Mode_MODE_OFF:
		return ModeOff
	case steadyv1.Mode_MODE_UNSPECIFIED, steadyv1.Mode_MODE_ENFORCE:
	}
	return ModeEnforce
}

// codesOf keeps the numbers, which are gRPC's.
func codesOf(list []steadyv1.Code) []codes.Code {
	var out []codes.Code
	for _, c := range list {
		out = append(out, codes.Code(c)) //nolint:gosec // 2 to 16, as the document was checked
	}
	return out
}

// timeOf is 0, the default, for what is not written, and -1 for none, which a document has as -1s.
func timeOf(d *durationpb.Duration) time.Duration {
	switch t := d.AsDuration(); {
	case d == nil:
		return 0
	case t < 0:
		return -1
	default:
		return t
	}
}
