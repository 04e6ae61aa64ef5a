package pool

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// The time that a server asked for is not shortened by what else comes back meanwhile.
func TestPushbackHolds(t *testing.T) {
	p, _ := set(2, timed, one)
	e := p.list[0]
	at := func(d time.Duration) int64 { return int64(d) }
	e.failed(at(time.Second), time.Minute, true)
	if got := e.trouble.at(at(time.Second), troubleDecay); got != 0.5 {
		t.Fatalf("trouble %v, want 0.5 of a server that says so itself", got)
	}
	e.failed(at(2*time.Second), 0, true)
	e.failed(at(3*time.Second), 10*time.Second, true)
	e.succeeded(at(4 * time.Second))
	if a, b := e.trouble.at(at(4*time.Second), troubleDecay), e.trouble.at(at(60*time.Second), troubleDecay); a != b || a < 0.5 {
		t.Errorf("trouble %v fell to %v before the server wants to see us again", a, b)
	}
	if got := e.trouble.at(at(91*time.Second), troubleDecay); got > 0.05 {
		t.Errorf("trouble %v half a minute after", got)
	}
	e.failed(at(100*time.Second), 1000*time.Hour, true)
	if a, b := e.trouble.at(at(399*time.Second), troubleDecay), e.trouble.at(at(411*time.Second), troubleDecay); a < 0.5 || b > 0.4 {
		t.Errorf("a pushback of 1000h holds 5m: %v, then %v", a, b)
	}
}

func TestFailureCostsLatency(t *testing.T) {
	p, _ := set(2, timed, one)
	e := p.list[0]
	for _, tt := range []struct {
		pushback, want time.Duration
	}{{0, 5 * time.Second}, {time.Second, 5 * time.Second}, {time.Minute, time.Minute}, {time.Hour, 5 * time.Minute}} {
		e.latency.bits.Store(0)
		e.observe(int64(time.Second), int64(990*time.Millisecond), timed.Latency)
		e.failed(int64(time.Second), tt.pushback, true)
		if got := time.Duration(e.latency.at(int64(time.Second), timed.Latency.Decay)); got < tt.want-time.Millisecond || got > tt.want+time.Millisecond {
			t.Errorf("pushback %v: a failure costs %v, want %v", tt.pushback, got, tt.want)
		}
	}
}

// A call that ends without a driver is judged by its code.
func TestGuess(t *testing.T) {
	pushed := metadata.Pairs("grpc-retry-pushback-ms", "1000")
	for _, tt := range []struct {
		info             balancer.DoneInfo
		row, good, wrong int64
	}{
		{info: balancer.DoneInfo{BytesSent: true}, good: 1},
		{info: balancer.DoneInfo{Err: status.Error(codes.Unavailable, "")}}, // never sent
		{info: balancer.DoneInfo{Err: status.Error(codes.Unavailable, ""), BytesSent: true}, row: 1, wrong: 1},
		{info: balancer.DoneInfo{Err: status.Error(codes.Internal, ""), BytesSent: true}, row: 1, wrong: 1},
		{info: balancer.DoneInfo{Err: status.Error(codes.DataLoss, ""), BytesSent: true}, row: 1, wrong: 1},
		{info: balancer.DoneInfo{Err: status.Error(codes.Unknown, ""), BytesSent: true}, wrong: 1},
		{info: balancer.DoneInfo{Err: status.Error(codes.DeadlineExceeded, ""), BytesSent: true}, wrong: 1},
		{info: balancer.DoneInfo{Err: status.Error(codes.Canceled, ""), BytesSent: true}},
		{info: balancer.DoneInfo{Err: status.Error(codes.ResourceExhausted, ""), BytesSent: true}},
		{info: balancer.DoneInfo{Err: status.Error(codes.ResourceExhausted, ""), BytesSent: true, Trailer: pushed}, row: 1, wrong: 1},
		{info: balancer.DoneInfo{Err: status.Error(codes.NotFound, ""), BytesSent: true}, good: 1},
		{info: balancer.DoneInfo{Err: status.Error(codes.PermissionDenied, ""), BytesSent: true}, good: 1},
		// Made here, of a message; the server has no part in it.
		{info: balancer.DoneInfo{Err: status.Error(codes.Internal, "grpc: error while marshaling: proto: x"), BytesSent: true}},
		{info: balancer.DoneInfo{Err: status.Error(codes.Internal, "grpc: failed to unmarshal the received message: x"), BytesSent: true}},
	} {
		p, _ := set(2, windows, one)
		e := p.list[0]
		e.guess(tt.info, p.now())
		sums := e.window.Load().Sum(p.at(p.now()))
		if int64(e.row.Load()) != tt.row || sums[kindSuccess] != tt.good || sums[kindFailure] != tt.wrong {
			t.Errorf("%v: row %d, %d good, %d wrong, want %d, %d, %d", tt.info.Err, e.row.Load(), sums[kindSuccess], sums[kindFailure], tt.row, tt.good, tt.wrong)
		}
	}
}

