package consistenthash_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/balancer/attempt"
	"github.com/grpcsteady/steady/balancer/consistenthash"
	"github.com/grpcsteady/steady/balancer/internal/capture"
	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/resolver/endpoint"
)

// ring makes a channel of n endpoints.
func ring(t *testing.T, config string, n int) *capture.Channel {
	t.Helper()
	c := capture.New(t, consistenthash.Name)
	c.Update(config, capture.Addresses(names(n)...))
	time.Sleep(time.Second) // many that connect at once are dealt with in one go
	return c
}

func header(pairs ...string) context.Context {
	return metadata.AppendToOutgoingContext(context.Background(), pairs...)
}

func caller(addr net.Addr) context.Context {
	return peer.NewContext(context.Background(), &peer.Peer{Addr: addr})
}

// table is where each of many keys goes.
func table(c *capture.Channel, n int) map[string]string {
	out := make(map[string]string, n)
	for i := range n {
		key := fmt.Sprint("user-", i)
		out[key] = owner(c, key)
	}
	return out
}

func TestSameKeySameEndpoint(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		c := ring(t, `{}`, 10)
		first := table(c, 1000)
		if again := table(c, 1000); !maps.Equal(first, again) {
			t.Error("keys have moved, and nothing has changed")
		}
		used := make(map[string]bool)
		for _, addr := range first {
			used[addr] = true
		}
		if len(used) != 10 {
			t.Errorf("a thousand keys use %d of 10 endpoints", len(used))
		}
	})
}

// TestWhereTheKeyIs: the header, then the context, then the peer; what is empty is none.
func TestWhereTheKeyIs(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		c := ring(t, `{"header":"x-user","peer":true}`, 50)
		tcp := func(ip string, port int) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: port} }
		goes := func(ctx context.Context) string { return c.Call(ctx) }
		same := func(what string, a, b context.Context) {
			t.Helper()
			if x, y := goes(a), goes(b); x != y {
				t.Errorf("%s: %s and %s", what, x, y)
			}
		}
		other := func(what string, a, b context.Context) {
			t.Helper()
			if x, y := goes(a), goes(b); x == y {
				t.Errorf("%s: both go to %s", what, x)
			}
		}
		ann := header("x-user", "ann")
		same("a header is a header", ann, header("x-user", "ann", "x-other", "1"))
		same("a header is a key", ann, keyed("ann"))
		same("the first value counts", ann, header("x-user", "ann", "x-user", "ben"))
		same("in any case", ann, header("X-User", "ann"))
		other("keys differ", ann, header("x-user", "ben"))
		same("the header comes first", ann, consistenthash.WithKey(ann, "ben"))
		same("then the context", keyed("ben"), consistenthash.WithKey(header("x-user", ""), "ben"))
		same("an empty key is none", caller(tcp("10.9.9.9", 1)), consistenthash.WithKey(caller(tcp("10.9.9.9", 1)), ""))
		same("the context before the peer", keyed("ben"), consistenthash.WithKey(caller(tcp("10.9.9.9", 1)), "ben"))
		same("the last of two keys", keyed("ben"), consistenthash.WithKey(keyed("ann"), "ben"))

		same("no port", caller(tcp("10.9.9.9", 1)), caller(tcp("10.9.9.9", 2)))
		same("IPv4 in IPv6", caller(tcp("10.9.9.9", 1)), caller(&net.TCPAddr{IP: net.ParseIP("10.9.9.9").To4(), Port: 3}))
		same("as text", caller(tcp("10.9.9.9", 1)), caller(steadytest.Addr("10.9.9.9:77")))
		same("as text of IPv6", caller(tcp("10.9.9.9", 1)), caller(steadytest.Addr("[::ffff:10.9.9.9]:77")))
		same("no zone", caller(&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}), caller(tcp("fe80::1", 9)))
		same("names", caller(steadytest.Addr("client:1")), caller(steadytest.Addr("client:2")))
		same("neither port nor IP", caller(steadytest.Addr("bufconn")), caller(steadytest.Addr("bufconn")))
		same("nothing in it", caller(&net.TCPAddr{}), caller(&net.TCPAddr{Port: 5}))
		other("peers differ", caller(tcp("10.9.9.9", 1)), caller(tcp("10.9.9.7", 1)))
		goes(caller(nil)) // no address, and no panic
		goes(peer.NewContext(context.Background(), &peer.Peer{}))
	})
}

