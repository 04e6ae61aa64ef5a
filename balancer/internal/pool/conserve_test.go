package pool_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// Whatever happens to calls, servers, lists and policies: no call in flight is lost or counted below none.
func TestInFlightIsConserved(t *testing.T) {
	seeds := 6
	if testing.Short() {
		seeds = 3
	}
	for seed := range uint64(seeds) {
		steadytest.Run(t, func(t *testing.T) { conserve(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func conserve(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, seed))
	names := []string{"a", "b", "c", "d", "e", "f"}
	b := newBed(t, names, steadytest.Seed(seed))
	b.Behave(steadytest.All(
		steadytest.SlowBetween(0, 300*time.Millisecond), steadytest.Failing(codes.Unavailable, 0.2),
		steadytest.Failing(codes.NotFound, 0.1), steadytest.Hanging(0.1),
	))
	configs := []string{
		serviceConfig(leastRequest, `{}`), serviceConfig(leastRequest, `{"latency":{},"ejection":{"baseTime":"1s"}}`),
		serviceConfig(weighted, `{"loadReports":{},"ejection":{"baseTime":"1s","maxShare":0.5}}`), serviceConfig(weighted, `{"ejection":{"mode":"off"}}`),
		serviceConfig(consistentHash, `{"header":"k","maxLoad":1.25}`), serviceConfig(consistentHash, `{"activeCheck":{"interval":"0.5s"}}`),
	}
	conn := b.connected(configs[r.IntN(len(configs))])
	client := echov1.NewEchoClient(conn)
	stop := make(chan struct{})
	var watch, calls sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			for _, e := range b.handle.Endpoints() {
				if e.InFlight < 0 || e.InFlight > 2000 {
					t.Errorf("%s has %d calls in flight", e.Endpoint, e.InFlight)
				}
			}
		}
	})
	made := uint64(0)
	for range 300 {
		switch r.IntN(12) {
		case 0:
			b.Replica(names[r.IntN(len(names))]).Crash()
		case 1:
			b.Replica(names[r.IntN(len(names))]).Drain()
		case 2:
			for _, x := range b.Replicas() {
				x.Start()
			}
		case 3, 4:
			some := slices.Clone(names)
			r.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
			b.list(some[:r.IntN(len(some)+1)]...) // or none
		case 5:
			b.pusher.push(configs[r.IntN(len(configs))])
		default:
			for range r.IntN(20) {
				kind, patience := r.IntN(3), time.Duration(r.IntN(400))*time.Millisecond
				made++
				calls.Go(func() { call(t.Context(), client, kind, patience) })
			}
		}
		time.Sleep(time.Duration(r.IntN(50)) * time.Millisecond)
	}
	calls.Wait()
	close(stop)
	watch.Wait()
	b.list(names...)
	for _, x := range b.Replicas() {
		x.Start()
	}
	b.Behave(nil)
	time.Sleep(10 * time.Second)
	if res := load(t, conn, 50, time.Second); res.Availability() != 1 {
		t.Errorf("when all is well again: %v", res)
	}
	b.quiet()
	_ = conn.Close()
	b.quiet()
}

// call makes a unary call or a stream, and may lose patience by a deadline or by cancelling.
func call(ctx context.Context, client echov1.EchoClient, kind int, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	switch kind {
	case 0:
		_, _ = client.Get(ctx, &echov1.EchoRequest{}, grpc.WaitForReady(patience%2 == 0))
	case 1:
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(patience/2, cancel)
		_, _ = client.Get(ctx, &echov1.EchoRequest{})
	default:
		s, err := client.Chat(ctx)
		if err != nil {
			return
		}
		for range 3 {
			_ = s.Send(&echov1.EchoRequest{})
			if _, err := s.Recv(); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// The policies take over from each other without a call lost.
func TestPolicyChangesUnderLoad(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b", "c"})
		b.Behave(steadytest.Slow(30 * time.Millisecond))
		conn := b.connected(serviceConfig(leastRequest, `{}`))
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 60 {
				time.Sleep(100 * time.Millisecond)
				b.pusher.push(serviceConfig(policies[i%3], `{}`))
			}
		}()
		if r := load(t, conn, 300, 7*time.Second); r.Availability() != 1 {
			t.Error(r)
		}
		<-done
		b.quiet()
		picks := uint64(0)
		for _, e := range b.handle.Endpoints() {
			picks += e.Picks
		}
		if picks < 2100 {
			t.Errorf("%d picks for 2100 calls", picks)
		}
		synctest.Wait()
	})
}
