package prom

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/steady"
)

// Collect sends all metrics; states are read now.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, v := range m.vectors {
		v.Collect(ch)
	}
	for _, s := range m.counted.all() {
		s.send(m, ch)
	}
	m.mu.Lock()
	snapshots := slices.Clip(m.snapshots)
	m.mu.Unlock()
	states := newStates()
	for _, snapshot := range snapshots {
		states.add(snapshot())
	}
	states.send(m, ch)
}

var breakerStates = []breaker.State{breaker.Closed, breaker.Open, breaker.HalfOpen, breaker.ForcedOpen, breaker.ForcedClosed}

// states gathers what snapshots say. Two channels may carry one name, and a metric must not be sent twice:
// of their breakers the one furthest from closed is shown, and budgets add up.
type states struct {
	breakers   map[[3]string]breaker.Snapshot
	budgets    map[string]int64
	endpoints  map[endpointKey]*endpointSum
	variations map[string]float64 // by channel
}

func newStates() *states {
	return &states{
		breakers: make(map[[3]string]breaker.Snapshot), budgets: make(map[string]int64),
		endpoints: make(map[endpointKey]*endpointSum), variations: make(map[string]float64),
	}
}

func (s *states) add(snap steady.Snapshot) {
	for _, c := range snap.Channels {
		name := label(c.Name)
		s.budgets[name] += c.Budget.Left
		s.addEndpoints(name, c.Endpoints)
		for _, b := range c.Breakers {
			key := [3]string{name, label(b.Rule), label(b.Method)}
			if old, ok := s.breakers[key]; !ok || alarm(b.State) > alarm(old.State) {
				s.breakers[key] = b.Snapshot
			}
		}
	}
}

// alarm orders states by how much they keep from the server.
func alarm(s breaker.State) int {
	switch s {
	case breaker.ForcedOpen:
		return 4
	case breaker.Open:
		return 3
	case breaker.HalfOpen:
		return 2
	case breaker.ForcedClosed:
		return 1
	default:
		return 0
	}
}

func (s *states) send(m *Metrics, ch chan<- prometheus.Metric) {
	for name, left := range s.budgets {
		ch <- prometheus.MustNewConstMetric(m.budget, prometheus.GaugeValue, float64(left), name)
	}
	for key, b := range s.breakers {
		for _, state := range breakerStates {
			value := 0.0
			if b.State == state {
				value = 1
			}
			ch <- prometheus.MustNewConstMetric(m.state, prometheus.GaugeValue, value, key[0], key[1], key[2], state.String())
		}
		ratio := 0.0
		if b.Calls > 0 {
			ratio = float64(b.Failures) / float64(b.Calls)
		}
		ch <- prometheus.MustNewConstMetric(m.ratio, prometheus.GaugeValue, ratio, key[0], key[1], key[2])
	}
	s.sendEndpoints(&m.endpoints, ch)
}

// label makes a text fit for a label: Prometheus refuses what is not UTF-8, and a refused sample would be a
// panic in the middle of a call.
func label(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
