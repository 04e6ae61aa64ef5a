package prom

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grpcsteady/steady/resolver/endpoint"
)

// maxEndpoints bounds the endpoints of one channel that have labels of their own. The rest, in the order of their
// names, share the label "other".
const maxEndpoints = 256

const otherEndpoint = "other"

// endpointStates are the states of an endpoint, the healthiest first.
var endpointStates = [...]string{"healthy", "unhealthy", "ejected", "disconnected"}

// stateOf returns the state of an endpoint as an index: what keeps it from being picked.
func stateOf(e *endpoint.Snapshot) int {
	switch {
	case e.State != "ready":
		return 3
	case e.Ejected:
		return 2
	case e.Unchecked:
		return 1
	default:
		return 0
	}
}

// endpointSum is what is sent of one endpoint, or of all that share a label.
type endpointSum struct {
	picks, failures uint64
	inFlight        int
	states          [len(endpointStates)]int
}

type endpointKey struct{ channel, endpoint string }

// addEndpoints takes the endpoints of a channel. Channels of one name add up.
func (s *states) addEndpoints(channel string, list []endpoint.Snapshot) {
	var loads []float64
	for i := range list {
		e := &list[i]
		key := endpointKey{channel, label(e.Endpoint)}
		if i >= maxEndpoints {
			key.endpoint = otherEndpoint
		}
		sum := s.endpoints[key]
		if sum == nil {
			sum = new(endpointSum)
			s.endpoints[key] = sum
		}
		sum.picks += e.Picks
		sum.failures += e.Failures
		sum.inFlight += e.InFlight
		sum.states[stateOf(e)]++
		if e.Effective > 0 {
			loads = append(loads, float64(e.Calls)/e.Effective)
		}
	}
	if v, ok := variation(loads); ok {
		s.variations[channel] = max(s.variations[channel], v)
	}
}

// variation returns the standard deviation of loads as a share of their mean: 0 if all are the same. false: there is
// no load.
func variation(loads []float64) (float64, bool) {
	sum, n := 0.0, float64(len(loads))
	for _, l := range loads {
		sum += l
	}
	if sum == 0 {
		return 0, false
	}
	mean, squares := sum/n, 0.0
	for _, l := range loads {
		squares += (l - mean) * (l - mean)
	}
	return math.Sqrt(squares/n) / mean, true
}

// endpointDescs describes what is sent of endpoints.
type endpointDescs struct{ requests, failures, inFlight, state, variation *prometheus.Desc }

func newEndpointDescs() endpointDescs {
	labels := []string{"channel", "endpoint"}
	return endpointDescs{
		requests:  prometheus.NewDesc("steady_endpoint_requests_total", "Attempts sent to an endpoint.", labels, nil),
		failures:  prometheus.NewDesc("steady_endpoint_failures_total", "Attempts that failed at an endpoint.", labels, nil),
		inFlight:  prometheus.NewDesc("steady_endpoint_in_flight", "Attempts under way at an endpoint.", labels, nil),
		state:     prometheus.NewDesc("steady_endpoint_state", "How many endpoints of the name are in a state.", append(labels, "state"), nil),
		variation: prometheus.NewDesc("steady_load_variation", "Standard deviation of the endpoints' attempts by weight within the window of ejection, as a share of their mean.", []string{"channel"}, nil),
	}
}

func (d *endpointDescs) all() []*prometheus.Desc {
	return []*prometheus.Desc{d.requests, d.failures, d.inFlight, d.state, d.variation}
}

func (s *states) sendEndpoints(d *endpointDescs, ch chan<- prometheus.Metric) {
	for key, sum := range s.endpoints {
		ch <- prometheus.MustNewConstMetric(d.requests, prometheus.CounterValue, float64(sum.picks), key.channel, key.endpoint)
		ch <- prometheus.MustNewConstMetric(d.failures, prometheus.CounterValue, float64(sum.failures), key.channel, key.endpoint)
		ch <- prometheus.MustNewConstMetric(d.inFlight, prometheus.GaugeValue, float64(sum.inFlight), key.channel, key.endpoint)
		for i, n := range sum.states {
			ch <- prometheus.MustNewConstMetric(d.state, prometheus.GaugeValue, float64(n), key.channel, key.endpoint, endpointStates[i])
		}
	}
	for channel, v := range s.variations {
		ch <- prometheus.MustNewConstMetric(d.variation, prometheus.GaugeValue, v, channel)
	}
}
