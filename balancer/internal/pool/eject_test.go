package pool_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// failing fails k of every n calls with a code, by their number.
func failing(code codes.Code, k, n int) steadytest.Script {
	fails := steadytest.Failing(code, 1)
	return func(ctx context.Context, call steadytest.Call) error {
		if call.Number*7%n < k { // spread out, where n has no factor 7
			return fails(ctx, call)
		}
		return nil
	}
}

const (
	rowOnly   = `"ejection":{"successRatio":-1}`
	ratioOnly = `"ejection":{"consecutiveFailures":-1}`
	cold      = `"slowStart":{"window":"-1s"}`
)

func TestFiveInARow(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.Internal, codes.DataLoss} {
		steadytest.Run(t, func(t *testing.T) {
			b := newBed(t, []string{"a", "b"})
			b.Replica("a").Behave(steadytest.Failing(code, 1))
			conn := b.connected(serviceConfig(weighted, `{`+rowOnly+`}`))
			for b.Replica("a").Count() < 4 {
				_ = one(t, conn)
			}
			if got := b.ejected(); got != nil {
				t.Fatalf("%v ejected after 4 failures", got)
			}
			for b.Replica("a").Count() < 5 {
				_ = one(t, conn)
			}
			if got := b.ejected(); !slices.Equal(got, []string{"a"}) {
				t.Fatalf("ejected after 5 failures: %v", got)
			}
			if got, want := b.told(), []string{"a out 30s (5 failures in a row)"}; !slices.Equal(got, want) {
				t.Errorf("told %v, want %v", got, want)
			}
			for range 20 {
				if err := one(t, conn); err != nil {
					t.Fatal(err)
				}
			}
			e := b.of("a")
			if e.Picks != 5 || e.Failures != 5 || e.Reason != "5 failures in a row" || time.Until(e.Until) != 30*time.Second || e.Ejections != 1 {
				t.Errorf("%+v", e)
			}
			b.quiet()
		})
	}
}

func TestASuccessBreaksTheRow(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b"})
		b.Replica("a").Behave(failing(codes.Unavailable, 4, 5))
		conn := b.connected(serviceConfig(weighted, `{`+rowOnly+`}`))
		load(t, conn, 100, 20*time.Second)
		if got := b.told(); len(got) != 0 {
			t.Errorf("told %v", got)
		}
	})
}

// Without a driver nobody knows what is behind these: they feed the ratio alone.
func TestSuspectCodesFeedTheRatioOnly(t *testing.T) {
	for _, tt := range []struct {
		config string
		script steadytest.Script
		want   string
	}{
		{rowOnly, steadytest.Failing(codes.Unknown, 1), ""},
		{rowOnly, steadytest.Hanging(1), ""},
		{ratioOnly, steadytest.Failing(codes.Unknown, 1), "a out 30s (0 % of 20 calls succeeded)"},
		{ratioOnly, steadytest.Hanging(1), "a out 30s (0 % of 20 calls succeeded)"},
		{ratioOnly, steadytest.Failing(codes.NotFound, 1), ""},
		{rowOnly, steadytest.Failing(codes.NotFound, 1), ""},
		{`"ejection":{}`, steadytest.Failing(codes.ResourceExhausted, 1), ""},
		{`"ejection":{}`, steadytest.Failing(codes.Canceled, 1), ""},
	} {
		steadytest.Run(t, func(t *testing.T) {
			b := newBed(t, []string{"a", "b", "c"})
			b.Replica("a").Behave(tt.script)
			conn := b.connected(serviceConfig(weighted, `{`+tt.config+`}`))
			steadytest.Load{Rate: 15, For: 9 * time.Second, Timeout: 50 * time.Millisecond, Call: steadytest.Get(conn)}.Run(t.Context())
			if got := strings.Join(b.told(), "; "); got != tt.want {
				t.Errorf("%s: told %q, want %q", tt.config, got, tt.want)
			}
		})
	}
}

