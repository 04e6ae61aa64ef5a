package pool_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// A server that fails every call in 1 ms always looks idle. It must not attract traffic for that: of calls to 20
// servers of which one does, at most 0.5 % fail after the first second, and with retries none.
func TestSinkhole(t *testing.T) {
	for _, tt := range []struct {
		ejection bool
		latency  bool
		code     codes.Code
	}{
		{true, false, codes.Unavailable}, {true, true, codes.Unavailable},
		{false, false, codes.Unavailable}, {false, true, codes.Unavailable},
		{false, false, codes.Unknown}, {false, true, codes.Internal}, {true, false, codes.Unknown},
	} {
		for _, retries := range []bool{false, true} {
			for rate, length := range map[float64]time.Duration{200: 6 * time.Second, 1000: 3 * time.Second} {
				if rate > 200 && (retries || tt.code != codes.Unavailable) {
					continue
				}
				steadytest.Run(t, func(t *testing.T) {
					names := make([]string, 20)
					for i := range names {
						names[i] = string(rune('a' + i))
					}
					b := newBed(t, names)
					b.Behave(steadytest.SlowBetween(10*time.Millisecond, 30*time.Millisecond))
					b.Replica("c").Behave(steadytest.All(steadytest.Slow(time.Millisecond), steadytest.Failing(tt.code, 1)))
					config := `{`
					if !tt.ejection {
						config += `"ejection":{"mode":"off"},`
					}
					if tt.latency {
						config += `"latency":{},`
					}
					config += `"choiceCount":2}`
					var opts []grpc.DialOption
					if retries {
						opts = driver(t, steady.Rule{Retry: &retry.Config{}, RetryOn: []codes.Code{tt.code}})
					}
					conn := b.connected(serviceConfig(leastRequest, config), opts...)
					r := load(t, conn, rate, length)
					late := r.Between(time.Second, length)
					name := fmt.Sprintf("%+v, retries %v, %v calls a second", tt, retries, rate)
					if !retries && late.Availability() < 0.995 {
						t.Errorf("%s: %v", name, late)
					}
					if retries && late.Availability() != 1 {
						t.Errorf("%s: %v", name, late)
					}
				})
			}
		}
	}
}

// Latency is learned from the first answer on, and a stream's length is none.
func TestLatencyIsLearned(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		b := newBed(t, []string{"a"})
		b.Behave(steadytest.Slow(50 * time.Millisecond))
		conn := b.dial(serviceConfig(leastRequest, `{"latency":{}}`))
		_ = one(t, conn)
		if got := b.of("a").Latency; got < 49*time.Millisecond || got > 51*time.Millisecond {
			t.Errorf("latency %v after one answer in 50 ms", got)
		}
		ctx := t.Context()
		call(ctx, echoClient(conn), 2, 3*time.Second) // takes 200 ms and more
		if got := b.of("a").Latency; got > 51*time.Millisecond {
			t.Errorf("latency %v after a stream", got)
		}
	})
}
