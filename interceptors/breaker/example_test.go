package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/grpcsteady/steady/interceptors/breaker"
)

func Example() {
	b, err := breaker.New(breaker.Config{ConsecutiveFailures: 3, OpenTime: time.Minute})
	if err != nil {
		fmt.Println(err)
		return
	}
	call := func() error { return errors.New("connection refused") }
	for range 5 {
		token, err := b.Allow()
		if err != nil {
			fmt.Println(err, "- answered from the cache")
			continue
		}
		err = call()
		token.Done(err)
		fmt.Println(err)
	}
	// Output:
	// connection refused
	// connection refused
	// connection refused
	// breaker: open - answered from the cache
	// breaker: open - answered from the cache
}

func ExampleBreaker_Admit() {
	b, _ := breaker.New(breaker.Config{})
	call := func(context.Context) error { return nil }

	ctx := context.Background()
	done, err := b.Admit(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	err = call(ctx)
	done(err)
	fmt.Println(b.State(), b.Snapshot().Calls)
	// Output: closed 1
}

func ExampleToken_End() {
	b, _ := breaker.New(breaker.Config{})
	for range 100 {
		token, err := b.Allow()
		if err != nil {
			fmt.Println(err)
			return
		}
		// One of five hosts has crashed, and takes the calls it had with it.
		token.End(time.Now(), breaker.Outcome{Result: breaker.Failure, Source: "10.0.0.7:50051", Sources: 5})
	}
	fmt.Println(b.State())
	// Output: closed
}

func ExampleOnChange() {
	b, _ := breaker.New(breaker.Config{OpenJitter: -1}, breaker.OnChange(func(c breaker.Change) {
		fmt.Println(c.From, "->", c.To, "for", c.OpenFor, "because of", c.Reason)
	}))
	for range 5 {
		token, _ := b.Allow()
		token.Done(errors.New("down"))
	}
	// Output: closed -> open for 5s because of consecutive failures
}
