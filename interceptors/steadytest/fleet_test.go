package steadytest_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/interceptors/steadytest"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// ready makes a channel know all its endpoints, so that what follows is spread evenly.
func ready(t *testing.T, fleet *steadytest.Fleet, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn := fleet.Dial(opts...)
	if _, err := get(t, conn); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	fleet.Forget()
	return conn
}

// times makes n calls, one after the other, and counts their codes.
func times(t *testing.T, n int, conn *grpc.ClientConn) map[codes.Code]int {
	t.Helper()
	got := map[codes.Code]int{}
	for range n {
		_, err := get(t, conn)
		got[status.Code(err)]++
	}
	return got
}

func wantCounts[K comparable](t *testing.T, what string, got, want map[K]int) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestFleetSpreadsCalls(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		conn := ready(t, fleet)
		wantCounts(t, "codes", times(t, 30, conn), map[codes.Code]int{codes.OK: 30})
		wantCounts(t, "calls", fleet.Count(), map[string]int{"a": 10, "b": 10, "c": 10})

		fleet.SetEndpoints("a", "c")
		synctest.Wait()
		fleet.Forget()
		times(t, 30, conn)
		wantCounts(t, "calls after b left", fleet.Count(), map[string]int{"a": 15, "b": 0, "c": 15})

		other := ready(t, fleet)
		times(t, 10, other)
		wantCounts(t, "calls of a later channel", fleet.Count(), map[string]int{"a": 5, "b": 0, "c": 5})
	})
}

func TestFleetOutsideBubble(t *testing.T) {
	fleet := steadytest.NewFleet(t, steadytest.Replicas("x", "y"))
	conn := fleet.Dial()
	if _, err := get(t, conn); err != nil {
		t.Fatal(err)
	}
	fleet.Replica("x").Crash()
	fleet.Replica("y").Crash()
	fleet.Replica("y").Start()
	// A call may still go out on a connection whose end the client has not read yet, so one failure for each
	// of the two connections is in order.
	ctx := within(t, 10*time.Second)
	for failures := 0; ; failures++ {
		reply, err := echov1.NewEchoClient(conn).Get(ctx, &echov1.EchoRequest{}, grpc.WaitForReady(true))
		if err == nil && reply.GetServer() == "y" {
			return
		}
		if failures == 2 {
			t.Fatalf("%q answered, %v; want y, which restarted", reply.GetServer(), err)
		}
	}
}

func TestEcho(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		client := echov1.NewEchoClient(fleet.Dial())
		ctx := within(t, time.Second)
		req := &echov1.EchoRequest{Text: "hi", Payload: []byte{1, 2}, Count: 3}

		for name, call := range map[string]func(context.Context, *echov1.EchoRequest, ...grpc.CallOption) (*echov1.EchoResponse, error){
			"Get": client.Get, "Put": client.Put, "Post": client.Post,
		} {
			var p peer.Peer
			reply, err := call(ctx, req, grpc.Peer(&p))
			if err != nil || reply.GetText() != "hi" || string(reply.GetPayload()) != "\x01\x02" || reply.GetServer() != "a" {
				t.Errorf("%s: %v, %v", name, reply, err)
			}
			if p.Addr.String() != "a" {
				t.Errorf("%s: the peer is %v, want a", name, p.Addr)
			}
		}

		list, err := client.List(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		var numbers []int32
		for {
			reply, err := list.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			numbers = append(numbers, reply.GetNumber())
		}
		if !slices.Equal(numbers, []int32{1, 2, 3}) {
			t.Errorf("List sent %v", numbers)
		}

		collect, err := client.Collect(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"one", "two"} {
			if err := collect.Send(&echov1.EchoRequest{Text: text}); err != nil {
				t.Fatal(err)
			}
		}
		if reply, err := collect.CloseAndRecv(); err != nil || reply.GetText() != "one two" || reply.GetNumber() != 2 {
			t.Errorf("Collect: %v, %v", reply, err)
		}

		chat, err := client.Chat(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i, text := range []string{"one", "two"} {
			if err := chat.Send(&echov1.EchoRequest{Text: text}); err != nil {
				t.Fatal(err)
			}
			if reply, err := chat.Recv(); err != nil || reply.GetText() != text || int(reply.GetNumber()) != i+1 {
				t.Errorf("Chat: %v, %v", reply, err)
			}
		}
		_ = chat.CloseSend()
		if _, err := chat.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("Chat ends with %v", err)
		}
	})
}

