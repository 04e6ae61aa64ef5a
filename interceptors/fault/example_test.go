package fault_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/grpcsteady/steady/interceptors/fault"
)

func Example() {
	inj, err := fault.New(1, []fault.Rule{{
		Name:    "orders down",
		Methods: []string{"/orders.v1.Orders/"},
		Share:   1,
		Code:    14, // UNAVAILABLE
		Message: "connection refused",
	}}, fault.WithLogger(slog.New(slog.DiscardHandler))) // leave this out: it is meant to be heard
	if err != nil {
		fmt.Println(err)
		return
	}
	call := func(method string) error {
		if f, ok := inj.Decide(method); ok {
			return f.Apply(context.Background())
		}
		return nil // the call itself
	}

	fmt.Println("off:", call("/orders.v1.Orders/Get"))
	inj.Enable()
	defer inj.Disable()
	fmt.Println("another service:", call("/users.v1.Users/Get"))
	err = call("/orders.v1.Orders/Get")
	fmt.Println("on:", err)
	fmt.Println("told apart from a real one:", errors.Is(err, fault.ErrInjected))
	// Output:
	// off: <nil>
	// another service: <nil>
	// on: INJECTED FAULT by rule "orders down": UNAVAILABLE: connection refused
	// told apart from a real one: true
}
