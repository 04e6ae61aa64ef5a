package pool

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
)

// ready is the picker of a connection that is ready.
type ready struct{ balancer.PickResult }

func (r ready) Pick(balancer.PickInfo) (balancer.PickResult, error) { return r.PickResult, nil }

// set makes a pool of n endpoints, all ready, and its candidates.
func set(n int, s Settings, weight func(i int) float64) (*Pool, []Candidate) {
	p := newPool(nil)
	p.configure(s)
	list := make([]resolver.Endpoint, n)
	for i := range list {
		list[i] = resolver.Endpoint{Addresses: []resolver.Address{{Addr: fmt.Sprintf("10.0.%d.%d:50051", i/256, i%256)}}}
	}
	p.update(list)
	candidates := make([]Candidate, n)
	for i, e := range p.list {
		e.ready = true
		candidates[i] = Candidate{Endpoint: e, Weight: weight(i), picker: ready{}}
	}
	return p, candidates
}

func one(int) float64 { return 1 }

func leastPicker(n int, s Settings, weight func(i int) float64) *picker {
	p, c := set(n, s, weight)
	return &picker{pool: p, candidates: c, chooser: NewLeast(p, c, 2, s.Latency), settings: &s, endpoints: n}
}

var (
	bare    = Settings{Ejection: Ejection{Off: true}}
	windows = Settings{Ejection: Ejection{Window: 10 * time.Second, Consecutive: 5, Ratio: 0.8, MinimumCalls: 20}}
	timed   = Settings{Ejection: windows.Ejection, Latency: Latency{Decay: 10 * time.Second, Penalty: 5 * time.Second}}
)

var ended = balancer.DoneInfo{BytesSent: true}

func BenchmarkLeastRequest(b *testing.B) {
	info := balancer.PickInfo{FullMethodName: "/grpc.health.v1.Health/Check", Ctx: context.Background()}
	for _, n := range []int{3, 10, 100, 10_000} {
		for name, s := range map[string]Settings{"bare": bare, "window": windows, "latency": timed} {
			for kind, weight := range map[string]func(int) float64{"same": one, "weights": func(i int) float64 { return float64(1 + i%3) }} {
				p := leastPicker(n, s, weight)
				b.Run(fmt.Sprintf("%d/%s/%s", n, name, kind), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						r, _ := p.Pick(info)
						r.Done(ended)
					}
				})
			}
		}
	}
}

func BenchmarkLeastRequestParallel(b *testing.B) {
	info := balancer.PickInfo{FullMethodName: "/grpc.health.v1.Health/Check", Ctx: context.Background()}
	for _, n := range []int{10, 10_000} {
		for name, s := range map[string]Settings{"bare": bare, "window": windows, "latency": timed} {
			p := leastPicker(n, s, one)
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						r, _ := p.Pick(info)
						r.Done(ended)
					}
				})
			})
		}
	}
}

// deaf is gRPC for a policy of which only the rebuild is of interest.
type deaf struct{ balancer.ClientConn }

func (deaf) UpdateState(balancer.State) {}

// BenchmarkUpdate changes 1 % of the endpoints: the pool's and the policy's part of it, without endpointsharding's.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		for name, s := range map[string]Settings{"window": windows, "latency": timed} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				pool, _ := set(n, s, one)
				lists := [2][]resolver.Endpoint{}
				for k := range lists {
					for i := range n {
						host := 0
						if i < n/100 {
							host = 1 + k
						}
						lists[k] = append(lists[k], resolver.Endpoint{Addresses: []resolver.Address{{Addr: fmt.Sprintf("10.%d.%d.%d:50051", host, i/256, i%256)}}})
					}
				}
				p := &policy{ClientConn: deaf{}, pool: pool, checks: map[*Endpoint]*check{}, config: &Config{
					Settings: s, Chooser: func(set Set) Chooser { return NewLeast(set.Pool, set.Candidates, 2, s.Latency) },
				}}
				pool.adopt(p)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					use := pool.update(lists[i%2])
					p.children = p.children[:0]
					for _, e := range use {
						p.children = append(p.children, endpointsharding.ChildState{Endpoint: e, State: balancer.State{ConnectivityState: connectivity.Ready, Picker: ready{}}})
					}
					p.mu.Lock()
					p.rebuild()
					p.mu.Unlock()
				}
			})
		}
	}
}
