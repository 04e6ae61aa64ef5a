package weighted_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/balancer/attempt"
	"github.com/grpcsteady/steady/balancer/internal/capture"
	"github.com/grpcsteady/steady/balancer/weighted"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/resolver/endpoint"
)

func TestMain(m *testing.M) { steadytest.Main(m) }

// weights makes endpoints a, b, c and so on of some weights.
func weights(ws ...uint32) []resolver.Endpoint {
	list := make([]resolver.Endpoint, len(ws))
	for i, w := range ws {
		list[i] = endpoint.WithWeight(capture.Addresses(string(rune('a' + i)))[0], w)
	}
	return list
}

// picks makes n calls and returns where each went.
func picks(c *capture.Channel, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = c.Call(context.Background())
	}
	return out
}

func count(picks []string) map[string]int {
	n := make(map[string]int)
	for _, p := range picks {
		n[p]++
	}
	return n
}

func TestProportion(t *testing.T) {
	for _, tt := range []struct {
		weights []uint32
		picks   int
		want    map[string]int
	}{
		{[]uint32{3, 2, 1}, 60_000, map[string]int{"a": 30_000, "b": 20_000, "c": 10_000}},
		{[]uint32{5, 3, 2}, 1000, map[string]int{"a": 500, "b": 300, "c": 200}},
		{[]uint32{50, 30, 20}, 10, map[string]int{"a": 5, "b": 3, "c": 2}},
		{[]uint32{1, 0, 1}, 100, map[string]int{"a": 50, "c": 50}},
		{[]uint32{0, 0, 0}, 99, map[string]int{"a": 33, "b": 33, "c": 33}},
		{[]uint32{0, 7}, 10, map[string]int{"b": 10}},
		{[]uint32{1}, 10, map[string]int{"a": 10}},
		{[]uint32{math.MaxUint32, math.MaxUint32}, 10, map[string]int{"a": 5, "b": 5}},
	} {
		steadytest.Run(t, func(t *testing.T) {
			c := capture.New(t, weighted.Name)
			c.Update(`{}`, weights(tt.weights...))
			if got := count(picks(c, tt.picks)); !maps.Equal(got, tt.want) {
				t.Errorf("weights %v: %v, want %v", tt.weights, got, tt.want)
			}
		})
	}
}

// TestAnySixtyPicks: in any 60 picks in a row each count is within 2 of 30, 20 and 10, also across rebuilds.
func TestAnySixtyPicks(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		c := capture.New(t, weighted.Name)
		list := weights(3, 2, 1)
		c.Update(`{}`, list)
		var all []string
		for range 20 {
			all = append(all, picks(c, 47)...)
			c.Update(`{}`, list) // a resolver that repeats itself
			all = append(all, picks(c, 1)...)
			c.Down("b") // it flaps, and nobody calls meanwhile
			c.Up("b")
		}
		for from := range len(all) - 60 {
			got := count(all[from : from+60])
			for name, want := range map[string]int{"a": 30, "b": 20, "c": 10} {
				if d := got[name] - want; d < -2 || d > 2 {
					t.Fatalf("%v in 60 picks from %d", got, from)
				}
			}
		}
	})
}

// TestSequenceGoesOn: what a rebuild makes of the same weights continues where the last one was, to the pick.
func TestSequenceGoesOn(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		c := capture.New(t, weighted.Name)
		list := weights(3, 2, 1)
		c.Update(`{}`, list)
		cycle := picks(c, 6)
		for i := range 60 {
			if i%7 == 3 {
				c.Down("a")
				c.Up("a")
			}
			if got := c.Call(context.Background()); got != cycle[i%6] {
				t.Fatalf("pick %d goes to %s, want %s: the cycle is %v", i, got, cycle[i%6], cycle)
			}
		}
	})
}

// TestEqualWeightsAreRoundRobin: pick by pick as gRPC's own policy does it, which goes round in an order of its own:
// each once in every n picks, and always in the same order.
func TestEqualWeightsAreRoundRobin(t *testing.T) {
	for _, policy := range []string{roundrobin.Name, weighted.Name} {
		for _, n := range []int{1, 2, 3, 7} {
			steadytest.Run(t, func(t *testing.T) {
				c := capture.New(t, policy)
				list := make([]resolver.Endpoint, n)
				for i := range list {
					list[i] = capture.Addresses(string(rune('a' + i)))[0]
				}
				c.Update(`{}`, list)
				round := make([]string, n)
				for i := range round {
					round[i] = first(c)
				}
				if len(count(round)) != n {
					t.Fatalf("%s: the first %d picks are %v", policy, n, round)
				}
				for i := range 10 * n {
					if got := first(c); got != round[i%n] {
						t.Fatalf("%s: pick %d goes to %s, and the round is %v", policy, i, got, round)
					}
				}
			})
		}
	}
}