func TestRecords(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		a, client := fleet.Replica("a"), echov1.NewEchoClient(fleet.Dial())
		start := time.Now()

		ctx := metadata.AppendToOutgoingContext(context.Background(), "tenant", "blue")
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		a.Behave(steadytest.Slow(time.Second))
		if _, err := client.Get(ctx, &echov1.EchoRequest{}); err != nil {
			t.Fatal(err)
		}
		a.Behave(steadytest.Failing(codes.Aborted, 1))
		_, _ = client.Post(context.Background(), &echov1.EchoRequest{})

		calls := a.Calls()
		if len(calls) != 2 || a.Count() != 2 || a.Count(codes.OK) != 1 || a.Count(codes.OK, codes.Aborted) != 2 || a.Count(codes.Internal) != 0 {
			t.Fatalf("%d calls, %d seen: %+v", len(calls), a.Count(), calls)
		}
		first, second := calls[0], calls[1]
		if first.Method != echov1.Echo_Get_FullMethodName || first.Stream || first.Replica != "a" || first.Client != "client:1" {
			t.Errorf("first call: %+v", first)
		}
		if got := first.Metadata.Get("tenant"); !slices.Equal(got, []string{"blue"}) {
			t.Errorf("metadata: %v", first.Metadata)
		}
		if !first.HasDeadline || first.Remaining != 3*time.Second || !first.Arrived.Equal(start) {
			t.Errorf("deadline in %v at %v", first.Remaining, first.Arrived)
		}
		if !first.Ended || first.Took != time.Second || first.Code != codes.OK || first.Err != nil || first.Number != 1 {
			t.Errorf("first end: %+v", first)
		}
		if second.HasDeadline || second.Remaining != 0 || second.Code != codes.Aborted || second.Err == nil || second.Number != 2 {
			t.Errorf("second call: %+v", second)
		}
		if first.Rand() != nil || first.Request != nil {
			t.Error("a record keeps what belongs to the script")
		}

		fleet.Forget()
		a.Behave(steadytest.Hanging(1))
		short, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		go func() { _, _ = client.Get(short, &echov1.EchoRequest{}) }()
		synctest.Wait()
		if calls := fleet.Calls(); len(calls) != 1 || calls[0].Ended || calls[0].Number != 3 || a.InFlight() != 1 {
			t.Errorf("under way: %+v, %d in flight", calls, a.InFlight())
		}
		time.Sleep(2 * time.Second)
		// The server's own clock and the client's cancel come at the same instant, so either may win.
		if calls := fleet.Calls(); len(calls) != 1 || a.Count(codes.DeadlineExceeded, codes.Canceled) != 1 || calls[0].Took != time.Second || a.InFlight() != 0 {
			t.Errorf("cut: %+v, %d in flight", calls, a.InFlight())
		}
	})
}

func TestCallsAreInOrderOfArrival(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		conn := ready(t, fleet)
		for range 9 {
			_, _ = get(t, conn)
			time.Sleep(time.Millisecond)
		}
		calls := fleet.Calls()
		if len(calls) != 9 || !slices.IsSortedFunc(calls, func(a, b steadytest.Record) int { return a.Arrived.Compare(b.Arrived) }) {
			t.Errorf("%d calls: %v", len(calls), calls)
		}
	})
}

