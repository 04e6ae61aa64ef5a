package steady

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/interceptors/fault"
)

// injectFault lets the injector strike, and returns the error that it stands for; nil if it did not strike
// or only delayed.
func injectFault(ctx context.Context, i *fault.Injector, about About, number int, server bool, o observers) error {
	f, ok := i.Decide(about.Method)
	if !ok {
		return nil
	}
	if o.on() {
		o.tell(&FaultInjected{
			About: about, Number: number, Fault: f.Rule, Delay: f.Delay, Code: codes.Code(f.Code), Drop: f.Drop, Server: server,
		})
	}
	err := f.Apply(ctx)
	var injected *fault.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &injected):
		return status.Error(codes.Code(injected.Code), injected.Error())
	default:
		return status.FromContextError(err).Err()
	}
}