// TestNoKey: such calls go to the one with less to do, and to no endpoint in particular.
func TestNoKey(t *testing.T) {
	for _, config := range []string{`{}`, `{"header":"x-user"}`, `{"peer":true}`, `{"maxLoad":1.25}`} {
		steadytest.Run(t, func(t *testing.T) {
			c := ring(t, config, 3)
			for round := range 10 {
				inFlight := make(map[string]int)
				var ends []func(balancer.DoneInfo)
				for range 3 {
					addr, done := c.Pick(header("x-other", "1"))
					inFlight[addr]++
					ends = append(ends, done)
				}
				for _, done := range ends {
					done(capture.Sent)
				}
				if len(inFlight) != 3 {
					t.Fatalf("%s, round %d: %v in flight, want one at each", config, round, inFlight)
				}
			}
		})
	}
}

// TestHostileHeaders: a key may be anything.
func TestHostileHeaders(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		c := ring(t, `{"header":"x-user"}`, 10)
		for _, key := range []string{strings.Repeat("a", 1<<20), "\x00\xff\xfe", "ключ", " ", strings.Repeat("\xff", 100)} {
			if a, b := c.Call(header("x-user", key)), c.Call(header("x-user", key)); a != b {
				t.Errorf("%.20q goes to %s and to %s", key, a, b)
			}
		}
		var many []string
		for range 10_000 {
			many = append(many, "x-user", "b")
		}
		if a, b := c.Call(header(many...)), c.Call(keyed("b")); a != b {
			t.Errorf("ten thousand values: %s and %s", a, b)
		}
	})
}

// TestAwayAndBack: an endpoint that is down hands its keys to those next on the ring, gets exactly them back, and nobody
// else's move. So does one that was ejected.
func TestAwayAndBack(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		const n, keys = 10, 2000
		c := ring(t, `{"ejection":{"consecutiveFailures":3,"successRatio":-1}}`, n)
		before := table(c, keys)
		sick := names(n)[4]
		held := func(what string) {
			t.Helper()
			took := make(map[string]bool)
			for key, addr := range table(c, keys) {
				switch {
				case addr == sick:
					t.Fatalf("%s: it still gets calls", what)
				case before[key] == sick:
					took[addr] = true
				case before[key] != addr:
					t.Fatalf("%s: %s moved from %s to %s", what, key, before[key], addr)
				}
			}
			if len(took) < 5 {
				t.Errorf("%s: its keys went to %d others", what, len(took))
			}
		}
		c.Down(sick)
		held("down")
		c.Up(sick)
		if !maps.Equal(before, table(c, keys)) {
			t.Error("up again: not all keys are where they were")
		}
		for key, addr := range before {
			if addr == sick {
				for range 3 {
					_, done := c.Pick(keyed(key))
					done(balancer.DoneInfo{Err: errDown, BytesSent: true})
				}
				break
			}
		}
		time.Sleep(time.Second)
		held("ejected")
		time.Sleep(time.Minute)
		if !maps.Equal(before, table(c, keys)) {
			t.Error("back from its ejection: not all keys are where they were")
		}
	})
}

// TestRetryGoesToTheNext: as the keys of an endpoint that is down do.
func TestRetryGoesToTheNext(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		c := ring(t, `{}`, 10)
		for i := range 200 {
			key := fmt.Sprint(i)
			call := new(attempt.Call)
			goes := func(number int) string {
				return c.Call(attempt.NewContext(keyed(key), &attempt.Attempt{Call: call, Number: number}))
			}
			first, second, third := goes(1), goes(2), goes(3)
			c.Down(first)
			want := owner(c, key)
			c.Down(second)
			after := owner(c, key)
			c.Up(first)
			c.Up(second)
			if second != want || third != after {
				t.Fatalf("attempts of %s go to %s, %s and %s, want %s and %s to take over", key, first, second, third, want, after)
			}
		}
	})
}