func TestRecordsAreBounded(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		a := steadytest.NewFleet(t, steadytest.Replicas("a")).Replica("a")
		first := a.Arrive()
		for range 250_000 {
			a.Arrive()()
		}
		first() // its record is gone, which must not matter
		calls := a.Calls()
		if n := len(calls); n < 100_000 || n > 200_000 || calls[n-1].Number != 250_001 || calls[0].Number != 250_002-n {
			t.Errorf("%d records, from %d to %d", n, calls[0].Number, calls[n-1].Number)
		}
		if a.Count() != 250_001 || a.Count(codes.OK) != 250_001 || a.InFlight() != 0 {
			t.Errorf("%d calls, %d ended well, %d in flight", a.Count(), a.Count(codes.OK), a.InFlight())
		}
	})
}

func TestReplicaStates(t *testing.T) {
	ok, unavailable, exceeded := codes.OK, codes.Unavailable, codes.DeadlineExceeded
	tests := []struct {
		name string
		do   func(a *steadytest.Replica)
		// one call at once, one a second after, one after Start
		want [3]codes.Code
	}{
		{"nothing", func(*steadytest.Replica) {}, [3]codes.Code{ok, ok, ok}},
		{"Crash", (*steadytest.Replica).Crash, [3]codes.Code{unavailable, unavailable, ok}},
		{"Down", (*steadytest.Replica).Down, [3]codes.Code{unavailable, unavailable, ok}},
		{"Drain", func(a *steadytest.Replica) { <-a.Drain() }, [3]codes.Code{unavailable, unavailable, ok}},
		{"BlackHole", (*steadytest.Replica).BlackHole, [3]codes.Code{exceeded, exceeded, ok}},
		{"Crash twice", func(a *steadytest.Replica) { a.Crash(); a.Crash() }, [3]codes.Code{unavailable, unavailable, ok}},
		{"Drain, then Down", func(a *steadytest.Replica) { a.Drain(); a.Down() }, [3]codes.Code{unavailable, unavailable, ok}},
		{"Drain twice", func(a *steadytest.Replica) { <-a.Drain(); <-a.Drain() }, [3]codes.Code{unavailable, unavailable, ok}},
		{"BlackHole, then Crash", func(a *steadytest.Replica) {
			a.BlackHole()
			a.Crash()
			time.Sleep(2 * time.Second) // until the channel has given up a dial and fails calls at once
		}, [3]codes.Code{unavailable, unavailable, ok}},
		{"Start twice", func(a *steadytest.Replica) { a.Start(); a.Start() }, [3]codes.Code{ok, ok, ok}},
		// A client may find the door closed in between, so it gets the time for one more try.
		{"Crash and Start", func(a *steadytest.Replica) { a.Crash(); a.Start(); time.Sleep(time.Second) }, [3]codes.Code{ok, ok, ok}},
		{"Drain and Start", func(a *steadytest.Replica) { a.Drain(); a.Start(); time.Sleep(time.Second) }, [3]codes.Code{ok, ok, ok}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
				conn := ready(t, fleet)
				a := fleet.Replica("a")
				tt.do(a)
				synctest.Wait()
				var got [3]codes.Code
				_, err := get(t, conn)
				got[0] = status.Code(err)
				time.Sleep(time.Second)
				_, err = get(t, conn)
				got[1] = status.Code(err)
				a.Start()
				time.Sleep(5 * time.Second)
				_, err = get(t, conn)
				got[2] = status.Code(err)
				if got != tt.want {
					t.Errorf("got %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// TestCallsInFlight shows what the ways to end a replica do to a call under way.
func TestCallsInFlight(t *testing.T) {
	tests := []struct {
		name string
		do   func(a *steadytest.Replica)
		want codes.Code
		took time.Duration
	}{
		{"Crash", func(a *steadytest.Replica) { a.Crash() }, codes.Unavailable, time.Second},
		{"Down", func(a *steadytest.Replica) { a.Down() }, codes.Unavailable, time.Second},
		{"Drain", func(a *steadytest.Replica) { a.Drain() }, codes.OK, 3 * time.Second},
		{"Drain, Start", func(a *steadytest.Replica) { a.Drain(); a.Start() }, codes.OK, 3 * time.Second},
		{"Drain, Crash", func(a *steadytest.Replica) { a.Drain(); a.Crash() }, codes.Unavailable, time.Second},
		{"Drain, Start, Crash", func(a *steadytest.Replica) { a.Drain(); a.Start(); a.Crash() }, codes.Unavailable, time.Second},
		{"BlackHole", func(a *steadytest.Replica) { a.BlackHole() }, codes.DeadlineExceeded, 10 * time.Second},
		{"BlackHole, healed", func(a *steadytest.Replica) {
			a.BlackHole()
			time.AfterFunc(4*time.Second, a.Start)
		}, codes.OK, 5 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
				conn := ready(t, fleet)
				a := fleet.Replica("a")
				a.Behave(steadytest.Slow(3 * time.Second))
				start := time.Now()
				time.AfterFunc(time.Second, func() { tt.do(a) })
				_, err := echov1.NewEchoClient(conn).Get(within(t, 10*time.Second), &echov1.EchoRequest{})
				if code, took := status.Code(err), time.Since(start); code != tt.want || took != tt.took {
					t.Errorf("%v after %v, want %v after %v (%v)", code, took, tt.want, tt.took, err)
				}
			})
		})
	}
}

func TestCrashEndsHandlers(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		conn := ready(t, fleet)
		a := fleet.Replica("a")
		a.Behave(steadytest.Hanging(1))
		for range 100 {
			go func() { _, _ = get(t, conn) }()
		}
		time.Sleep(100 * time.Millisecond)
		if got := a.InFlight(); got != 100 {
			t.Fatalf("%d calls in flight", got)
		}
		a.Crash()
		synctest.Wait()
		if got := a.InFlight(); got != 0 || a.Count(codes.Canceled) != 100 {
			t.Errorf("%d calls in flight, %d cancelled", got, a.Count(codes.Canceled))
		}
		if got := a.Count(); got != 100 {
			t.Errorf("the crash lost records: %d", got)
		}
	})
}

