package prom

import (
	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/steady"
)

// Observe counts an event.
func (m *Metrics) Observe(e steady.Event) {
	switch e := e.(type) {
	case *steady.AttemptEnded:
		s := m.series(&e.About)
		s.ended(&s.attempts, e.Code, e.Duration)
	case *steady.CallEnded:
		s := m.series(&e.About)
		s.ended(&s.calls, e.Code, e.Duration)
		if e.Attempts > 1 {
			result := "failed"
			if e.Code == codes.OK && !e.FellBack {
				result = "recovered"
			}
			m.retried.WithLabelValues(s.channel, s.method, result).Inc()
		}
		if e.Elsewhere > 0 {
			m.elsewhere.WithLabelValues(s.channel, s.method).Add(float64(e.Elsewhere))
		}
		if e.Code == codes.OK {
			return
		}
		if reason := e.Stop.String(); reason != "" {
			m.stopped.WithLabelValues(s.channel, s.method, reason).Inc()
		}
	case *steady.Retried:
		s := m.series(&e.About)
		m.retries.WithLabelValues(s.channel, s.method, codeName(e.Code), mode(e.WouldHave)).Inc()
		if !e.WouldHave {
			m.waitSeconds.WithLabelValues(s.channel, s.method).Observe(e.Wait.Seconds())
		}
	case *steady.Refused:
		s := m.series(&e.About)
		m.refused.WithLabelValues(s.channel, s.method, label(e.Gate), mode(e.WouldHave)).Inc()
	case *steady.DeadlineCut:
		limit := "call"
		if e.Attempt {
			limit = "attempt"
		}
		s := m.series(&e.About)
		m.cuts.WithLabelValues(s.channel, s.method, limit, mode(e.WouldHave)).Inc()
	case *steady.FellBack:
		result := "answered"
		if e.Err != nil {
			result = "failed"
		}
		s := m.series(&e.About)
		m.fallbacks.WithLabelValues(s.channel, s.method, result).Inc()
	case *steady.FaultInjected:
		s := m.series(&e.About)
		m.faults.WithLabelValues(s.channel, s.method, label(e.Fault)).Inc()
	case *steady.BreakerChanged:
		m.transitions.WithLabelValues(label(e.Channel), label(e.Rule), label(e.Method), e.Change.To.String(), mode(e.WouldHave)).Inc()
	case *steady.EndpointChanged:
		to := "in"
		if e.Out {
			to = "out"
		}
		m.moves.WithLabelValues(label(e.Channel), to, mode(e.WouldHave)).Inc()
	case *steady.Reloaded:
		result := "ok"
		if e.Err != nil {
			result = "refused"
		}
		m.reloads.WithLabelValues(result).Inc()
	}
}

func mode(wouldHave bool) string {
	if wouldHave {
		return "observe"
	}
	return "enforce"
}

// codeName is the code as grpc-go writes it, so that the label joins with other gRPC metrics.
func codeName(c codes.Code) string {
	if c > codes.Unauthenticated {
		return "Other"
	}
	return c.String()
}
