package steadytest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/interceptors/steadytest"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

func TestScripts(t *testing.T) {
	var nilScript steadytest.Script
	unavailable := steadytest.Failing(codes.Unavailable, 1)
	type want struct {
		code codes.Code
		took time.Duration
	}
	ok, bad := want{codes.OK, 0}, want{codes.Unavailable, 0}
	tests := []struct {
		name   string
		script func() steadytest.Script // called in the bubble
		want   []want                   // one call a second; a call has 1 s
	}{
		{"nil", func() steadytest.Script { return nilScript }, []want{ok}},
		{"Healthy", steadytest.Healthy, []want{ok}},
		{"Failing always", func() steadytest.Script { return unavailable }, []want{bad, bad}},
		{"Failing never", func() steadytest.Script { return steadytest.Failing(codes.Unavailable, 0) }, []want{ok, ok}},
		{"Failing with OK", func() steadytest.Script { return steadytest.Failing(codes.OK, 1) }, []want{ok}},
		{"Slow", func() steadytest.Script { return steadytest.Slow(300 * time.Millisecond) }, []want{{codes.OK, 300 * time.Millisecond}}},
		{"too slow", func() steadytest.Script { return steadytest.Slow(time.Hour) }, []want{{codes.DeadlineExceeded, time.Second}}},
		{"Slow by less than nothing", func() steadytest.Script { return steadytest.Slow(-time.Hour) }, []want{ok}},
		{"Hanging", func() steadytest.Script { return steadytest.Hanging(1) }, []want{{codes.DeadlineExceeded, time.Second}}},
		{"Hanging never", func() steadytest.Script { return steadytest.Hanging(0) }, []want{ok}},
		{"All", func() steadytest.Script {
			return steadytest.All(nil, steadytest.Slow(200*time.Millisecond), steadytest.Slow(100*time.Millisecond), unavailable, steadytest.Hanging(1))
		}, []want{{codes.Unavailable, 300 * time.Millisecond}}},
		{"InTurn", func() steadytest.Script {
			return steadytest.InTurn(unavailable, nil, steadytest.Failing(codes.Unavailable, 1), steadytest.Healthy())
		}, []want{bad, ok, bad, ok, ok}},
		{"InTurn of nothing", func() steadytest.Script { return steadytest.InTurn() }, []want{ok}},
		{"Alternating", func() steadytest.Script {
			return steadytest.Alternating(2*time.Second, steadytest.Healthy(), unavailable)
		}, []want{ok, ok, bad, bad, ok, ok, bad}},
		{"Alternating without period", func() steadytest.Script { return steadytest.Alternating(0, unavailable) }, []want{ok}},
		{"On method", func() steadytest.Script { return unavailable.On("/x/", echov1.Echo_Get_FullMethodName) }, []want{bad}},
		{"On service", func() steadytest.Script { return unavailable.On("/steady.echo.v1.Echo/") }, []want{bad}},
		{"On others", func() steadytest.Script {
			return unavailable.On("/steady.echo.v1.Echo/Ge", "/steady.echo.v1.Echo", echov1.Echo_Put_FullMethodName, "")
		}, []want{ok}},
		{"Breaking a unary call", func() steadytest.Script { return steadytest.Breaking(codes.Unavailable, 5) }, []want{bad}},
		{"own", func() steadytest.Script {
			return func(_ context.Context, call steadytest.Call) error {
				if req, ok := call.Request.(*echov1.EchoRequest); !ok || req.GetText() != "hi" {
					return fmt.Errorf("the script sees request %v", call.Request)
				}
				if call.Number%2 == 0 {
					return status.Error(codes.Unavailable, "even")
				}
				return nil
			}
		}, []want{ok, bad, ok, bad}},
		{"plain error", func() steadytest.Script {
			return func(context.Context, steadytest.Call) error { return errors.New("plain") }
		}, []want{{codes.Unknown, 0}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
				conn := fleet.Dial()
				fleet.Behave(tt.script())
				start := time.Now()
				for i, want := range tt.want {
					time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second)))
					began := time.Now()
					_, err := get(t, conn)
					if code, took := status.Code(err), time.Since(began); code != want.code || took != want.took {
						t.Errorf("call %d: %v after %v, want %v after %v", i+1, err, took, want.code, want.took)
					}
				}
			})
		})
	}
}

func TestScriptAnswersCarryMore(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		conn := fleet.Dial()
		for _, tt := range []struct {
			give time.Duration
			want string
		}{
			{0, "0"}, {time.Nanosecond, "1"}, {250 * time.Millisecond, "250"}, {-1, "-1"}, {-time.Hour, "-1"},
		} {
			fleet.Behave(steadytest.Failing(codes.ResourceExhausted, 1).
				WithPushback(tt.give).WithTrailer("x", "1", "x", "2").WithRetryInfo(3 * time.Second))
			var trailer metadata.MD
			_, err := get(t, conn, grpc.Trailer(&trailer))
			if got := trailer.Get("grpc-retry-pushback-ms"); !slices.Equal(got, []string{tt.want}) {
				t.Errorf("pushback of %v arrives as %v", tt.give, got)
			}
			if got := trailer.Get("x"); !slices.Equal(got, []string{"1", "2"}) {
				t.Errorf("trailer x: %v", got)
			}
			details := status.Convert(err).Details()
			if len(details) != 1 || details[0].(*errdetails.RetryInfo).GetRetryDelay().AsDuration() != 3*time.Second {
				t.Errorf("details: %v of %v", details, err)
			}
		}
		fleet.Behave(steadytest.Healthy().WithPushback(0).WithRetryInfo(0))
		var trailer metadata.MD
		if _, err := get(t, conn, grpc.Trailer(&trailer)); err != nil || len(trailer.Get("grpc-retry-pushback-ms")) != 0 {
			t.Errorf("a script without an answer adds %v, %v", trailer, err)
		}
	})
}

