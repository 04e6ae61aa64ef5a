package pool_test

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// callers is traffic by so many callers, which wait for each answer.
func callers(t *testing.T, conn *grpc.ClientConn, n int, d time.Duration) *steadytest.Result {
	t.Helper()
	return steadytest.Load{Workers: n, For: d, Call: steadytest.Get(conn)}.Run(t.Context())
}

// The share of a new endpoint follows weight * max(min_share, (t/window)^(1/aggression)), slice by slice.
func TestSlowStartFollowsTheCurve(t *testing.T) {
	for _, tt := range []struct {
		policy     string
		aggression float64
		minShare   float64
	}{
		{weighted, 1, 0.1}, {weighted, 2, 0.1}, {weighted, 0.5, 0.2},
		{leastRequest, 1, 0.2},
	} {
		steadytest.Run(t, func(t *testing.T) {
			names := []string{"a", "b", "c", "d", "e", "f"}
			b := newBed(t, names)
			b.list(names[1:]...)
			b.Behave(steadytest.SlowBetween(400*time.Millisecond, 600*time.Millisecond))
			conn := b.connected(serviceConfig(tt.policy, fmt.Sprintf(`{"slowStart":{"minShare":%v,"aggression":%v}}`, tt.minShare, tt.aggression)))
			time.Sleep(31 * time.Second)
			start := time.Now()
			b.list(names...)
			synctest.Wait()
			slices := 7
			if tt.policy == leastRequest {
				slices = 4
				callers(t, conn, 500, 20*time.Second) // it goes by in-flight + 1, so the one should not matter
			} else {
				load(t, conn, 300, 35*time.Second)
			}
			got, all := make([]float64, slices), make([]float64, slices)
			for _, c := range b.Calls() {
				if i := int(c.Arrived.Sub(start) / (5 * time.Second)); i < slices {
					all[i]++
					if c.Replica == "a" {
						got[i]++
					}
				}
			}
			for i := range slices {
				// The mean of its weight over the slice.
				weight := 0.0
				for k := range 1000 {
					at := (float64(i) + float64(k)/1000) * 5 / 30
					weight += max(tt.minShare, math.Pow(min(at, 1), 1/tt.aggression)) / 1000
				}
				share, want := got[i]/all[i], weight/(5+weight)
				if math.Abs(share-want) > 0.1*want {
					t.Errorf("%s, aggression %v: share %.4f in slice %d of 5 s, want %.4f within 10 %%", tt.policy, tt.aggression, share, i, want)
				}
			}
		})
	}
}

// warmBed is a channel to replicas that have all been there for long.
func warmBed(t *testing.T, config string) (*bed, *grpc.ClientConn) {
	b := newBed(t, []string{"a", "b", "c"})
	conn := b.connected(serviceConfig(weighted, config))
	time.Sleep(31 * time.Second)
	return b, conn
}

func effective(b *bed, name string, want float64) {
	b.t.Helper()
	if got := b.of(name).Effective; math.Abs(got-want) > 0.02 {
		b.t.Errorf("%s has weight %.3f, want %.3f", name, got, want)
	}
}

func TestSlowStartAfterAnEjection(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b, conn := warmBed(t, `{}`)
		b.Replica("a").Behave(steadytest.Failing(codes.Unavailable, 1))
		load(t, conn, 100, time.Second)
		b.Replica("a").Behave(nil)
		time.Sleep(time.Until(b.of("a").Until))
		effective(b, "a", 0.1)
		time.Sleep(15 * time.Second)
		effective(b, "a", 0.5)
		time.Sleep(15 * time.Second)
		effective(b, "a", 1)
	})
}

func TestSlowStartAfterTimeAway(t *testing.T) {
	for _, tt := range []struct {
		away time.Duration
		want float64
	}{{5 * time.Second, 1}, {9 * time.Second, 1}, {12 * time.Second, 0.1}, {time.Minute, 0.1}} {
		steadytest.Run(t, func(t *testing.T) {
			b, _ := warmBed(t, `{}`)
			b.Replica("a").Crash()
			time.Sleep(tt.away)
			b.Replica("a").Start()
			time.Sleep(time.Second - time.Millisecond) // reconnection is tried every second at least
			if want := tt.want; want == 1 {
				effective(b, "a", 1)
			} else if got := b.of("a").Effective; got < 0.09 || got > 0.14 {
				t.Errorf("away for %v: weight %.3f, want %.2f", tt.away, got, want)
			}
		})
	}
}

func TestGoAwayIsNoSlowStart(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b, conn := warmBed(t, `{}`)
		for range 5 {
			<-b.Replica("a").Drain()
			time.Sleep(500 * time.Millisecond)
			b.Replica("a").Start()
			time.Sleep(1500 * time.Millisecond)
			effective(b, "a", 1)
		}
		if r := load(t, conn, 30, 10*time.Second); r.Availability() != 1 || b.Replica("a").Count() < 99 {
			t.Errorf("%v %v", r, b.Count())
		}
	})
}

// An endpoint that is still warming up goes on where it was.
func TestGoAwayGoesOnWarming(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b", "c"})
		b.list("b", "c")
		b.connected(serviceConfig(weighted, `{}`))
		time.Sleep(31 * time.Second)
		b.list("a", "b", "c")
		time.Sleep(14 * time.Second)
		<-b.Replica("a").Drain()
		b.Replica("a").Start()
		time.Sleep(time.Second)
		effective(b, "a", 0.5)
	})
}

func TestColdFleetIsNotSlowed(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b", "c"})
		conn := b.connected(serviceConfig(weighted, `{}`))
		for range 40 {
			for _, name := range []string{"a", "b", "c"} {
				effective(b, name, 1)
			}
			time.Sleep(time.Second)
		}
		// Nor one that was away as a whole.
		for _, r := range b.Replicas() {
			r.Crash()
		}
		time.Sleep(time.Minute)
		for _, r := range b.Replicas() {
			r.Start()
		}
		time.Sleep(2 * time.Second)
		load(t, conn, 30, time.Second)
		for _, name := range []string{"a", "b", "c"} {
			effective(b, name, 1)
		}
	})
}

// A rollout ends with one old pod, the only warm one, which must not get all the calls.
func TestLastOldPodIsNotDrowned(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b", "c", "x", "y", "z"})
		b.list("a", "b", "c")
		conn := b.connected(serviceConfig(weighted, `{}`))
		time.Sleep(31 * time.Second)
		b.list("a", "b", "x") // two of three are warm
		synctest.Wait()
		effective(b, "x", 0.1)
		time.Sleep(5 * time.Second)
		b.list("a", "x", "y") // one of three
		synctest.Wait()
		b.Forget()
		load(t, conn, 60, 5*time.Second)
		for _, name := range []string{"a", "x", "y"} {
			effective(b, name, 1)
			if n := b.Replica(name).Count(); n < 98 || n > 102 {
				t.Errorf("%s got %d of 300 calls", name, n)
			}
		}
		b.list("x", "y", "z")
		synctest.Wait()
		for _, name := range []string{"x", "y", "z"} {
			effective(b, name, 1)
		}
	})
}

func TestNoSlowStart(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b, _ := warmBed(t, `{`+cold+`}`)
		b.list("a", "b")
		b.list("a", "b", "c")
		synctest.Wait()
		effective(b, "c", 1)
		b.pusher.push(serviceConfig(weighted, `{}`)) // and live: it is new, after all
		synctest.Wait()
		effective(b, "c", 0.1)
	})
}
