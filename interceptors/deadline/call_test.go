package deadline_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcsteady/steady/interceptors/deadline"
)

func TestCall(t *testing.T) {
	const (
		ms  = time.Millisecond
		s   = time.Second
		no  = time.Duration(math.MinInt64) // no deadline
		off = -1
	)
	tests := map[string]struct {
		give      deadline.Config
		caller    time.Duration // from now
		inherited bool
		want      time.Duration
		origin    deadline.Origin
	}{
		"default":                     {deadline.Config{}, no, false, 30 * s, deadline.OriginDefault},
		"own default":                 {deadline.Config{Default: 2 * s}, no, false, 2 * s, deadline.OriginDefault},
		"default for an inherited no": {deadline.Config{Default: 2 * s}, no, true, 2 * s, deadline.OriginDefault},
		"default equal to cap":        {deadline.Config{Default: 2 * s, Max: 2 * s}, no, false, 2 * s, deadline.OriginDefault},
		"none":                        {deadline.Config{Default: off}, no, false, no, deadline.OriginNone},
		"cap without default":         {deadline.Config{Default: off, Max: 7 * s}, no, false, 7 * s, deadline.OriginCap},
		"caller":                      {deadline.Config{Default: 2 * s}, 50 * s, false, 50 * s, deadline.OriginCaller},
		"caller below cap":            {deadline.Config{Max: 60 * s}, 50 * s, false, 50 * s, deadline.OriginCaller},
		"caller at cap":               {deadline.Config{Max: 50 * s}, 50 * s, false, 50 * s, deadline.OriginCaller},
		"cap":                         {deadline.Config{Max: 10 * s}, 50 * s, false, 10 * s, deadline.OriginCap},
		"reserve by share":            {deadline.Config{}, 1 * s, true, 950 * ms, deadline.OriginReserve},
		"reserve fixed":               {deadline.Config{}, 40 * ms, true, 35 * ms, deadline.OriginReserve},
		"reserve half at most":        {deadline.Config{}, 6 * ms, true, 3 * ms, deadline.OriginReserve},
		"reserve of one nanosecond":   {deadline.Config{}, 1, true, 1, deadline.OriginCaller},
		"no reserve by share":         {deadline.Config{ReserveShare: off}, 1 * s, true, 995 * ms, deadline.OriginReserve},
		"no fixed reserve":            {deadline.Config{Reserve: off}, 20 * ms, true, 19 * ms, deadline.OriginReserve},
		"no reserve":                  {deadline.Config{Reserve: off, ReserveShare: off}, 1 * s, true, 1 * s, deadline.OriginCaller},
		"cap above reserve":           {deadline.Config{Max: 960 * ms}, 1 * s, true, 950 * ms, deadline.OriginReserve},
		"cap below reserve":           {deadline.Config{Max: 940 * ms}, 1 * s, true, 940 * ms, deadline.OriginCap},
		"now":                         {deadline.Config{}, 0, true, 0, deadline.OriginCaller},
		"past":                        {deadline.Config{Max: s}, -5 * s, true, -5 * s, deadline.OriginCaller},
		"far future":                  {deadline.Config{}, math.MaxInt64, false, math.MaxInt64, deadline.OriginCaller},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			var caller, want time.Time
			if tt.caller != no {
				caller = now.Add(tt.caller)
			}
			if tt.want != no {
				want = now.Add(tt.want)
			}
			got, origin := tt.give.WithDefaults().Call(now, caller, tt.inherited)
			if !got.Equal(want) || origin != tt.origin {
				t.Fatalf("got %v by %v, want %v by %v", got.Sub(now), origin, want.Sub(now), tt.origin)
			}
		})
	}
}

