package leastrequest_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/balancer/attempt"
	"github.com/grpcsteady/steady/balancer/internal/capture"
	"github.com/grpcsteady/steady/balancer/leastrequest"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/resolver/endpoint"
)

// fleet makes endpoints e0, e1 and so on of some weights.
func fleet(weights ...uint32) []resolver.Endpoint {
	list := make([]resolver.Endpoint, len(weights))
	for i, w := range weights {
		list[i] = endpoint.WithWeight(capture.Addresses(fmt.Sprint("e", i))[0], w)
	}
	return list
}

func alike(n int) []resolver.Endpoint { return fleet(slices.Repeat([]uint32{1}, n)...) }

// open makes calls that do not end, and returns how many each endpoint has.
func open(c *capture.Channel, n int) map[string]int {
	inFlight := make(map[string]int)
	for range n {
		addr, _ := c.Pick(context.Background())
		inFlight[addr]++
	}
	return inFlight
}

// TestSmallSetsAreEven: where all are compared, calls that do not end are spread to within one.
func TestSmallSetsAreEven(t *testing.T) {
	for _, tt := range []struct {
		config string
		n      int
	}{{`{}`, 1}, {`{}`, 2}, {`{}`, 3}, {`{}`, 4}, {`{"choiceCount":5}`, 5}, {`{"choiceCount":10}`, 10}, {`{"choiceCount":11}`, 10}, {`{"choiceCount":10}`, 3}} {
		steadytest.Run(t, func(t *testing.T) {
			c := capture.New(t, leastrequest.Name)
			c.Update(tt.config, alike(tt.n))
			for addr, got := range open(c, 7*tt.n) {
				if got != 7 {
					t.Errorf("%s, %d endpoints: %s has %d in flight, want 7", tt.config, tt.n, addr, got)
				}
			}
		})
	}
}

// TestWeightsShareWhatIsInFlight: (in-flight + 1) / weight evens out.
func TestWeightsShareWhatIsInFlight(t *testing.T) {
	for _, tt := range []struct {
		config  string
		weights []uint32
		off     float64
	}{
		{`{}`, []uint32{5, 3, 2}, 1}, {`{}`, []uint32{3, 2, 1}, 1}, {`{"choiceCount":6}`, []uint32{1, 1, 2, 4, 8, 16}, 1},
		{`{}`, []uint32{1, 1, 2, 4, 8, 16}, 6}, // two of six are compared
	} {
		steadytest.Run(t, func(t *testing.T) {
			c := capture.New(t, leastrequest.Name)
			c.Update(tt.config, fleet(tt.weights...))
			sum := uint32(0)
			for _, w := range tt.weights {
				sum += w
			}
			got := open(c, 10*int(sum))
			for i, w := range tt.weights {
				if d := math.Abs(float64(got[fmt.Sprint("e", i)]) - 10*float64(w)); d > tt.off {
					t.Errorf("%s: weights %v have %v in flight", tt.config, tt.weights, got)
				}
			}
		})
	}
}

// TestCountsPersist: over updates of the list, of the configuration and over a connection that is lost and back.
func TestCountsPersist(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		c := capture.New(t, leastrequest.Name)
		c.Update(`{}`, alike(2))
		open(c, 20)              // ten at each
		c.Update(`{}`, alike(3)) // and one more
		if got := open(c, 10); got["e2"] != 10 {
			t.Fatalf("of ten calls the new one gets %d, with ten in flight at both others", got["e2"])
		}
		c.Update(`{"choiceCount":3,"ejection":{"window":"20s"}}`, alike(3))
		c.Down("e0")
		c.Up("e0")
		if got := open(c, 3); len(got) != 3 {
			t.Errorf("%v, want one each: all have ten in flight", got)
		}
		for _, e := range c.Endpoints() {
			if e.InFlight != 11 {
				t.Errorf("%s has %d in flight, want 11", e.Endpoint, e.InFlight)
			}
		}
	})
}

// TestEndsAreCounted: however a call ends its place is free again.
func TestEndsAreCounted(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		c := capture.New(t, leastrequest.Name)
		c.Update(`{"ejection":{"mode":"off"}}`, alike(2))
		for _, end := range []balancer.DoneInfo{
			capture.Sent, {}, {Err: status.Error(codes.Unavailable, "down"), BytesSent: true}, {Err: context.Canceled},
		} {
			for range 10 {
				_, done := c.Pick(context.Background())
				done(end)
			}
		}
		for _, e := range c.Endpoints() {
			if e.InFlight != 0 {
				t.Errorf("%s has %d in flight", e.Endpoint, e.InFlight)
			}
		}
	})
}

