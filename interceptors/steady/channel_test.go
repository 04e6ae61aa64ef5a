package steady_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
)

// TestTwelveChannelsShareNothingButRules: what one channel learns, spends and opens is its own.
func TestTwelveChannelsShareNothingButRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := retryRule("")
		rules[0].Breaker = &countOnly
		first := newClient(t, always(answer{err: unavailable("down"), from: "a"}), rules)
		for range 20 {
			_, _ = first.call(t.Context(), get)
		}
		if _, err := first.call(t.Context(), get); !errors.Is(err, breaker.ErrOpen) {
			t.Fatalf("%v, want the first channel's breaker open", err)
		}
		var keep []grpc.UnaryClientInterceptor
		for i := range 11 {
			unary, _ := first.out.Interceptors()
			keep = append(keep, unary)
			other := &client{out: first.out, unary: unary, stub: always(answer{from: "a"})}
			if _, err := other.call(t.Context(), get); err != nil {
				t.Errorf("channel %d: %v", i+2, err)
			}
		}
		snap := first.out.Snapshot()
		if len(snap.Channels) != 12 {
			t.Fatalf("%d channels", len(snap.Channels))
		}
		open := 0
		for _, ch := range snap.Channels {
			if ch.Breakers[0].State == breaker.Open {
				open++
			} else if ch.Budget.Retries != 0 || ch.Budget.Calls != 1 {
				t.Errorf("budget %+v", ch.Budget)
			}
		}
		if open != 1 {
			t.Errorf("%d breakers open", open)
		}
		runtime.KeepAlive(keep)
	})
}

// TestReusedOptionsGiveEachConnectionItsOwnChannel, and a channel that ends leaves nothing behind.
func TestReusedOptionsGiveEachConnectionItsOwnChannel(t *testing.T) {
	out, err := steady.NewOutbound(breakerRule(countOnly))
	if err != nil {
		t.Fatal(err)
	}
	opts := out.DialOptions(grpc.WithTransportCredentials(insecureCredentials()), grpc.WithContextDialer(noDialer), steady.ChannelName("orders"))
	dial := func(target string) *grpc.ClientConn {
		conn, err := grpc.NewClient("passthrough:///"+target, opts...)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	a, b := dial("a"), dial("b")
	defer b.Close()
	call := func(conn *grpc.ClientConn) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return conn.Invoke(ctx, get, &req{}, &reply{})
	}
	for range 6 {
		err = call(a)
	}
	if !errors.Is(err, breaker.ErrOpen) {
		t.Fatalf("%v, want open", err)
	}
	if err := call(b); errors.Is(err, breaker.ErrOpen) {
		t.Errorf("the second connection shares the breaker of the first: %v", err)
	}
	snap := out.Snapshot()
	if len(snap.Channels) != 2 || snap.Channels[0].Name != "orders" || !strings.Contains(snap.Channels[0].Target, "passthrough:///") {
		t.Errorf("%+v", snap.Channels)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(out.Snapshot().Channels); n != 1 {
		t.Errorf("%d channels after one was closed", n)
	}
	// A third connection takes the place of the closed one.
	c := dial("c")
	defer c.Close()
	if err := call(c); errors.Is(err, breaker.ErrOpen) {
		t.Error("the memory of a closed connection lives on")
	}
}

func TestUpdateKeepsMemoryAndIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{err: unavailable("down"), from: "a"})
		rule := func(name string, cfg breaker.Config) []steady.Rule {
			return []steady.Rule{{Name: name, Methods: []string{""}, Breaker: &cfg}}
		}
		update := func(c *client, rules []steady.Rule) {
			t.Helper()
			if err := c.out.Update(rules); err != nil {
				t.Fatal(err)
			}
		}
		c := newClient(t, s, rule("r", countOnly))
		for range 4 {
			_, _ = c.call(t.Context(), get)
		}
		// The four failures are remembered under new thresholds, from the next result on.
		three := countOnly
		three.ConsecutiveFailures = 3
		update(c, rule("r", three))
		if got := state(t, c.out); got != breaker.Closed {
			t.Fatalf("a change of thresholds alone changed the state to %v", got)
		}
		_, _ = c.call(t.Context(), get)
		if got := state(t, c.out); got != breaker.Open {
			t.Fatalf("%v, want open: five in a row and three are enough", got)
		}
		// Another pattern and a retry more: the same rule by name, still open.
		more := rule("r", three)
		more[0].Methods = []string{"", put}
		more[0].Retry = &retry.Config{}
		update(c, more)
		if _, err := c.call(t.Context(), get); !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("%v, want the open breaker to survive", err)
		}
		// A bad document changes nothing and is reported.
		bad := rule("r", breaker.Config{FailureRatio: 7})
		err := c.out.Update(bad)
		if err == nil || !strings.Contains(err.Error(), "FailureRatio") || !strings.Contains(err.Error(), "7") {
			t.Errorf("%v, want field and value", err)
		}
		if _, err := c.call(t.Context(), get); !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("%v, want the old rules in force", err)
		}
		// Another name is another rule.
		update(c, rule("other", three))
		if _, err := c.call(t.Context(), get); errors.Is(err, breaker.ErrOpen) {
			t.Error("a rule of another name inherited the breaker")
		}
	})
}

func TestCallsInFlightEndUnderTheirRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := always(answer{after: time.Hour, from: "a"})
		rules := func(d time.Duration) []steady.Rule {
			return []steady.Rule{{Methods: []string{""}, Deadline: &deadline.Config{Default: d}}}
		}
		c := newClient(t, s, rules(10*time.Second))
		done := make(chan time.Duration)
		start := time.Now()
		go func() {
			_, err := c.call(t.Context(), get)
			wantCode(t, err, codes.DeadlineExceeded)
			done <- time.Since(start)
		}()
		synctest.Wait()
		if err := c.out.Update(rules(time.Second)); err != nil {
			t.Fatal(err)
		}
		if took := <-done; took != 10*time.Second {
			t.Errorf("ended after %v, want the 10 s it began with", took)
		}
	})
}

func TestRuleMatching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := func(d time.Duration) *deadline.Config { return &deadline.Config{Default: d} }
		s := always(answer{from: "a"})
		c := newClient(t, s, []steady.Rule{
			{Methods: []string{""}, Deadline: d(1 * time.Second)},
			{Methods: []string{"/steady.echo.v1.Echo/", "/x.Y/"}, Deadline: d(2 * time.Second)},
			{Methods: []string{put}, Deadline: d(3 * time.Second)},
			{Methods: []string{"/off.Service/"}, Mode: steady.ModeOff, Deadline: d(4 * time.Second)},
		})
		for i, tt := range []struct {
			method string
			want   time.Duration
		}{
			{put, 3 * time.Second},
			{get, 2 * time.Second},
			{"/x.Y/Z", 2 * time.Second},
			{"/x.YY/Z", 1 * time.Second},
			{"/off.Service/M", 0},
			{"no slash at all", 1 * time.Second},
			{"", 1 * time.Second},
		} {
			if _, err := c.call(t.Context(), tt.method); err != nil {
				t.Fatal(err)
			}
			if got := s.attempts()[i].deadline; got != tt.want {
				t.Errorf("%q got %v, want %v", tt.method, got, tt.want)
			}
		}
	})
}

func TestRuleErrors(t *testing.T) {
	ok := &retry.Config{}
	for _, tt := range []struct {
		name  string
		rules []steady.Rule
		want  []string
	}{
		{"no methods", []steady.Rule{{}}, []string{"rules[0]", "Methods"}},
		{"no slash", []steady.Rule{{Methods: []string{"orders"}}}, []string{`"orders"`, "/service/Method"}},
		{"three slashes", []steady.Rule{{Methods: []string{"/a/b/c"}}}, []string{`"/a/b/c"`}},
		{"huge pattern", []steady.Rule{{Methods: []string{"/" + strings.Repeat("x", 5000) + "/"}}}, []string{"4096"}},
		{"a pattern twice", []steady.Rule{{Methods: []string{get}}, {Name: "b", Methods: []string{get}}}, []string{"rules[1]", "rules[0]", get}},
		{"a name twice", []steady.Rule{{Name: "n", Methods: []string{get}}, {Name: "n", Methods: []string{put}}}, []string{"rules[1]", "Name", `"n"`}},
		{"mode", []steady.Rule{{Methods: []string{get}, Mode: 7}}, []string{"Mode", "7"}},
		{"RetryOn alone", []steady.Rule{{Methods: []string{get}, RetryOn: []codes.Code{codes.Aborted}}}, []string{"RetryOn", "Retry"}},
		{"RetryOn OK", []steady.Rule{{Methods: []string{get}, Retry: ok, RetryOn: []codes.Code{codes.OK}}}, []string{"RetryOn", "OK"}},
		{"RetryOn 99", []steady.Rule{{Methods: []string{get}, Retry: ok, RetryOn: []codes.Code{99}}}, []string{"RetryOn", "99"}},
		{"Idempotent alone", []steady.Rule{{Methods: []string{get}, Idempotent: true}}, []string{"Idempotent"}},
		{"PerMethod alone", []steady.Rule{{Methods: []string{get}, PerMethod: true}}, []string{"PerMethod"}},
		{"FailOn", []steady.Rule{{Methods: []string{get}, FailOn: []codes.Code{codes.Canceled}}}, []string{"FailOn"}},
		{"attempts", []steady.Rule{{Methods: []string{get}, Retry: &retry.Config{MaxAttempts: 6}}}, []string{"MaxAttempts", "6", "5"}},
		{"deadline", []steady.Rule{{Methods: []string{get}, Deadline: &deadline.Config{Default: -7}}}, []string{"Default", "-7"}},
		{"all findings at once", []steady.Rule{{}, {Methods: []string{"x"}}}, []string{"rules[0]", "rules[1]"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := steady.NewOutbound(tt.rules)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v: does not name %s", err, w)
				}
			}
		})
	}
}

