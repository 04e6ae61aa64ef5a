package pool

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
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