func TestRatioAgainstTheOthers(t *testing.T) {
	for _, tt := range []struct {
		sick, others int // of 20 calls
		want         bool
	}{
		{0, 0, false}, {3, 0, false}, {6, 0, true}, // 85 % is enough, 70 % is not
		{6, 5, false}, {8, 5, true}, // 70 % beside 75 %, 60 % beside 75 %
		{20, 19, false}, {10, 10, false},
	} {
		steadytest.Run(t, func(t *testing.T) {
			b := newBed(t, []string{"a", "b", "c"})
			b.Behave(failing(codes.Unavailable, tt.others, 20))
			b.Replica("a").Behave(failing(codes.Unavailable, tt.sick, 20))
			conn := b.connected(serviceConfig(weighted, `{`+ratioOnly+`}`))
			load(t, conn, 60, 29*time.Second)
			if got := slices.Equal(b.ejected(), []string{"a"}); got != tt.want {
				t.Errorf("%d of 20 fail beside %d: told %v", tt.sick, tt.others, b.told())
			}
			if got := b.told(); !tt.want && len(got) > 0 {
				t.Errorf("%d of 20 fail beside %d: told %v", tt.sick, tt.others, got)
			}
		})
	}
}

// When all fail alike, nobody is worse than the others, however fast calls come.
func TestNobodyIsWorseWhenAllFailAlike(t *testing.T) {
	for _, rate := range []float64{30, 1000} {
		steadytest.Run(t, func(t *testing.T) {
			b := newBed(t, []string{"a", "b", "c"})
			b.Behave(failing(codes.Unavailable, 10, 20))
			conn := b.connected(serviceConfig(weighted, `{`+ratioOnly+`}`))
			load(t, conn, rate, 5*time.Second)
			if got := b.told(); len(got) != 0 {
				t.Errorf("at %v calls a second told %v", rate, got)
			}
		})
	}
}

func TestMinimumCalls(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b"})
		b.Replica("a").Behave(steadytest.Failing(codes.Unavailable, 1))
		conn := b.connected(serviceConfig(weighted, `{`+ratioOnly+`}`))
		load(t, conn, 3.6, time.Minute) // 18 calls in 10 s to each
		if got := b.told(); len(got) != 0 {
			t.Errorf("told %v below 20 calls in the window", got)
		}
	})
}

func TestEjectionTimesGrowAndAreForgotten(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b"})
		sick := steadytest.Failing(codes.Unavailable, 1)
		b.Replica("a").Behave(sick)
		conn := b.connected(serviceConfig(weighted, `{`+rowOnly+`,`+cold+`}`))
		load(t, conn, 4, 45*time.Minute)
		var got []time.Duration
		for i, c := range b.events("a") {
			if c.Out {
				got = append(got, c.For/time.Second)
			} else if back := b.events("a")[i-1].At.Add(b.events("a")[i-1].For); c.At != back {
				t.Errorf("back at %v, want %v", c.At, back)
			}
		}
		want := []time.Duration{30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300, 300, 300}
		if len(got) < 12 || !slices.Equal(got, want[:len(got)]) {
			t.Fatalf("out for %d s, want %d", got, want)
		}
		// However long that went on, ten good times forget it.
		b.Replica("a").Behave(nil)
		time.Sleep(time.Until(b.of("a").Until))
		time.Sleep(150*time.Second - time.Millisecond)
		if n := b.of("a").Ejections; n != 6 {
			t.Errorf("%d ejections in a row count after 149 s, want 10 - 4", n)
		}
		time.Sleep(time.Millisecond)
		if n := b.of("a").Ejections; n != 5 {
			t.Errorf("%d ejections in a row count after 150 s, want 10 - 5", n)
		}
		b.Replica("a").Behave(sick)
		load(t, conn, 20, time.Second)
		if e := b.events("a"); e[len(e)-1].For != 180*time.Second {
			t.Errorf("out for %v after good times, want 3m", e[len(e)-1].For)
		}
	})
}

