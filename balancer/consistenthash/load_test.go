package consistenthash_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/balancer/consistenthash"
	"github.com/grpcsteady/steady/balancer/internal/capture"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// keyed is the context of a call with a key.
func keyed(key string) context.Context { return consistenthash.WithKey(context.Background(), key) }

// names are n addresses.
func names(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("10.0.%d.%d:50051", i>>8, i&255)
	}
	return out
}

var errDown = status.Error(codes.Unavailable, "down")

type call struct {
	addr string
	done func(balancer.DoneInfo)
}

// TestHotKey: with one hot key under ten times the load of all others no endpoint ever has more than maxLoad times
// the average in flight, rounded up, whatever comes and goes.
func TestHotKey(t *testing.T) {
	for _, n := range []int{1, 2, 3, 10, 100} {
		for _, most := range []float64{1.05, 1.25, 2} {
			steadytest.Run(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(uint64(n), math.Float64bits(most)))
				c := capture.New(t, consistenthash.Name)
				c.Update(fmt.Sprintf(`{"maxLoad":%g}`, most), capture.Addresses(names(n)...))
				inFlight, flying := make(map[string]int), []call(nil)
				top, moved := 0, 0
				for i := range 20_000 {
					if len(flying) > 0 && random.IntN(10*n) < len(flying) { // around ten calls for each
						k := random.IntN(len(flying))
						flying[k].done(capture.Sent)
						inFlight[flying[k].addr]--
						flying[k] = flying[len(flying)-1]
						flying = flying[:len(flying)-1]
						continue
					}
					key := "hot"
					if random.IntN(11) == 0 {
						key = fmt.Sprint(i)
					}
					addr, done := c.Pick(keyed(key))
					flying = append(flying, call{addr, done})
					inFlight[addr]++
					bound := int(math.Ceil(most*float64(len(flying))/float64(n) - 1e-9))
					if inFlight[addr] > bound {
						t.Fatalf("%d endpoints, maxLoad %g: %d of %d calls are at one, want at most %d", n, most, inFlight[addr], len(flying), bound)
					}
					top = max(top, inFlight[addr])
					if addr != owner(c, "hot") {
						moved++
					}
				}
				for _, f := range flying {
					f.done(capture.Sent)
				}
				if n > 1 && moved == 0 || top == 0 {
					t.Errorf("%d endpoints: nothing ever went to the next", n)
				}
			})
		}
	}
}

// TestHotKeyByMany: the same from many goroutines at once, which may be one ahead of each other each; in the end nothing
// is under way.
func TestHotKeyByMany(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		const n, callers, each = 5, 8, 20
		c := capture.New(t, consistenthash.Name)
		c.Update(`{"maxLoad":1.25}`, capture.Addresses(names(n)...))
		var inFlight [n]atomic.Int64 // a little behind the policy's own, which is read in two steps
		number := make(map[string]int)
		for i, name := range names(n) {
			number[name] = i
		}
		var most atomic.Int64
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				for range 200 {
					var flying []call
					for range each {
						addr, done := c.Pick(keyed("hot"))
						flying = append(flying, call{addr, done})
						for now, was := inFlight[number[addr]].Add(1), most.Load(); now > was && !most.CompareAndSwap(was, now); {
							was = most.Load()
						}
					}
					for _, f := range flying {
						inFlight[number[f.addr]].Add(-1)
						f.done(capture.Sent)
					}
				}
			})
		}
		all.Wait()
		if bound := int64(math.Ceil(1.25*callers*each/n)) + callers; most.Load() > bound {
			t.Errorf("%d calls were at one endpoint, want at most %d", most.Load(), bound)
		}
		for _, e := range c.Endpoints() {
			if e.InFlight != 0 {
				t.Errorf("%s has %d in flight", e.Endpoint, e.InFlight)
			}
		}
	})
}

// owner says where the call of a key goes; it must be told at once, since a pick counts.
func owner(c *capture.Channel, key string) string { return c.Call(keyed(key)) }

// TestBoundWhileCallsFromBeforeAreUnderWay: turned on by a new configuration, the bound knows of the calls that
// began without it.
func TestBoundWhileCallsFromBeforeAreUnderWay(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		const n = 10
		c := capture.New(t, consistenthash.Name)
		list := capture.Addresses(names(n)...)
		c.Update(`{}`, list)
		var old []call
		inFlight := make(map[string]int)
		for i := range 1000 {
			addr, done := c.Pick(keyed(fmt.Sprint(i)))
			old = append(old, call{addr, done})
			inFlight[addr]++
		}
		c.Update(`{"maxLoad":1.25}`, list)
		want := c.Call(keyed("hot"))
		if inFlight[want] > 125 {
			t.Errorf("the first call goes to %s, which has %d of 1,000 in flight", want, inFlight[want])
		}
		for i := range 200 {
			addr, _ := c.Pick(keyed("hot"))
			inFlight[addr]++
			if bound := int(math.Ceil(1.25 * float64(1001+i) / n)); inFlight[addr] > bound {
				t.Fatalf("%d of %d calls are at one, want at most %d", inFlight[addr], 1001+i, bound)
			}
		}
		// And forgets them when they are over.
		for _, o := range old {
			o.done(capture.Sent)
			inFlight[o.addr]--
		}
		total := 200
		for range 4000 { // enough for it to have looked
			c.Call(keyed("other"))
		}
		for range 200 {
			addr, _ := c.Pick(keyed("hot"))
			inFlight[addr]++
			total++
			if bound := int(math.Ceil(1.25 * float64(total) / n)); inFlight[addr] > bound && inFlight[addr] > 40 {
				t.Fatalf("%d of %d calls are at one, want at most %d", inFlight[addr], total, bound)
			}
		}
	})
}

// TestBoundIsByTheResolversWeight: keys go where they belong also while an endpoint is warming up.
func TestBoundIsByTheResolversWeight(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		c := capture.New(t, consistenthash.Name)
		list := capture.Addresses(names(4)...)
		c.Update(`{"maxLoad":1.25}`, list[:3])
		time.Sleep(time.Minute)
		c.Update(`{"maxLoad":1.25}`, list) // the fourth begins slowly
		moved := 0
		for i := range 400 { // one call of each of many keys under way
			addr, _ := c.Pick(keyed(fmt.Sprint(i)))
			if addr == list[3].Addresses[0].Addr {
				moved++
			}
		}
		if moved < 70 {
			t.Errorf("%d of 400 calls go to the new one, want its share of about 100", moved)
		}
	})
}