func TestAttempt(t *testing.T) {
	const (
		ms = time.Millisecond
		no = time.Duration(math.MinInt64)
	)
	tests := map[string]struct {
		give deadline.Config
		left time.Duration
		want time.Duration // no: none of its own
	}{
		"nothing set":               {deadline.Config{}, 100 * ms, no},
		"timeout":                   {deadline.Config{AttemptTimeout: 30 * ms}, 100 * ms, 30 * ms},
		"timeout, no deadline":      {deadline.Config{AttemptTimeout: 30 * ms}, no, 30 * ms},
		"timeout as long as left":   {deadline.Config{AttemptTimeout: 30 * ms}, 30 * ms, no},
		"timeout above left":        {deadline.Config{AttemptTimeout: 30 * ms}, 10 * ms, no},
		"share":                     {deadline.Config{AttemptShare: 0.5}, 100 * ms, 50 * ms},
		"whole share":               {deadline.Config{AttemptShare: 1}, 100 * ms, no},
		"share, no deadline":        {deadline.Config{AttemptShare: 0.5}, no, no},
		"both, share is less":       {deadline.Config{AttemptShare: 0.2, AttemptTimeout: 30 * ms}, 100 * ms, 20 * ms},
		"both, timeout is less":     {deadline.Config{AttemptShare: 0.5, AttemptTimeout: 30 * ms}, 100 * ms, 30 * ms},
		"both, no deadline":         {deadline.Config{AttemptShare: 0.5, AttemptTimeout: 30 * ms}, no, 30 * ms},
		"share of next to nothing":  {deadline.Config{AttemptShare: 0.1}, 5, 1},
		"share of one nanosecond":   {deadline.Config{AttemptShare: 0.1}, 1, no},
		"nothing left":              {deadline.Config{AttemptShare: 0.5, AttemptTimeout: 30 * ms}, 0, no},
		"past":                      {deadline.Config{AttemptShare: 0.5, AttemptTimeout: 30 * ms}, -ms, no},
		"share of all time":         {deadline.Config{AttemptShare: 1}, math.MaxInt64, no},
		"nearly whole, rounding up": {deadline.Config{AttemptShare: math.Nextafter(1, 0)}, math.MaxInt64, math.MaxInt64 - 1023},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			var call time.Time
			if tt.left != no {
				call = now.Add(tt.left)
			}
			got, own := tt.give.WithDefaults().Attempt(now, call)
			if tt.want == no {
				if own || !got.Equal(call) {
					t.Fatalf("got %v, own %v, want the deadline of the call", got.Sub(now), own)
				}
				return
			}
			if !own || got.Sub(now) != tt.want {
				t.Fatalf("got %v, own %v, want %v", got.Sub(now), own, tt.want)
			}
		})
	}
}

// FuzzCall holds what every configuration and every caller may rely on.
func FuzzCall(f *testing.F) {
	f.Add(int64(0), int64(0), int64(0), 0.0, int64(0), 0.0, int64(time.Second), true)
	f.Add(int64(time.Second), int64(2*time.Second), int64(time.Millisecond), 0.3, int64(time.Minute), 0.5, int64(3), true)
	f.Add(int64(-1), int64(math.MaxInt64), int64(0), 1.0, int64(-1), -1.0, int64(math.MinInt64), false)
	f.Fuzz(func(t *testing.T, def, limit, attempt int64, share float64, reserve int64, reserveShare float64, left int64, inherited bool) {
		c := deadline.Config{
			Default: time.Duration(def), Max: time.Duration(limit),
			AttemptTimeout: time.Duration(attempt), AttemptShare: share,
			Reserve: time.Duration(reserve), ReserveShare: reserveShare,
		}
		if c.Validate() != nil {
			return
		}
		c = c.WithDefaults()
		now := time.Now()
		for _, caller := range []time.Time{{}, now.Add(time.Duration(left))} {
			got, origin := c.Call(now, caller, inherited)
			if got.IsZero() != (origin == deadline.OriginNone) {
				t.Fatalf("%v by %v", got, origin)
			}
			if !caller.IsZero() {
				switch {
				case got.After(caller):
					t.Fatalf("%v after the caller's", got.Sub(caller))
				case !caller.After(now) && !got.Equal(caller):
					t.Fatalf("a past deadline was moved by %v", got.Sub(caller))
				case caller.After(now) && !got.After(now):
					t.Fatalf("%v were left, and nothing of it is passed on", caller.Sub(now))
				case origin == deadline.OriginReserve && got.Sub(now) < caller.Sub(now)/2:
					t.Fatalf("%v of %v passed on, less than half", got.Sub(now), caller.Sub(now))
				}
			}
			if c.Max > 0 && got.Sub(now) > c.Max {
				t.Fatalf("%v above the cap of %v", got.Sub(now), c.Max)
			}
			end, own := c.Attempt(now, got)
			switch {
			case !own && !end.Equal(got):
				t.Fatalf("attempt ends at %v, call at %v", end, got)
			case own && !got.IsZero() && !end.Before(got):
				t.Fatalf("attempt ends %v after the call", end.Sub(got))
			case own && !end.After(now):
				t.Fatalf("an attempt of %v", end.Sub(now))
			}
		}
	})
}

// hop is one service of the guide's hierarchy, with the longest time it may take.
type hop struct {
	name string
	max  time.Duration
}

var (
	viaA = []hop{{"client", 60 * time.Second}, {"gateway", 50 * time.Second}, {"service A", 40 * time.Second}, {"database", 10 * time.Second}}
	viaB = []hop{{"client", 60 * time.Second}, {"gateway", 50 * time.Second}, {"service B", 20 * time.Second}}
)