func TestCapAndNeverTheLast(t *testing.T) {
	for _, tt := range []struct {
		endpoints, sick int
		share           string
		want            int
	}{
		{1, 1, "0.3", 0}, {1, 1, "1", 0},
		{2, 1, "0.3", 1}, {2, 2, "0.3", 1}, {2, 2, "1", 1},
		{3, 1, "0.3", 1}, {3, 2, "0.3", 1}, {3, 3, "0.3", 1}, {3, 3, "1", 2},
		{5, 1, "0.3", 1}, {5, 5, "0.3", 1}, {5, 5, "0.4", 2}, {5, 5, "1", 4},
		{10, 10, "0.3", 3}, {10, 2, "0.3", 2},
	} {
		for _, policy := range policies {
			if policy != weighted && tt.sick < tt.endpoints {
				continue // they keep away from who fails, long before there are five in a row
			}
			steadytest.Run(t, func(t *testing.T) {
				names := make([]string, tt.endpoints)
				for i := range names {
					names[i] = string(rune('a' + i))
				}
				b := newBed(t, names)
				for _, name := range names[:tt.sick] {
					b.Replica(name).Behave(steadytest.Failing(codes.Unavailable, 1))
				}
				conn := b.connected(serviceConfig(policy, fmt.Sprintf(`{"ejection":{"successRatio":-1,"maxShare":%s},"panicThreshold":-1}`, tt.share)))
				load(t, conn, 120, 5*time.Second)
				if got := b.ejected(); len(got) != tt.want {
					t.Errorf("%s: %d of %d sick, at most %s: %v ejected, want %d", policy, tt.sick, tt.endpoints, tt.share, got, tt.want)
				}
				if got := len(b.out()); got != tt.want {
					t.Errorf("%s: %v get no calls, want %d", policy, b.out(), tt.want)
				}
				if n := len(b.Calls()); n != 600 {
					t.Errorf("%s: %d calls of 600 reached a server", policy, n)
				}
				b.quiet()
			})
		}
	}
}

// Below the panic threshold ejections are ignored, and count again above it.
func TestPanicThreshold(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		names := []string{"a", "b", "c", "d", "e"}
		b := newBed(t, names)
		sick := steadytest.Failing(codes.Unavailable, 1)
		config := func(p string) string {
			return serviceConfig(weighted, `{"ejection":{"maxShare":0.6,"baseTime":"3600s"},"panicThreshold":`+p+`}`)
		}
		conn := b.connected(config("0.5"))
		b.Replica("a").Behave(sick)
		b.Replica("b").Behave(sick)
		load(t, conn, 100, 2*time.Second)
		if got := b.out(); !slices.Equal(got, []string{"a", "b"}) {
			t.Fatalf("out: %v, want a and b: 60 %% are available", got)
		}
		b.Replica("c").Behave(sick)
		load(t, conn, 100, 2*time.Second)
		if got := b.ejected(); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Fatalf("ejected: %v", got)
		}
		b.Forget()
		load(t, conn, 100, 5*time.Second)
		for name, n := range b.Count() {
			if n < 90 || n > 110 {
				t.Errorf("%s got %d of 500 calls in panic, want a fifth", name, n)
			}
		}
		b.pusher.push(config("0.4"))
		if got := b.out(); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("out with a threshold of 40 %%: %v", got)
		}
	})
}

func TestObserveTellsAndChangesNothing(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		names := []string{"a", "b", "c", "d", "e"}
		b := newBed(t, names)
		b.Replica("a").Behave(steadytest.Failing(codes.Unavailable, 1))
		conn := b.connected(serviceConfig(weighted, `{"ejection":{"mode":"observe"}}`))
		load(t, conn, 50, 100*time.Second)
		if got := b.ejected(); got != nil {
			t.Errorf("ejected: %v", got)
		}
		for name, n := range b.Count() {
			if n < 999 || n > 1001 {
				t.Errorf("%s got %d of 5000 calls, want a fifth", name, n)
			}
		}
		// What enforcing would have done: out for 30 s, at once again for 60 s, and so on.
		got := b.told()
		want := []string{
			"a out 30s (5 failures in a row) observed", "a back observed", "a out 1m0s (5 failures in a row) observed",
			"a back observed", "a out 1m30s (5 failures in a row) observed",
		}
		if !slices.Equal(got, want) {
			t.Errorf("told %v,\nwant %v", got, want)
		}
	})
}

func TestObserveKnowsTheCap(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b", "c", "d", "e"})
		b.Behave(steadytest.Failing(codes.Unavailable, 1))
		conn := b.connected(serviceConfig(weighted, `{"ejection":{"mode":"observe"}}`))
		load(t, conn, 50, 20*time.Second)
		if got := b.told(); len(got) != 1 {
			t.Errorf("told %v, but only one of five would have been ejected", got)
		}
	})
}