// TestSharesRepeat shows that a seed decides which calls fail, and that a share is kept.
func TestSharesRepeat(t *testing.T) {
	run := func(seed uint64) string {
		var pattern strings.Builder
		steadytest.Run(t, func(t *testing.T) {
			fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.Seed(seed))
			fleet.Behave(steadytest.All(steadytest.SlowBetween(0, 9*time.Millisecond), steadytest.Failing(codes.Unavailable, 0.3)))
			conn := fleet.Dial()
			for range 500 {
				began := time.Now()
				_, err := get(t, conn)
				fmt.Fprintln(&pattern, err == nil, time.Since(began))
			}
			if failed := fleet.Replica("a").Count(codes.Unavailable); failed < 110 || failed > 190 {
				t.Errorf("of 500 calls %d failed, want about 150", failed)
			}
		})
		return pattern.String()
	}
	first, second := run(7), run(7)
	if first != second {
		t.Error("the same seed gives another run")
	}
	if first == run(8) {
		t.Error("another seed gives the same run")
	}
}

func TestSlowBetweenStaysBetween(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		fleet.Behave(steadytest.SlowBetween(10*time.Millisecond, 20*time.Millisecond))
		r := steadytest.Load{Rate: 1000, For: time.Second, Call: steadytest.Get(fleet.Dial())}.Run(context.Background())
		if r.OK != 1000 || r.Quantile(0) < 10*time.Millisecond || r.Quantile(1) > 20*time.Millisecond {
			t.Errorf("%v, fastest %v", r, r.Quantile(0))
		}
		if mid := r.Quantile(0.5); mid < 14*time.Millisecond || mid > 16*time.Millisecond {
			t.Errorf("the median is %v, want about 15 ms", mid)
		}
	})
}

func TestBreaking(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		client := echov1.NewEchoClient(fleet.Dial())
		for after := range 4 {
			fleet.Behave(steadytest.Breaking(codes.DataLoss, after))
			list, err := client.List(within(t, time.Second), &echov1.EchoRequest{Count: 10})
			if err != nil {
				t.Fatal(err)
			}
			got := 0
			for {
				if _, err = list.Recv(); err != nil {
					break
				}
				got++
			}
			if got != after || status.Code(err) != codes.DataLoss {
				t.Errorf("List breaks after %d messages with %v, want %d", got, err, after)
			}
		}

		fleet.Behave(steadytest.Breaking(codes.DataLoss, 1))
		chat, err := client.Chat(within(t, time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if err := chat.Send(&echov1.EchoRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := chat.Recv(); err != nil {
			t.Errorf("first answer: %v", err)
		}
		// The handler is asking for the next message: it learns at once, not when one comes.
		began := time.Now()
		if _, err := chat.Recv(); status.Code(err) != codes.DataLoss || time.Since(began) != 0 {
			t.Errorf("Chat ends with %v after %v", err, time.Since(began))
		}
		if got := fleet.Replica("a").Count(codes.DataLoss); got != 5 {
			t.Errorf("%d records, want 5", got)
		}
	})
}

func TestStreamsHangAndFail(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		client := echov1.NewEchoClient(fleet.Dial())
		for _, tt := range []struct {
			script steadytest.Script
			want   codes.Code
			took   time.Duration
		}{
			{steadytest.Failing(codes.Aborted, 1), codes.Aborted, 0},
			{steadytest.Hanging(1), codes.DeadlineExceeded, time.Second},
		} {
			fleet.Behave(tt.script)
			began := time.Now()
			chat, err := client.Chat(within(t, time.Second))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := chat.Recv(); status.Code(err) != tt.want || time.Since(began) != tt.took {
				t.Errorf("got %v after %v, want %v after %v", err, time.Since(began), tt.want, tt.took)
			}
			if calls := fleet.Calls(); !calls[len(calls)-1].Stream {
				t.Error("the record does not say that it was a stream")
			}
		}
	})
}

// TestBehaveUnderLoad changes everything while calls are under way, for the race detector.
func TestBehaveUnderLoad(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		conn := fleet.Dial()
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range 100 {
				r := fleet.Replicas()[i%3]
				switch i % 5 {
				case 0:
					r.Behave(steadytest.SlowBetween(0, 30*time.Millisecond))
				case 1:
					r.Behave(steadytest.Failing(codes.Unavailable, 0.5))
				case 2:
					r.Crash()
				case 3:
					r.Drain()
				case 4:
					r.BlackHole()
				}
				_, _, _ = fleet.Calls(), fleet.Count(), r.InFlight()
				time.Sleep(20 * time.Millisecond)
				r.Start()
			}
		})
		r := steadytest.Load{Rate: 500, For: 2 * time.Second, Timeout: 200 * time.Millisecond, Call: steadytest.Get(conn)}.Run(context.Background())
		wg.Wait()
		if r.Calls != 1000 || r.OK == 0 || r.OK == 1000 {
			t.Errorf("%v", r)
		}
		seen := 0
		for _, n := range fleet.Count() {
			seen += n
		}
		if got := len(fleet.Calls()); got != seen {
			t.Errorf("%d records of %d calls", got, seen)
		}
	})
}
