package weighted_test

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/orca"

	"github.com/grpcsteady/steady/balancer/internal/capture"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/resolver/endpoint"
)

// load is what a replica reports with each answer; the zero value: nothing.
type load struct{ utilization, cpu, rate, errors float64 }

// loads is what replicas report.
type loads struct {
	mu   sync.Mutex
	said map[string]load
}

func (l *loads) say(replica string, said load) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said[replica] = said
}

// reporting starts a fleet of replicas a, b and c that report by gRPC's own package orca.
func reporting(t *testing.T, names ...string) (*steadytest.Fleet, *loads) {
	said := &loads{said: make(map[string]load)}
	fleet := steadytest.NewFleet(t, steadytest.Replicas(names...), steadytest.EachServer(func(replica string) []grpc.ServerOption {
		return []grpc.ServerOption{
			orca.CallMetricsServerOption(nil),
			grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
				said.mu.Lock()
				l := said.said[replica]
				said.mu.Unlock()
				if r := orca.CallMetricsRecorderFromContext(ctx); r != nil {
					set(r, l)
				}
				return h(ctx, req)
			}),
		}
	}))
	return fleet, said
}

// set records what there is to report. gRPC refuses what is out of range, so what a hostile server says goes by
// another way; see hostile_test.go.
func set(r orca.CallMetricsRecorder, l load) {
	if l.utilization != 0 {
		r.SetApplicationUtilization(l.utilization)
	}
	if l.cpu != 0 {
		r.SetCPUUtilization(l.cpu)
	}
	if l.rate != 0 {
		r.SetQPS(l.rate)
	}
	if l.errors != 0 {
		r.SetEPS(l.errors)
	}
}