func TestModesLive(t *testing.T) {
	for _, mode := range []string{"off", "observe"} {
		steadytest.Run(t, func(t *testing.T) {
			b := newBed(t, []string{"a", "b", "c"})
			b.Replica("a").Behave(steadytest.Failing(codes.Unavailable, 1))
			conn := b.connected(serviceConfig(weighted, `{}`))
			load(t, conn, 50, time.Second)
			if got := b.ejected(); len(got) != 1 {
				t.Fatalf("ejected: %v", got)
			}
			b.pusher.push(serviceConfig(weighted, fmt.Sprintf(`{"ejection":{"mode":%q}}`, mode)))
			if got := b.ejected(); got != nil {
				t.Errorf("%v is still ejected in mode %s", got, mode)
			}
			b.Replica("a").Forget()
			load(t, conn, 60, 10*time.Second)
			if n := b.Replica("a").Count(); n < 20 {
				t.Errorf("%d calls in mode %s", n, mode)
			}
			told := b.told()
			if mode == "off" && len(told) != 2 {
				t.Errorf("told %v", told)
			}
			b.pusher.push(serviceConfig(weighted, `{}`))
			load(t, conn, 50, 5*time.Second)
			if got := b.ejected(); len(got) != 1 {
				t.Errorf("ejected after going back to enforce: %v", got)
			}
		})
	}
}

func TestWindowOfAnotherShapeBeginsAnew(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b"})
		conn := b.connected(serviceConfig(weighted, `{"ejection":{"window":"10s"}}`))
		load(t, conn, 100, 5*time.Second)
		if n := b.of("a").Calls; n != 250 {
			t.Fatalf("%d calls in the window, want 250", n)
		}
		b.pusher.push(serviceConfig(weighted, `{"ejection":{"window":"10s","margin":0.2}}`))
		if n := b.of("a").Calls; n != 250 {
			t.Errorf("%d calls in the window after another margin, want 250", n)
		}
		b.pusher.push(serviceConfig(weighted, `{"ejection":{"window":"20s"}}`))
		if e := b.of("a"); e.Calls != 0 || e.Picks != 250 {
			t.Errorf("%d calls in a new window, %d picks", e.Calls, e.Picks)
		}
	})
}

// An ejected endpoint that the resolver no longer lists frees its share of the cap; when it is back it is new.
func TestEjectedEndpointThatVanishes(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a", "b", "c"})
		sick := steadytest.Failing(codes.Unavailable, 1)
		b.Replica("a").Behave(sick)
		conn := b.connected(serviceConfig(weighted, `{`+cold+`}`))
		load(t, conn, 50, 2*time.Second)
		if got := b.ejected(); !slices.Equal(got, []string{"a"}) {
			t.Fatalf("ejected: %v", got)
		}
		b.list("b", "c")
		b.Replica("b").Behave(sick)
		load(t, conn, 50, 2*time.Second)
		if got := b.ejected(); !slices.Equal(got, []string{"b"}) {
			t.Fatalf("ejected: %v, want b: a is gone", got)
		}
		b.Replica("a").Behave(nil)
		b.list("a", "b", "c")
		synctest.Wait()
		if e := b.of("a"); e.Ejected || e.Ejections != 0 || e.Picks != 0 || e.Calls != 0 || e.Failures != 0 || e.Effective != 1 {
			t.Errorf("a is back with %+v", e)
		}
		if got := b.ejected(); !slices.Equal(got, []string{"b"}) {
			t.Errorf("ejected: %v, want b as before", got)
		}
		// Over and over: nothing adds up.
		for range 50 {
			b.list("a", "c")
			b.list("a", "b", "c")
			load(t, conn, 60, time.Second)
			if got := b.ejected(); !slices.Equal(got, []string{"b"}) {
				t.Fatalf("ejected: %v", got)
			}
		}
	})
}

// A single failure does not starve an endpoint where there is little to do: nobody else would give it the calls to
// prove itself.
func TestOneFailureIsForgotten(t *testing.T) {
	for _, config := range []string{`{}`, `{"ejection":{"mode":"off"}}`} {
		steadytest.Run(t, func(t *testing.T) {
			b := newBed(t, []string{"a", "b", "c"})
			b.Behave(steadytest.Slow(time.Millisecond))
			conn := b.connected(serviceConfig(leastRequest, config))
			b.Replica("b").Behave(steadytest.InTurn(steadytest.Failing(codes.Unavailable, 1), steadytest.Slow(time.Millisecond)))
			load(t, conn, 20, 30*time.Second)
			if b.Replica("b").Count(codes.Unavailable) != 1 {
				t.Fatal("the test wants one failure")
			}
			b.Forget()
			load(t, conn, 20, 30*time.Second)
			if n := b.Replica("b").Count(); n < 150 || n > 250 {
				t.Errorf("b got %d of 600 calls half a minute after one failure: %v", n, b.Count())
			}
		})
	}
}
