package steadytest

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// Load is traffic to come: calls at a rate, whatever becomes of them (open loop), or by a number of callers
// who wait for each answer (closed loop).
//
// Open loop is what users do to a service: a slow service gets just as many calls. It is what shows
// overload, so it is the default; a closed loop flatters a slow service by calling it less.
//
// In a bubble the arrivals come at their exact instants. Outside they come as the scheduler can, and those
// that are late are still made, at once.
type Load struct {
	// Rate is the calls per second of an open loop. Default: 100. Ignored with Workers.
	Rate float64
	// Poisson makes the gaps between arrivals random, exponentially distributed around 1/Rate, as those of
	// independent users are. Default: even gaps.
	Poisson bool
	// Workers above 0 makes it a closed loop with so many callers.
	Workers int
	// Pause is how long a worker of a closed loop waits between an answer and its next call. Default: 0,
	// which in a bubble needs calls that take time, or the clock never moves and the load never ends.
	Pause time.Duration
	// For is how long calls begin; those under way are waited for. Default: 10 s.
	For time.Duration
	// Timeout is the deadline of each call. Default: 10 s. Negative: none, unwise in a bubble.
	Timeout time.Duration
	// Seed is what Poisson follows. Default: 1.
	Seed uint64
	// Call makes call number i, from 0. It is called by many goroutines at once. Mandatory.
	Call func(ctx context.Context, i int) error
}

// Run makes the calls and returns when the last one has ended. The end of ctx stops it early; calls under
// way get that context, so they end as well. It panics without a Call.
func (l Load) Run(ctx context.Context) *Result {
	if l.Call == nil {
		panic("steadytest: Load.Call is nil")
	}
	if !(l.Rate > 0) || math.IsInf(l.Rate, 0) {
		l.Rate = 100
	}
	if l.For <= 0 {
		l.For = 10 * time.Second
	}
	if l.Timeout == 0 {
		l.Timeout = 10 * time.Second
	}
	if l.Seed == 0 {
		l.Seed = 1
	}
	run := &running{Load: l, start: time.Now()}
	if l.Workers > 0 {
		run.closed(ctx)
	} else {
		run.open(ctx)
	}
	run.calls.Wait()
	return newResult(run.outcomes, time.Since(run.start))
}

// running is a load under way.
type running struct {
	Load
	start time.Time
	calls sync.WaitGroup

	mu       sync.Mutex
	outcomes []Outcome
}

func (r *running) open(ctx context.Context) {
	random := rand.New(rand.NewPCG(r.Seed, mix(r.Seed)))
	timer := time.NewTimer(0)
	defer timer.Stop()
	// Each arrival is computed from the start, so that rounding does not add up.
	gaps := 0.0
	for i := 0; ; i++ {
		at := time.Duration(math.Round(gaps / r.Rate * float64(time.Second)))
		if at >= r.For {
			return
		}
		timer.Reset(time.Until(r.start.Add(at)))
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return
		}
		r.calls.Go(func() { r.call(ctx, i) })
		if r.Poisson {
			gaps += random.ExpFloat64()
		} else {
			gaps++
		}
	}
}

func (r *running) closed(ctx context.Context) {
	var next atomic.Int64
	for range r.Workers {
		r.calls.Go(func() {
			for ctx.Err() == nil && time.Since(r.start) < r.For {
				r.call(ctx, int(next.Add(1)-1))
				if sleep(ctx, r.Pause) != nil {
					return
				}
			}
		})
	}
}

func (r *running) call(ctx context.Context, i int) {
	if r.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.Timeout)
		defer cancel()
	}
	began := time.Now()
	err := r.Call(ctx, i)
	o := Outcome{Call: i, At: began.Sub(r.start), Took: time.Since(began), Code: codeOf(err)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcomes = append(r.outcomes, o)
}

// Get returns a [Load.Call] that calls the echo service's Get on a channel.
func Get(conn grpc.ClientConnInterface, opts ...grpc.CallOption) func(ctx context.Context, i int) error {
	client := echov1.NewEchoClient(conn)
	return func(ctx context.Context, _ int) error {
		_, err := client.Get(ctx, &echov1.EchoRequest{}, opts...)
		return err
	}
}
