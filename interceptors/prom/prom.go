// Package prom turns the events of interceptors/steady into Prometheus metrics.
//
//	metrics := prom.New()
//	prometheus.MustRegister(metrics) // the user registers; nothing is global
//	out, err := steady.NewOutbound(rules, steady.WithObserver(metrics))
//
// A [Metrics] is an observer and a collector at once, and may serve any number of outbounds and inbounds.
// What happens is counted as it happens; states (breakers, budgets) are read when a scrape asks for them.
// The durations of calls and attempts are summed to the microsecond.
//
//	steady_calls_total{channel,method,code}                counter, calls as their callers see them
//	steady_call_duration_seconds{channel,method}           histogram
//	steady_attempts_total{channel,method,code}             counter, what was sent
//	steady_attempt_duration_seconds{channel,method}        histogram
//	steady_retries_total{channel,method,code,mode}         counter, by the code that was retried
//	steady_retries_elsewhere_total{channel,method}         counter, attempts sent to an endpoint not tried before
//	steady_retried_calls_total{channel,method,result}      counter, calls of several attempts, result is recovered or failed
//	steady_retry_stopped_total{channel,method,reason}      counter, failed calls by why no further attempt was made
//	steady_retry_backoff_seconds{channel,method}           histogram, waits before attempts
//	steady_refused_total{channel,method,gate,mode}         counter
//	steady_deadline_cuts_total{channel,method,limit,mode}  counter, limit is attempt or call
//	steady_fallbacks_total{channel,method,result}          counter, result is answered or failed
//	steady_faults_injected_total{channel,method,fault}     counter
//	steady_breaker_transitions_total{channel,rule,method,to,mode} counter
//	steady_breaker_state{channel,rule,method,state}        gauge, 1 for the state it is in
//	steady_breaker_failure_ratio{channel,rule,method}      gauge, within the breaker's window
//	steady_retry_budget_left{channel}                      gauge, retries that the budget still allows
//	steady_endpoint_requests_total{channel,endpoint}       counter, attempts sent there
//	steady_endpoint_failures_total{channel,endpoint}       counter, those that failed
//	steady_endpoint_in_flight{channel,endpoint}            gauge
//	steady_endpoint_state{channel,endpoint,state}          gauge, 1 for the state: healthy, unhealthy (active checks), ejected, disconnected
//	steady_endpoint_changes_total{channel,to,mode}         counter, to is out or in
//	steady_load_variation{channel}                         gauge, how unevenly endpoints were used of late; 0 is evenly
//	steady_reloads_total{result}                           counter, result is ok or refused
//
// mode is enforce, or observe where a rule only observes and the metric counts what would have been.
//
// Labels are bounded: a method that stands in no rule and in no descriptor linked into the program is
// counted under the method "other", and so are the endpoints of a channel beyond 256 under the endpoint "other".
// Endpoints are shown where steady's balancing policies are used.
//
// Not for traces or logs, and not for what gRPC's own stats say about connections and bytes.
package prom

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grpcsteady/steady/interceptors/steady"
)

// defaultBuckets are the bounds of the duration histograms, in seconds: from half a millisecond, which a call
// inside one zone takes, to the 30 s of the default deadline.
var defaultBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// Option changes how metrics are made.
type Option func(*Metrics)

// WithBuckets sets the upper bounds of the duration histograms, in seconds and increasing.
// Default: 15 bounds from 0.5 ms to 30 s; none means the default. [New] panics unless they increase.
func WithBuckets(bounds ...float64) Option { return func(m *Metrics) { m.buckets = bounds } }

// Metrics observes and collects. Make one with [New].
type Metrics struct {
	buckets []float64

	// What every call pays; see series.
	bounds                      *bounds
	counted                     allSeries
	calls, attempts             *prometheus.Desc
	callSeconds, attemptSeconds *prometheus.Desc

	retries, retried, elsewhere *prometheus.CounterVec
	stopped, refused            *prometheus.CounterVec
	cuts, fallbacks, faults     *prometheus.CounterVec
	transitions, reloads        *prometheus.CounterVec
	waitSeconds                 *prometheus.HistogramVec
	vectors                     []prometheus.Collector

	state, ratio, budget *prometheus.Desc
	endpoints            endpointDescs
	moves                *prometheus.CounterVec

	mu        sync.Mutex // guards snapshots
	snapshots []func() steady.Snapshot
}