func TestRuleEqual(t *testing.T) {
	a := steady.Rule{Methods: []string{get, put}, Retry: &retry.Config{}, RetryOn: []codes.Code{codes.Aborted, codes.Unavailable}}
	filled := retry.Config{}.WithDefaults()
	b := steady.Rule{
		Name: get, Methods: []string{put, get}, Retry: &filled, RetryOn: []codes.Code{codes.Unavailable, codes.Aborted, codes.Aborted},
	}
	if !a.Equal(b) || !b.Equal(a) {
		t.Error("the same rule in other words is not equal")
	}
	for i, other := range []steady.Rule{
		{Name: "x", Methods: a.Methods, Retry: a.Retry, RetryOn: a.RetryOn},
		{Methods: []string{get}, Retry: a.Retry, RetryOn: a.RetryOn},
		{Methods: a.Methods, Retry: &retry.Config{MaxAttempts: 2}, RetryOn: a.RetryOn},
		{Methods: a.Methods, Retry: a.Retry},
		{Methods: a.Methods, Retry: a.Retry, RetryOn: a.RetryOn, Mode: steady.ModeObserve},
		{Methods: a.Methods, Retry: a.Retry, RetryOn: a.RetryOn, Breaker: &breaker.Config{}},
	} {
		if a.Equal(other) {
			t.Errorf("%d: equal to %+v", i, other)
		}
	}
}

// TestTenThousandRulesAndAHundredThousandNames: state is bounded by what the owner named, not by what
// somebody calls.
func TestTenThousandRulesAndAHundredThousandNames(t *testing.T) {
	rules := []steady.Rule{{Methods: []string{""}, Breaker: &breaker.Config{}, PerMethod: true, Retry: &retry.Config{}}}
	for i := range 10_000 {
		rules = append(rules, steady.Rule{Methods: []string{fmt.Sprintf("/s%d.S/M", i)}, Deadline: &deadline.Config{}})
	}
	c := newClient(t, always(answer{from: "a"}), rules)
	c.stub.become(func(int) answer { return answer{from: "a"} })
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	invoke := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	for i := range 100_000 {
		if err := c.unary(t.Context(), fmt.Sprintf("/stranger%d/M", i), &req{}, &reply{}, nil, invoke); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 { // and again under other rules of the same names
		rules[0].Breaker = &breaker.Config{ConsecutiveFailures: 5 + i}
		if err := c.out.Update(rules); err != nil {
			t.Fatal(err)
		}
		for j := range 2000 {
			if err := c.unary(t.Context(), fmt.Sprintf("/later%d-%d/M", i, j), &req{}, &reply{}, nil, invoke); err != nil {
				t.Fatal(err)
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 20<<20 {
		t.Errorf("100,000 names left %d MiB behind", grown>>20)
	}
	snap := c.out.Snapshot()
	if n := len(snap.Channels[0].Methods); n > 1024 {
		t.Errorf("%d methods have state of their own", n)
	}
	if n := len(snap.Channels[0].Breakers); n > 1025 {
		t.Errorf("%d breakers", n)
	}
}