func TestDrainWaitsForCalls(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a", "b"))
		conn := ready(t, fleet)
		a := fleet.Replica("a")
		fleet.Behave(steadytest.Slow(3 * time.Second))
		client := echov1.NewEchoClient(conn)
		for range 2 {
			go func() { _, _ = client.Get(within(t, 10*time.Second), &echov1.EchoRequest{}) }()
		}
		synctest.Wait()
		start := time.Now()
		drained := a.Drain()
		synctest.Wait()
		fleet.Forget()
		fleet.Behave(nil)
		if got := times(t, 10, conn); got[codes.OK] != 10 {
			t.Errorf("while a drains: %v", got)
		}
		wantCounts(t, "calls while a drains", fleet.Count(), map[string]int{"a": 0, "b": 10})
		<-drained
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("drained after %v", took)
		}
	})
}

func TestInterceptorsSeeScripts(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		var saw codes.Code
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(
			grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				_, err := next(ctx, req)
				saw = status.Code(err)
				return nil, status.Error(codes.DataLoss, "changed")
			})))
		fleet.Behave(steadytest.Failing(codes.Aborted, 1))
		_, err := get(t, fleet.Dial())
		if got := fleet.Calls()[0].Code; saw != codes.Aborted || got != codes.DataLoss || status.Code(err) != codes.DataLoss {
			t.Errorf("the interceptor saw %v, the record %v, the client %v", saw, got, err)
		}
	})
}

func TestInterceptorThatReplacesContextIsLoud(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(
			grpc.ChainUnaryInterceptor(func(_ context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				return next(context.Background(), req)
			})))
		if _, err := get(t, fleet.Dial()); status.Code(err) != codes.Internal {
			t.Errorf("got %v", err)
		}
	})
}