var (
	_ steady.Observer      = (*Metrics)(nil)
	_ prometheus.Collector = (*Metrics)(nil)
)

// New makes metrics that nobody has registered yet.
func New(opts ...Option) *Metrics {
	m := &Metrics{buckets: defaultBuckets}
	for _, o := range opts {
		o(m)
	}
	if len(m.buckets) == 0 {
		m.buckets = defaultBuckets
	}
	m.bounds = newBounds(m.buckets)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		m.vectors = append(m.vectors, v)
		return v
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: m.buckets}, labels)
		m.vectors = append(m.vectors, v)
		return v
	}
	m.calls = prometheus.NewDesc("steady_calls_total", "Calls that ended, by the code their callers got.", []string{"channel", "method", "code"}, nil)
	m.attempts = prometheus.NewDesc("steady_attempts_total", "Attempts that ended, by code.", []string{"channel", "method", "code"}, nil)
	m.retries = counter("steady_retries_total", "Attempts that were followed by another, by their code.", "channel", "method", "code", "mode")
	m.retried = counter("steady_retried_calls_total", "Calls of more than one attempt, by whether the last attempt succeeded.", "channel", "method", "result")
	m.elsewhere = counter("steady_retries_elsewhere_total", "Attempts sent to an endpoint that the call had not tried before.", "channel", "method")
	m.stopped = counter("steady_retry_stopped_total", "Failed calls by the reason for which no further attempt was made.", "channel", "method", "reason")
	m.refused = counter("steady_refused_total", "Attempts that a gate did not admit.", "channel", "method", "gate", "mode")
	m.cuts = counter("steady_deadline_cuts_total", "Attempts and calls ended by a rule's deadline.", "channel", "method", "limit", "mode")
	m.fallbacks = counter("steady_fallbacks_total", "Calls that a fallback was asked to answer.", "channel", "method", "result")
	m.faults = counter("steady_faults_injected_total", "Faults injected on purpose.", "channel", "method", "fault")
	m.transitions = counter("steady_breaker_transitions_total", "Changes of circuit breakers, by the state they changed to.", "channel", "rule", "method", "to", "mode")
	m.moves = counter("steady_endpoint_changes_total", "Endpoints that a balancing policy took out or let back in.", "channel", "to", "mode")
	m.reloads = counter("steady_reloads_total", "Exchanges of rules.", "result")
	m.callSeconds = prometheus.NewDesc("steady_call_duration_seconds", "How long calls took, all attempts and waits included.", []string{"channel", "method"}, nil)
	m.attemptSeconds = prometheus.NewDesc("steady_attempt_duration_seconds", "How long attempts took.", []string{"channel", "method"}, nil)
	m.waitSeconds = histogram("steady_retry_backoff_seconds", "How long calls waited before another attempt.", "channel", "method")
	m.state = prometheus.NewDesc("steady_breaker_state", "1 for the state a circuit breaker is in.", []string{"channel", "rule", "method", "state"}, nil)
	m.ratio = prometheus.NewDesc("steady_breaker_failure_ratio", "Share of failures within the breaker's window.", []string{"channel", "rule", "method"}, nil)
	m.budget = prometheus.NewDesc("steady_retry_budget_left", "Retries that the budget of a channel still allows.", []string{"channel"}, nil)
	m.endpoints = newEndpointDescs()
	return m
}

// Attach makes scrapes read states from a snapshot as well. steady.NewOutbound calls it.
func (m *Metrics) Attach(snapshot func() steady.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.snapshots = append(m.snapshots, snapshot)
}

// Describe sends the descriptions of all metrics.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, v := range m.vectors {
		v.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{m.calls, m.attempts, m.callSeconds, m.attemptSeconds, m.state, m.ratio, m.budget} {
		ch <- d
	}
	for _, d := range m.endpoints.all() {
		ch <- d
	}
}