// first picks with policies that may have no interest in the end.
func first(c *capture.Channel) string {
	addr, done := c.Pick(context.Background())
	if done != nil {
		done(capture.Sent)
	}
	return addr
}

func TestWeightsChangeByAttributesAlone(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		c := capture.New(t, weighted.Name)
		for _, tt := range []struct {
			weights []uint32
			want    map[string]int
		}{
			{[]uint32{1, 1, 1}, map[string]int{"a": 20, "b": 20, "c": 20}},
			{[]uint32{3, 2, 1}, map[string]int{"a": 30, "b": 20, "c": 10}},
			{[]uint32{1, 0, 2}, map[string]int{"a": 20, "c": 40}},
			{[]uint32{0, 0, 0}, map[string]int{"a": 20, "b": 20, "c": 20}},
		} {
			c.Update(`{"slowStart":{"window":"none"}}`, weights(tt.weights...))
			if got := count(picks(c, 60)); !maps.Equal(got, tt.want) {
				t.Errorf("weights %v: %v, want %v", tt.weights, got, tt.want)
			}
		}
	})
}

// TestRetriesAvoidWhatWasTried: also where one that was tried has nearly all the weight.
func TestRetriesAvoidWhatWasTried(t *testing.T) {
	for _, ws := range [][]uint32{{1, 1, 1}, {3, 2, 1}, {1000, 1, 1}, {math.MaxUint32, 1, 1}} {
		steadytest.Run(t, func(t *testing.T) {
			c := capture.New(t, weighted.Name)
			c.Update(`{}`, weights(ws...))
			second := make(map[string]int)
			for range 300 {
				call := new(attempt.Call)
				var seen []string
				for n := 1; n <= 4; n++ {
					seen = append(seen, c.Call(attempt.NewContext(context.Background(), &attempt.Attempt{Call: call, Number: n})))
				}
				second[seen[1]]++
				if three := slices.Sorted(slices.Values(seen[:3])); !slices.Equal(three, []string{"a", "b", "c"}) {
					t.Fatalf("weights %v: attempts go to %v", ws, seen)
				}
			}
			// Who takes over from the heaviest is no matter of the order of the list.
			if ws[0] > 100 && (second["b"] < 90 || second["c"] < 90) {
				t.Errorf("weights %v: second attempts go to %v", ws, second)
			}
		})
	}
}

func TestRetriesAmongAThousand(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		c := capture.New(t, weighted.Name)
		list := make([]resolver.Endpoint, 1000)
		for i := range list {
			list[i] = endpoint.WithWeight(capture.Addresses(fmt.Sprint("e", i))[0], uint32(1+i%5))
		}
		c.Update(`{}`, list)
		time.Sleep(time.Second) // many that connect at once are dealt with in one go
		for range 200 {
			call, seen := new(attempt.Call), make(map[string]bool)
			for n := 1; n <= attempt.Max; n++ {
				seen[c.Call(attempt.NewContext(context.Background(), &attempt.Attempt{Call: call, Number: n}))] = true
			}
			if len(seen) != attempt.Max {
				t.Fatalf("%d attempts went to %d endpoints", attempt.Max, len(seen))
			}
		}
	})
}

// TestNewEndpointsBeginSlowly: a weight that grows is picked by, and the others stay in proportion.
func TestNewEndpointsBeginSlowly(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		c := capture.New(t, weighted.Name)
		list := weights(2, 1, 3)
		c.Update(`{}`, list[:2])
		time.Sleep(time.Minute)
		c.Update(`{}`, list)
		time.Sleep(15 * time.Second)
		got := count(picks(c, 9000)) // 2 : 1 : 3 * 1/2
		for name, want := range map[string]float64{"a": 4000, "b": 2000, "c": 3000} {
			if math.Abs(float64(got[name])-want) > want/50 {
				t.Errorf("half way up: %v, want 4000, 2000 and 3000", got)
			}
		}
	})
}

func TestPicksAllocateNothing(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		c := capture.New(t, weighted.Name)
		c.Update(`{"loadReports":{}}`, weights(3, 2, 1))
		picker := c.Picker()
		for name, ctx := range map[string]context.Context{
			"bare":   context.Background(),
			"driven": attempt.NewContext(context.Background(), &attempt.Attempt{Judged: true}),
			"retry":  retry("a"),
		} {
			info := balancer.PickInfo{FullMethodName: "/steady.echo.v1.Echo/Get", Ctx: ctx}
			if n := testing.AllocsPerRun(1000, func() {
				r, err := picker.Pick(info)
				if err != nil {
					t.Fatal(err)
				}
				r.Done(capture.Sent)
			}); n != 0 {
				t.Errorf("%s: %v allocations", name, n)
			}
		}
	})
}

// retry is the context of a second attempt.
func retry(tried string) context.Context {
	call := new(attempt.Call)
	(&attempt.Attempt{Call: call, Number: 1}).SetPicked(&tried)
	return attempt.NewContext(context.Background(), &attempt.Attempt{Call: call, Number: 2})
}
