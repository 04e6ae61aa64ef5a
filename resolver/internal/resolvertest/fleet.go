package resolvertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// Service configs of tests.
const (
	RoundRobin = `{"loadBalancingConfig":[{"round_robin":{}}]}`
	Weighted   = `{"loadBalancingConfig":[{"steady_weighted":{}}]}`
)

// IdleAfter is for grpc.WithIdleTimeout.
const IdleAfter = 10 * time.Minute

// Fleet is what answers: a steadytest.Fleet.
type Fleet interface {
	Count() map[string]int
	Forget()
}

// Call makes one call, which waits until there is a connection.
func Call(t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := echov1.NewEchoClient(conn).Get(ctx, &echov1.EchoRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
}

// Spread makes n calls once all is connected, and tells how many each replica got, without those that got none:
// "a:1=30 b:1=20".
func Spread(t *testing.T, fleet Fleet, conn *grpc.ClientConn, n int) string {
	t.Helper()
	Call(t, conn)
	time.Sleep(30 * time.Second) // all are connected, and the last one's slow start is over
	fleet.Forget()
	for range n {
		Call(t, conn)
	}
	counts := fleet.Count()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if counts[name] > 0 {
			out = append(out, fmt.Sprintf("%s=%d", name, counts[name]))
		}
	}
	return strings.Join(out, " ")
}

// Weights checks that weights of 3, 2 and 1 arrive at steady_weighted, before and after the channel was idle: want
// is how 60 calls are to be spread. It is called within a bubble; conn has [Weighted] and [IdleAfter].
func Weights(t *testing.T, fleet Fleet, conn *grpc.ClientConn, want string) {
	t.Helper()
	for range 2 {
		if got := Spread(t, fleet, conn, 60); got != want {
			t.Errorf("60 calls went %s, want %s", got, want)
		}
		time.Sleep(time.Hour) // the resolver is closed, and built again
		if s := conn.GetState().String(); s != "IDLE" {
			t.Errorf("the channel is %s after an hour without calls, the test wants it idle", s)
		}
	}
}

// Refused checks that a call on a channel that has no endpoints ends with UNAVAILABLE and an error that has all
// of these words.
func Refused(t *testing.T, conn *grpc.ClientConn, words ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := echov1.NewEchoClient(conn).Get(ctx, &echov1.EchoRequest{})
	for _, w := range words {
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), w) {
			t.Errorf("the call ended with %v, want UNAVAILABLE and %q", err, w)
		}
	}
}