// TestEverythingWasTried: the call is made all the same.
func TestEverythingWasTried(t *testing.T) {
	for _, config := range []string{`{}`, `{"maxLoad":1.05}`} {
		steadytest.Run(t, func(t *testing.T) {
			c := ring(t, config, 3)
			call, seen := new(attempt.Call), make(map[string]int)
			for number := 1; number <= attempt.Max; number++ {
				addr, _ := c.Pick(attempt.NewContext(keyed("a"), &attempt.Attempt{Call: call, Number: number}))
				seen[addr]++
				if want := min(number, 3); len(seen) != want {
					t.Fatalf("%s: after %d attempts %v", config, number, seen)
				}
			}
		})
	}
}

// TestRetryGoesBeyondTheBound: rather than back to the endpoint that failed, to one that has more than its share.
func TestRetryGoesBeyondTheBound(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		c := ring(t, `{"maxLoad":1.25}`, 2)
		ends := make(map[string][]func(balancer.DoneInfo))
		for range 20 {
			addr, done := c.Pick(keyed("a"))
			ends[addr] = append(ends[addr], done)
		}
		idle, busy := names(2)[0], names(2)[1]
		for _, done := range ends[idle] {
			done(capture.Sent)
		}
		call := new(attempt.Call)
		for number, want := range []string{idle, busy} {
			addr, _ := c.Pick(attempt.NewContext(keyed("a"), &attempt.Attempt{Call: call, Number: number + 1}))
			if addr != want {
				t.Errorf("attempt %d goes to %s, want %s", number+1, addr, want)
			}
		}
	})
}

// TestClientsAgree: on who has a key, whatever the order of the list and of the addresses of an endpoint in it.
func TestClientsAgree(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		list := capture.Addresses(names(10)...)
		turned := make([]resolver.Endpoint, len(list))
		name := make(map[string]int) // of an address: number of its endpoint
		for i := range list {
			v4, v6 := list[i].Addresses[0], resolver.Address{Addr: fmt.Sprintf("[2001:db8::%d]:50051", i)}
			list[i].Addresses = []resolver.Address{v4, v6}
			turned[len(list)-1-i].Addresses = []resolver.Address{v6, v4}
			name[v4.Addr], name[v6.Addr] = i, i
			list[i] = endpoint.WithWeight(list[i], uint32(1+i%3))
			turned[len(list)-1-i] = endpoint.WithWeight(turned[len(list)-1-i], uint32(1+i%3))
		}
		one, two := capture.New(t, consistenthash.Name), capture.New(t, consistenthash.Name)
		one.Update(`{}`, list)
		two.Update(`{}`, turned)
		other := table(two, 1000)
		for key, addr := range table(one, 1000) {
			if name[addr] != name[other[key]] {
				t.Fatalf("%s goes to %s and to %s", key, addr, other[key])
			}
		}
	})
}

func TestPicksAllocateNothing(t *testing.T) {
	for _, config := range []string{`{"header":"x-user","peer":true}`, `{"maxLoad":1.25}`} {
		steadytest.Run(t, func(t *testing.T) {
			picker := ring(t, config, 10).Picker()
			driven := &attempt.Attempt{Judged: true}
			for name, ctx := range map[string]context.Context{
				"key": keyed("ann"), "no key": context.Background(), "driven": attempt.NewContext(keyed("ann"), driven),
			} {
				info := balancer.PickInfo{FullMethodName: "/steady.echo.v1.Echo/Get", Ctx: ctx}
				if n := testing.AllocsPerRun(1000, func() {
					r, err := picker.Pick(info)
					if err != nil {
						t.Fatal(err)
					}
					r.Done(capture.Sent)
				}); n != 0 {
					t.Errorf("%s, %s: %v allocations", config, name, n)
				}
			}
		})
	}
}

// TestFewAreLeft: the walk past endpoints that are away ends at one that is not, however few are left.
func TestFewAreLeft(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		const n = 60
		c := ring(t, `{"maxLoad":1.25}`, n)
		all := names(n)
		for i, addr := range all[1:] {
			c.Down(addr)
			if got := c.Call(keyed("a")); i == n-2 && got != all[0] {
				t.Errorf("one is left, and the call goes to %s", got)
			}
		}
	})
}