func TestPushbackIsRead(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"0": 0, "1500": 1500 * time.Millisecond, "-1": 0, "x": 0, "": 0, "99999999999": 0,
	} {
		if got := pushback(balancer.DoneInfo{Trailer: metadata.Pairs("grpc-retry-pushback-ms", value)}); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	if got := pushback(balancer.DoneInfo{Trailer: metadata.Pairs("grpc-retry-pushback-ms", "5", "grpc-retry-pushback-ms", "6")}); got != 0 {
		t.Errorf("two values: %v", got)
	}
}

// A phantom end, of a pick whose connection was gone, counts for nothing.
func TestPhantomsCountForNothing(t *testing.T) {
	p := leastPicker(3, timed, one)
	info := balancer.PickInfo{FullMethodName: "/grpc.health.v1.Health/Check", Ctx: t.Context()}
	for range 300 {
		r, err := p.Pick(info)
		if err != nil {
			t.Fatal(err)
		}
		r.Done(balancer.DoneInfo{})
	}
	for _, e := range p.pool.list {
		if e.InFlight() != 0 || e.window.Load().Sum(p.pool.at(p.pool.now())).Total() != 0 || e.latency.bits.Load() != 0 {
			t.Errorf("%s: %d in flight, %v", e.name, e.InFlight(), e.window.Load().Sum(p.pool.at(p.pool.now())))
		}
	}
}

func TestKindsAreBounded(t *testing.T) {
	var k kinds
	if k.stream("/grpc.health.v1.Health/Check") || !k.stream("/grpc.health.v1.Health/Watch") || !k.stream("/no.such/Method") || !k.stream("") {
		t.Error("Check is unary, Watch is a stream, and what nobody knows counts as one")
	}
	for i := range 3 * maxKinds {
		k.stream(string(rune('0' + i)))
	}
	n := 0
	k.known.Range(func(any, any) bool { n++; return true })
	if n > maxKinds {
		t.Errorf("%d methods remembered", n)
	}
}

// What latency is learned from: work that was done, whatever came of it, and from everything else only that it took
// longer.
func TestWhatLatencyIsLearnedFrom(t *testing.T) { synctest.Test(t, whatLatencyIsLearnedFrom) }

func whatLatencyIsLearnedFrom(t *testing.T) {
	const ms = int64(time.Millisecond)
	for code, want := range map[codes.Code][3]int64{ // of nothing known, after 20 ms, after 2 ms: in ms
		codes.OK: {5, 19, 5}, codes.NotFound: {5, 19, 5}, codes.InvalidArgument: {5, 19, 5}, codes.Aborted: {5, 19, 5},
		codes.PermissionDenied: {5, 19, 5}, codes.ResourceExhausted: {5, 19, 5}, codes.DeadlineExceeded: {5, 19, 5}, codes.Canceled: {5, 19, 5},
	} {
		info := balancer.DoneInfo{BytesSent: true}
		if code != codes.OK {
			info.Err = status.Error(code, "")
		}
		for i, before := range []int64{0, 20, 2} {
			p, _ := set(1, timed, one)
			e := p.list[0]
			time.Sleep(time.Second)
			began := p.now()
			if before > 0 {
				e.observe(began, began-before*ms, timed.Latency)
			}
			e.ended(info, true, &timed, began-5*ms, false)
			got := int64(e.latency.at(p.now(), timed.Latency.Decay)) / ms
			if got < want[i] || got > want[i]+1 {
				t.Errorf("%v after %d ms: %d ms, want %d", code, before, got, want[i])
			}
		}
		p, _ := set(1, timed, one)
		time.Sleep(time.Second)
		e := p.list[0]
		e.observe(p.now(), p.now()-100*ms, timed.Latency)
		e.ended(info, true, &timed, p.now()-5*ms, true) // of a stream
		if got := e.latency.at(p.now(), timed.Latency.Decay); got < 99*float64(ms) {
			t.Errorf("%v of a stream was learned", code)
		}
	}
}