// TestHierarchy lets the last service of a chain hang. With deadlines as a budget every parent hears of it
// from its child while it still has time of its own; with a fixed timeout at every hop, and work done before
// each call, the parent has given up before.
func TestHierarchy(t *testing.T) {
	const work = 3 * time.Second // at each hop, before its own call
	for name, tt := range map[string]struct {
		chain  []hop
		caller time.Duration // 0: none but the client's default
		work   time.Duration
	}{
		"A":               {viaA, 0, 0},
		"A, working":      {viaA, 0, work},
		"B":               {viaB, 0, 0},
		"B, working":      {viaB, 0, work},
		"A, 12s":          {viaA, 12 * time.Second, work},
		"A, 100ms":        {viaA, 100 * time.Millisecond, 0},
		"A, 4ms":          {viaA, 4 * time.Millisecond, 0},
		"B, 45s, working": {viaB, 45 * time.Second, work},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if tt.caller > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.caller)
					defer cancel()
				}
				var descend func(ctx context.Context, depth int) error
				descend = func(ctx context.Context, depth int) error {
					if depth == len(tt.chain) {
						<-ctx.Done()
						return ctx.Err()
					}
					parent, hasParent := ctx.Deadline()
					h := tt.chain[depth]
					cfg := deadline.Config{Default: h.max, Max: h.max}
					child, cancel, origin := cfg.Context(ctx, time.Now(), depth > 0)
					defer cancel()
					end, ok := child.Deadline()
					switch {
					case !ok:
						t.Errorf("%s: no deadline", h.name)
					case hasParent && depth > 0 && !end.Before(parent):
						t.Errorf("%s: ends at %v, its parent at %v (%v)", h.name, end, parent, origin)
					case time.Until(end) > h.max:
						t.Errorf("%s: has %v, at most %v wanted", h.name, time.Until(end), h.max)
					}
					if depth < len(tt.chain)-1 {
						time.Sleep(tt.work)
					}
					err := descend(child, depth+1)
					if !time.Now().Equal(end) && depth == len(tt.chain)-1 {
						t.Errorf("%s: cut %v after its deadline", h.name, time.Since(end))
					}
					if hasParent && depth > 0 && ctx.Err() != nil {
						t.Errorf("%s: its parent was cut before it", h.name)
					}
					return err
				}
				if err := descend(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatal(err)
				}
			})
		})
	}
}

// TestFixedTimeoutsCascade shows what the hierarchy is for: the guide's own numbers, each counted from the
// start of its hop, leave a parent that has worked for a while without an answer.
func TestFixedTimeoutsCascade(t *testing.T) {
	const work = 45 * time.Second
	now := time.Now()
	client := now.Add(60 * time.Second)
	gateway := now.Add(work)

	if fixed := gateway.Add(50 * time.Second); !fixed.After(client) {
		t.Fatal("fixed timeouts were enough here, so the test shows nothing")
	}
	got, origin := deadline.Config{Max: 50 * time.Second}.WithDefaults().Call(gateway, client, true)
	if want := client.Add(-15 * time.Second / 20); !got.Equal(want) || origin != deadline.OriginReserve {
		t.Fatalf("got %v before the client by %v, want %v", client.Sub(got), origin, client.Sub(want))
	}
}

func TestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		caller, cancelCaller := context.WithTimeout(t.Context(), time.Second)
		defer cancelCaller()

		same, cancel, origin := deadline.Config{}.Context(caller, time.Now(), false)
		cancel()
		if same != caller || caller.Err() != nil || origin != deadline.OriginCaller {
			t.Fatalf("a deadline that stays: another context %v, error %v, origin %v", same != caller, caller.Err(), origin)
		}

		ctx, cancel, origin := deadline.Config{}.Context(caller, time.Now(), true)
		defer cancel()
		start := time.Now()
		<-ctx.Done()
		if took := time.Since(start); took != 950*time.Millisecond || origin != deadline.OriginReserve || caller.Err() != nil {
			t.Fatalf("ended after %v by %v, caller %v", took, origin, caller.Err())
		}

		none, cancel, origin := deadline.Config{Default: -1}.Context(t.Context(), time.Now(), true)
		defer cancel()
		if _, ok := none.Deadline(); ok || origin != deadline.OriginNone {
			t.Fatalf("a deadline by %v where none was wanted", origin)
		}
	})
}

func TestOriginString(t *testing.T) {
	for want, o := range map[string]deadline.Origin{
		"none": deadline.OriginNone, "caller": deadline.OriginCaller, "default": deadline.OriginDefault,
		"cap": deadline.OriginCap, "reserve": deadline.OriginReserve, "first message": deadline.OriginFirstMessage,
		"idle": deadline.OriginIdle, "send": deadline.OriginSend, "Origin(77)": 77,
	} {
		if got := o.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestCallAllocatesNothing(t *testing.T) {
	c := deadline.Config{AttemptShare: 0.5}.WithDefaults()
	now := time.Now()
	caller := now.Add(time.Second)
	if n := testing.AllocsPerRun(1000, func() {
		d, _ := c.Call(now, caller, true)
		_, _ = c.Attempt(now, d)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkCallAndAttempt(b *testing.B) {
	c := deadline.Config{AttemptShare: 0.5}.WithDefaults()
	now := time.Now()
	caller := now.Add(time.Second)
	b.ReportAllocs()
	for b.Loop() {
		d, _ := c.Call(now, caller, true)
		_, _ = c.Attempt(now, d)
	}
}
