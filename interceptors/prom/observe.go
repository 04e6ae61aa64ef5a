package prom

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/steady"
)

// series holds the metrics of one method of one channel, so that an event costs no look-up by labels.
type series struct {
	channel, method string
	calls, attempts [18]atomic.Pointer[prometheus.Counter] // by code; the last for codes gRPC does not know
	callSeconds     prometheus.Observer
	attemptSeconds  prometheus.Observer
}

// Observe counts an event.
func (m *Metrics) Observe(e steady.Event) {
	switch e := e.(type) {
	case *steady.AttemptEnded:
		s := m.series(&e.About)
		m.count(&s.attempts, m.attempts, s, e.Code)
		s.attemptSeconds.Observe(e.Duration.Seconds())
	case *steady.CallEnded:
		s := m.series(&e.About)
		m.count(&s.calls, m.calls, s, e.Code)
		s.callSeconds.Observe(e.Duration.Seconds())
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
		if reason := e.Stop.String(); e.Code != codes.OK && reason != "" {
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
	case *steady.Reloaded:
		result := "ok"
		if e.Err != nil {
			result = "refused"
		}
		m.reloads.WithLabelValues(result).Inc()
	}
}

// series returns the metrics of the method an event is about.
func (m *Metrics) series(about *steady.About) *series {
	if s, ok := about.Memo.Get(m).(*series); ok {
		return s
	}
	s := &series{channel: label(about.Channel), method: "other"}
	if about.Known {
		s.method = label(about.Method)
	}
	s.callSeconds = m.callSeconds.WithLabelValues(s.channel, s.method)
	s.attemptSeconds = m.attemptSeconds.WithLabelValues(s.channel, s.method)
	return about.Memo.Keep(m, s).(*series)
}

// count adds one to the counter of a code, which is looked up by labels once.
func (m *Metrics) count(counters *[18]atomic.Pointer[prometheus.Counter], v *prometheus.CounterVec, s *series, code codes.Code) {
	slot := &counters[min(int(code), len(counters)-1)]
	c := slot.Load()
	if c == nil {
		made := v.WithLabelValues(s.channel, s.method, codeName(code))
		c = &made
		slot.Store(c)
	}
	(*c).Inc()
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