func channel(fleet *steadytest.Fleet, config string) *grpc.ClientConn {
	return fleet.Dial(grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"steady_weighted":` + config + `}]}`))
}

// during makes calls at a rate for some time, and returns which part of them each replica got.
func during(t *testing.T, fleet *steadytest.Fleet, conn *grpc.ClientConn, d time.Duration) observed {
	t.Helper()
	fleet.Forget()
	r := steadytest.Load{Rate: 100, For: d, Call: steadytest.Get(conn)}.Run(t.Context())
	if r.OK != r.Calls {
		t.Errorf("%v", r)
	}
	out := observed{calls: float64(r.Calls), shares: make(map[string]float64)}
	for name, n := range fleet.Count() {
		out.shares[name] = float64(n) / out.calls
	}
	return out
}

// observed is which part of some calls each replica got.
type observed struct {
	calls  float64
	shares map[string]float64
}

// near fails unless each share is as wanted. In any window each count is within 3 of its share; one call in a hundred
// may still be by the weights of a second ago.
func near(t *testing.T, what string, got observed, want map[string]float64) {
	t.Helper()
	sum := 0.0
	for _, w := range want {
		sum += w
	}
	for name, w := range want {
		if math.Abs(got.shares[name]-w/sum) > 0.01+3/got.calls {
			t.Errorf("%s: shares are %v, want %v", what, got.shares, want)
			return
		}
	}
}

func equal() map[string]float64 { return map[string]float64{"a": 1, "b": 1, "c": 1} }

// TestReportsMakeWeights: round robin until they have come for ten seconds, then by what they say, and by what they say
// anew a second later.
func TestReportsMakeWeights(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet, said := reporting(t, "a", "b", "c")
		said.say("a", load{utilization: 0.9, rate: 100})
		said.say("b", load{utilization: 0.3, rate: 100})
		said.say("c", load{cpu: 0.45, rate: 100}) // the CPU's where the application has none
		conn := channel(fleet, `{"loadReports":{}}`)
		near(t, "blackout", during(t, fleet, conn, 10*time.Second), equal())
		during(t, fleet, conn, time.Second) // weights follow once a second
		near(t, "reports", during(t, fleet, conn, 10*time.Second), map[string]float64{"a": 1, "b": 3, "c": 2})
		said.say("a", load{utilization: 0.1, rate: 100})
		said.say("b", load{utilization: 0.2, rate: 100})
		said.say("c", load{utilization: 0.4, rate: 100})
		during(t, fleet, conn, 2*time.Second)
		near(t, "new reports", during(t, fleet, conn, 10*time.Second), map[string]float64{"a": 4, "b": 2, "c": 1})
	})
}

// TestReportsExpire: three minutes after the last one they count no more, and then have to come for ten seconds again.
func TestReportsExpire(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet, said := reporting(t, "a", "b", "c")
		for name, u := range map[string]float64{"a": 0.1, "b": 0.2, "c": 0.4} {
			said.say(name, load{utilization: u, rate: 100})
		}
		conn := channel(fleet, `{"loadReports":{}}`)
		during(t, fleet, conn, 12*time.Second)
		for _, name := range []string{"a", "b", "c"} {
			said.say(name, load{})
		}
		uneven := map[string]float64{"a": 4, "b": 2, "c": 1}
		during(t, fleet, conn, time.Second)
		near(t, "just gone quiet", during(t, fleet, conn, 5*time.Second), uneven)
		time.Sleep(172 * time.Second)
		near(t, "178 s later", during(t, fleet, conn, time.Second), uneven)
		time.Sleep(3 * time.Second)
		near(t, "after three minutes", during(t, fleet, conn, 5*time.Second), equal())
		for name, u := range map[string]float64{"a": 0.1, "b": 0.2, "c": 0.4} {
			said.say(name, load{utilization: u, rate: 100})
		}
		near(t, "blackout again", during(t, fleet, conn, 9*time.Second), equal())
		during(t, fleet, conn, 2*time.Second)
		near(t, "counting again", during(t, fleet, conn, 5*time.Second), uneven)
	})
}

// TestErrorsWeigh: the formula of gRFC A58, with the penalty as configured.
func TestErrorsWeigh(t *testing.T) {
	for config, want := range map[string]map[string]float64{
		`{"loadReports":{"blackout":"none"}}`:                            {"a": 1 / 0.2, "b": 1 / (0.2 + 0.2), "c": 1 / 0.4},
		`{"loadReports":{"blackout":"none","errorPenalty":4}}`:           {"a": 1 / 0.2, "b": 1 / (0.2 + 0.8), "c": 1 / 0.4},
		`{"loadReports":{"blackout":"-1s","errorPenalty":-1}}`:           {"a": 1 / 0.2, "b": 1 / 0.2, "c": 1 / 0.4},
		`{"loadReports":{"blackout":"1ms","expiry":"1s"}}`:               {"a": 1 / 0.2, "b": 1 / (0.2 + 0.2), "c": 1 / 0.4},
		`{"ejection":{"mode":"off"}}`:                                    equal(),
		`{"loadReports":{"blackout":"1h"},"slowStart":{"window":"-1s"}}`: equal(),
	} {
		steadytest.Run(t, func(t *testing.T) {
			fleet, said := reporting(t, "a", "b", "c")
			said.say("a", load{utilization: 0.2, rate: 50})
			said.say("b", load{utilization: 0.2, rate: 50, errors: 10})
			said.say("c", load{utilization: 0.4, rate: 50})
			conn := channel(fleet, config)
			during(t, fleet, conn, 3*time.Second)
			// The rates are the same, so that only the utilization counts.
			near(t, config, during(t, fleet, conn, 10*time.Second), want)
		})
	}
}

// TestNoReportIsTheMean: an endpoint without reports, or whose reports are of no use, gets the mean; and reports come on
// top of the resolver's weights.
func TestNoReportIsTheMean(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet, said := reporting(t, "a", "b", "c")
		said.say("a", load{utilization: 0.1, rate: 100})  // 1000
		said.say("b", load{utilization: 0.25, rate: 100}) // 400, and the mean is 700
		said.say("c", load{utilization: 0.5})             // no rate
		conn := channel(fleet, `{"loadReports":{"blackout":"none"}}`)
		during(t, fleet, conn, 3*time.Second)
		near(t, "mean", during(t, fleet, conn, 10*time.Second), map[string]float64{"a": 10, "b": 4, "c": 7})

		state := capture.Addresses("a", "b", "c")
		state[1] = endpoint.WithWeight(state[1], 5)
		fleet.SetState(stateOf(state))
		during(t, fleet, conn, time.Second)
		near(t, "with weights", during(t, fleet, conn, 10*time.Second), map[string]float64{"a": 10, "b": 20, "c": 7})
	})
}

// TestManyReport: weights of many endpoints, and a fleet of which only one reports.
func TestManyReport(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		names, want := make([]string, 20), make(map[string]float64)
		for i := range names {
			names[i] = fmt.Sprint("r", i)
		}
		fleet, said := reporting(t, names...)
		for i, name := range names {
			said.say(name, load{utilization: 0.9, rate: float64(10 * (1 + i%4))})
			want[name] = float64(1 + i%4)
		}
		conn := channel(fleet, `{"loadReports":{"blackout":"none"}}`)
		during(t, fleet, conn, 3*time.Second)
		near(t, "twenty", during(t, fleet, conn, 10*time.Second), want)
	})
	steadytest.Run(t, func(t *testing.T) {
		fleet, said := reporting(t, "a", "b", "c")
		said.say("a", load{utilization: 0.9, rate: 1})
		conn := channel(fleet, `{"loadReports":{"blackout":"none"}}`)
		during(t, fleet, conn, 3*time.Second)
		near(t, "one alone", during(t, fleet, conn, 3*time.Second), equal())
	})
}
