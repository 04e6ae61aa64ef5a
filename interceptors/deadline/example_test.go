package deadline_test

import (
	"fmt"
	"time"

	"github.com/grpcsteady/steady/interceptors/deadline"
)

func ExampleConfig_Call() {
	cfg := deadline.Config{Max: 10 * time.Second}.WithDefaults()
	now := time.Now()

	end, origin := cfg.Call(now, time.Time{}, false)
	fmt.Println("no deadline of its own:", end.Sub(now), "by", origin)
	end, origin = cfg.Call(now, now.Add(time.Minute), false)
	fmt.Println("a minute:", end.Sub(now), "by", origin)
	end, origin = cfg.Call(now, now.Add(2*time.Second), true)
	fmt.Println("two seconds, in a handler:", end.Sub(now), "by", origin)
	// Output:
	// no deadline of its own: 10s by default
	// a minute: 10s by cap
	// two seconds, in a handler: 1.9s by reserve
}

func ExampleConfig_Attempt() {
	cfg := deadline.Config{AttemptShare: 0.5, AttemptTimeout: 300 * time.Millisecond}.WithDefaults()
	start := time.Now()
	call := start.Add(time.Second)
	for now, i := start, 1; i <= 3; i++ {
		end, _ := cfg.Attempt(now, call)
		fmt.Println("attempt", i, "may take", end.Sub(now))
		now = end // it took all of that
	}
	// Output:
	// attempt 1 may take 300ms
	// attempt 2 may take 300ms
	// attempt 3 may take 200ms
}

func ExampleFeasible() {
	var l deadline.Learned
	var f deadline.Feasible
	now := time.Now()
	for range 100 {
		l.Observe(now, 80*time.Millisecond)
	}
	fmt.Println("200ms left:", f.Check(now, 200*time.Millisecond, &l))
	fmt.Println("10ms left, a probe:", f.Check(now, 10*time.Millisecond, &l))
	fmt.Println("10ms left:", f.Check(now, 10*time.Millisecond, &l))
	// Output:
	// 200ms left: <nil>
	// 10ms left, a probe: <nil>
	// 10ms left: deadline: too little time left
}