// TestFailingFastAttractsNobody: an endpoint that fails at once never has anything in flight, and gets less than its
// share all the same.
func TestFailingFastAttractsNobody(t *testing.T) {
	for _, n := range []int{3, 10} {
		steadytest.Run(t, func(t *testing.T) {
			c := capture.New(t, leastrequest.Name)
			c.Update(`{"ejection":{"mode":"off"}}`, alike(n))
			type call struct {
				addr string
				done func(balancer.DoneInfo)
			}
			var flying []call
			sick, calls := 0, 3000
			for range calls {
				addr, done := c.Pick(context.Background())
				if addr == "e0" {
					sick++
					done(balancer.DoneInfo{Err: status.Error(codes.Unavailable, "down"), BytesSent: true})
					continue
				}
				if flying = append(flying, call{addr, done}); len(flying) > 3*n { // the others take their time
					flying[0].done(capture.Sent)
					flying = flying[1:]
				}
			}
			if share := float64(sick) * float64(n) / float64(calls); share > 0.25 {
				t.Errorf("%d endpoints: the sick one has %.2f of its share", n, share)
			}
		})
	}
}

// TestRetriesAvoid: through the policy, with two endpoints and with a thousand.
func TestRetriesAvoid(t *testing.T) {
	for _, n := range []int{2, 5, 1000} {
		steadytest.Run(t, func(t *testing.T) {
			c := capture.New(t, leastrequest.Name)
			c.Update(`{}`, alike(n))
			time.Sleep(time.Second) // many that connect at once are dealt with in one go
			for range 50 {
				call, seen := new(attempt.Call), make(map[string]bool)
				for number := 1; number <= attempt.Max; number++ {
					seen[c.Call(attempt.NewContext(context.Background(), &attempt.Attempt{Call: call, Number: number}))] = true
				}
				if len(seen) != min(n, attempt.Max) {
					t.Fatalf("%d attempts went to %d of %d endpoints", attempt.Max, len(seen), n)
				}
			}
		})
	}
}

func TestPicksAllocateNothing(t *testing.T) {
	for _, config := range []string{`{}`, `{"latency":{}}`, `{"ejection":{"mode":"off"}}`, `{"choiceCount":5}`} {
		for _, list := range [][]resolver.Endpoint{alike(3), alike(10), fleet(5, 3, 2, 1, 1, 1, 4, 4)} {
			steadytest.Run(t, func(t *testing.T) {
				c := capture.New(t, leastrequest.Name)
				c.Update(config, list)
				picker, tried := c.Picker(), "e0"
				call := new(attempt.Call)
				(&attempt.Attempt{Call: call, Number: 1}).SetPicked(&tried)
				for name, ctx := range map[string]context.Context{
					"bare":   context.Background(),
					"driven": attempt.NewContext(context.Background(), &attempt.Attempt{Judged: true}),
					"retry":  attempt.NewContext(context.Background(), &attempt.Attempt{Call: call, Number: 2}),
				} {
					info := balancer.PickInfo{FullMethodName: "/steady.echo.v1.Echo/Get", Ctx: ctx}
					if n := testing.AllocsPerRun(500, func() {
						r, err := picker.Pick(info)
						if err != nil {
							t.Fatal(err)
						}
						r.Done(capture.Sent)
					}); n != 0 {
						t.Errorf("%s, %d endpoints, %s: %v allocations", config, len(list), name, n)
					}
				}
			})
		}
	}
}

// TestDualStack: an endpoint of two addresses is one, whichever is connected to and however they are ordered.
func TestDualStack(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		of := func(addrs ...string) (e resolver.Endpoint) {
			for _, a := range addrs {
				e.Addresses = append(e.Addresses, resolver.Address{Addr: a})
			}
			return e
		}
		c := capture.New(t, leastrequest.Name)
		c.Down("10.0.0.1:1")
		c.Update(`{}`, []resolver.Endpoint{of("10.0.0.1:1", "[::1]:1"), of("10.0.0.2:1", "[::2]:1")})
		if got := open(c, 10); got["[::1]:1"] != 5 || got["10.0.0.2:1"] != 5 {
			t.Fatalf("%v, want half of them by the address that can be reached", got)
		}
		c.Update(`{}`, []resolver.Endpoint{of("[::2]:1", "10.0.0.2:1"), of("[::1]:1", "10.0.0.1:1")})
		open(c, 10)
		for i, e := range c.Endpoints() {
			if want := fmt.Sprintf("10.0.0.%d:1", i+1); e.Endpoint != want || e.InFlight != 10 || e.Picks != 10 {
				t.Errorf("endpoint %s has %d in flight of %d, want %s and 10 of 10", e.Endpoint, e.InFlight, e.Picks, want)
			}
		}
	})
}
