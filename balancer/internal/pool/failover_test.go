package pool_test

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// spread makes calls one after the other, a millisecond apart, and counts who answered.
func spread(t *testing.T, b *bed, conn *grpc.ClientConn, n int) map[string]int {
	t.Helper()
	b.Forget()
	for range n {
		if err := one(t, conn); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	return b.Count()
}

// TestBackupsWait: as long as the first group is well the backups get nothing, whatever the policy.
func TestBackupsWait(t *testing.T) {
	for _, policy := range policies {
		steadytest.Run(t, func(t *testing.T) {
			b := newBed(t, []string{"a", "b", "x", "y"})
			b.list("a", "b", "x@1", "y@1")
			conn := b.connected(serviceConfig(policy, `{}`))
			got := spread(t, b, conn, 100)
			if got["x"]+got["y"] != 0 || got["a"] == 0 || got["b"] == 0 {
				t.Errorf("%s: %v, want a and b only", policy, got)
			}
		})
	}
}

// TestAGroupThatIsGoneIsLeftAtOnce: no call fails but those that were under way, and when the group is back, calls
// return after the hold and not before.
func TestAGroupThatIsGoneIsLeftAtOnce(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b", "x"})
		b.list("a", "b", "x@1")
		conn := b.connected(serviceConfig(weighted, `{"slowStart":{"window":"none"}}`))
		time.Sleep(time.Minute)
		b.Replica("a").Down()
		b.Replica("b").Down()
		synctest.Wait()
		if got := spread(t, b, conn, 50); got["x"] != 50 {
			t.Fatalf("%v, want all at x", got)
		}
		b.Replica("a").Start()
		b.Replica("b").Start()
		time.Sleep(2 * time.Second) // reconnected, by at most a second's backoff
		if got := spread(t, b, conn, 50); got["x"] != 50 {
			t.Errorf("%v before the hold is over, want all at x", got)
		}
		time.Sleep(10 * time.Second)
		if got := spread(t, b, conn, 50); got["x"] != 0 || got["a"] != 25 || got["b"] != 25 {
			t.Errorf("%v after the hold, want 25 each at a and b", got)
		}
	})
}

// TestWhatAGroupCanNotBearGoesToTheNext: one of four is ejected and one is down, so half is left: 0.5 / 0.7 of the
// calls stay, after the hold; a shorter change moves nothing.
func TestWhatAGroupCanNotBearGoesToTheNext(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b", "c", "d", "x"})
		b.list("a", "b", "c", "d", "x@1")
		conn := b.connected(serviceConfig(weighted, `{"slowStart":{"window":"none"},"ejection":{"baseTime":"1h"}}`))
		time.Sleep(time.Minute)
		b.Replica("d").Down()
		synctest.Wait()
		time.Sleep(9 * time.Second) // three of four are enough anyway
		b.Replica("c").Behave(steadytest.Failing(codes.Unavailable, 1))
		for b.of("c").Ejected == false {
			_ = one(t, conn)
			time.Sleep(time.Millisecond)
		}
		ejected := time.Now()
		if got := spread(t, b, conn, 100); got["x"] != 0 || got["a"] != 50 || got["b"] != 50 {
			t.Errorf("%v at once, want 50 each at a and b", got)
		}
		time.Sleep(time.Until(ejected.Add(10*time.Second + time.Millisecond)))
		got := spread(t, b, conn, 700)
		if x := got["x"]; x < 198 || x > 202 {
			t.Errorf("%v after the hold, want 200 of 700 at x", got)
		}
		if d := got["a"] - got["b"]; d < -3 || d > 3 {
			t.Errorf("%v, want a and b alike", got)
		}
		if e := b.of("x"); e.Priority != 1 || e.Effective == 0 {
			t.Errorf("x is shown as %+v", e)
		}
	})
}

// TestABackupIsBetterThanPanic: a group in which everybody is found ill is left, not called all the same.
func TestABackupIsBetterThanPanic(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b", "x"})
		b.list("a", "b", "x@1")
		conn := b.connected(serviceConfig(weighted, `{"slowStart":{"window":"none"},"ejection":{"baseTime":"1h","maxShare":1}}`))
		time.Sleep(time.Minute)
		for _, name := range []string{"a", "b"} {
			b.Replica(name).Behave(steadytest.Failing(codes.Unavailable, 1))
		}
		for range 60 {
			_ = one(t, conn)
			time.Sleep(time.Millisecond)
		}
		if got := spread(t, b, conn, 50); got["x"] != 50 {
			t.Errorf("%v, want all at x", got)
		}
	})
}

// TestConnectionsBeingMadeMoveNothing: at the beginning the first group is taken as soon as it is there, though a
// backup was connected before.
func TestConnectionsBeingMadeMoveNothing(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "x"})
		b.list("a", "x@1")
		b.Network().Refuse("a")
		conn := b.connected(serviceConfig(weighted, `{}`))
		if got := spread(t, b, conn, 10); got["x"] != 10 {
			t.Fatalf("%v, want all at x as long as a can not be reached", got)
		}
		b.Network().Heal("a")
		time.Sleep(time.Second)
		if got := spread(t, b, conn, 10); got["a"] != 10 {
			t.Errorf("%v, want all at a", got)
		}
	})
}