func TestEachServerIsAskedAtEachStart(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		asked := map[string]int{}
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a", "b"), steadytest.EachServer(func(r string) []grpc.ServerOption {
			asked[r]++
			return nil
		}))
		fleet.Replica("a").Crash()
		fleet.Replica("a").Start()
		wantCounts(t, "asked", asked, map[string]int{"a": 2, "b": 1})
	})
}

func TestServicesOfGRPCAreLeftAlone(t *testing.T) {
	for _, all := range []bool{false, true} {
		steadytest.Run(t, func(t *testing.T) {
			opts := []steadytest.Option{steadytest.Replicas("a"), steadytest.Services(func(_ *steadytest.Replica, s grpc.ServiceRegistrar) {
				healthv1.RegisterHealthServer(s, health.NewServer())
			})}
			want, seen := codes.OK, 0
			if all {
				opts = append(opts, steadytest.AllMethods())
				want, seen = codes.Unavailable, 1
			}
			fleet := steadytest.NewFleet(t, opts...)
			fleet.Behave(steadytest.Failing(codes.Unavailable, 1))
			_, err := healthv1.NewHealthClient(fleet.Dial()).Check(within(t, time.Second), &healthv1.HealthCheckRequest{})
			if status.Code(err) != want || fleet.Count()["a"] != seen {
				t.Errorf("all methods %v: %v, %d calls", all, err, fleet.Count()["a"])
			}
		})
	}
}

func TestSetState(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		conn := ready(t, fleet)
		addr := []resolver.Address{{Addr: "b"}}
		fleet.SetState(resolver.State{Endpoints: []resolver.Endpoint{{Addresses: addr}}})
		synctest.Wait()
		times(t, 5, conn)
		wantCounts(t, "calls", fleet.Count(), map[string]int{"a": 0, "b": 5, "c": 0})
		fleet.SetEndpoints("nobody")
		synctest.Wait()
		if _, err := get(t, conn); status.Code(err) != codes.Unavailable {
			t.Errorf("calling a name without a replica: %v", err)
		}
	})
}

func TestStateSurvivesIdle(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		conn := ready(t, fleet, grpc.WithIdleTimeout(time.Minute))
		time.Sleep(3 * time.Minute)
		if s := conn.GetState(); s != connectivity.Idle {
			t.Fatalf("the channel is %v", s)
		}
		fleet.SetEndpoints("c") // nobody listens for it
		if server, err := get(t, conn); server != "c" || err != nil {
			t.Errorf("after idle %q answered, %v", server, err)
		}
	})
}

func TestTwoFleetsOnOneNetwork(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		n := steadytest.NewNetwork()
		defer n.Close()
		back := steadytest.NewFleet(t, steadytest.OnNetwork(n), steadytest.Replicas("back"))
		front := steadytest.NewFleet(t, steadytest.OnNetwork(n), steadytest.Replicas("front"))
		if front.Network() != n || back.Network() != n {
			t.Error("a fleet is on another network")
		}
		conn, err := grpc.NewClient("passthrough:///back", front.DialOptions()...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if server, err := get(t, conn); server != "back" || err != nil {
			t.Errorf("%q answered, %v", server, err)
		}
	})
}

func TestRefuseKeepsConnections(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		conn := ready(t, fleet)
		fleet.Network().Refuse("a")
		if _, err := get(t, conn); err != nil {
			t.Errorf("over the connection that exists: %v", err)
		}
		if _, err := get(t, fleet.Dial()); status.Code(err) != codes.Unavailable {
			t.Errorf("over a new one: %v", err)
		}
	})
}

// panics tells whether f does.
func panics(f func()) (p any) {
	defer func() { p = recover() }()
	f()
	return nil
}

func TestSlipsArePanics(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		if panics(func() { fleet.Replica("z") }) == nil {
			t.Error("an unknown name passed")
		}
		if panics(func() { steadytest.Load{}.Run(context.Background()) }) == nil {
			t.Error("a load without calls passed")
		}
		if names := fleet.Replicas(); len(names) != 1 || names[0].Name() != "a" {
			t.Errorf("replicas: %v", names)
		}
	})
}
