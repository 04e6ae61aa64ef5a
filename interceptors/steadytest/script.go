package steadytest

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// A Script decides what becomes of a call at a replica, before its handler: an error is the answer, nil lets
// the handler answer. As with any handler, an error that is no status reaches the client as UNKNOWN. A Script may wait, but must return when ctx ends, and may be called by many goroutines. A
// nil Script is [Healthy].
//
// Write one's own for whatever the constructors of this package do not say:
//
//	replica.Behave(func(ctx context.Context, call steadytest.Call) error {
//		if call.Number%3 == 0 {
//			return status.Error(codes.Aborted, "every third")
//		}
//		return nil
//	})
type Script func(ctx context.Context, call Call) error

// Healthy lets every call through.
func Healthy() Script { return func(context.Context, Call) error { return nil } }

// Failing answers a share of the calls, 0 to 1, at once with the code; 1 means all. The message names the
// replica. codes.OK answers nothing: such calls reach the handler.
func Failing(code codes.Code, share float64) Script {
	return Sometimes(share, func(_ context.Context, call Call) error {
		return status.Errorf(code, "%s fails by script", call.Replica)
	})
}

// Slow lets every call wait for d before its handler runs.
func Slow(d time.Duration) Script { return SlowBetween(d, d) }

// SlowBetween lets every call wait for a random time from least to most, evenly distributed.
func SlowBetween(least, most time.Duration) Script {
	return func(ctx context.Context, call Call) error {
		d := least
		if most > least {
			d += time.Duration(call.Rand().Int64N(int64(most-least) + 1))
		}
		return sleep(ctx, d)
	}
}

// Hanging never answers a share of the calls, 0 to 1: they end with the client's patience or with the
// replica. In a bubble, call such a replica with a deadline only.
func Hanging(share float64) Script {
	return Sometimes(share, func(ctx context.Context, _ Call) error {
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	})
}

// Breaking ends a stream with the code after the server has sent n messages, and a unary call at once. The
// handler learns of it by its next Send or Recv.
func Breaking(code codes.Code, n int) Script {
	return func(_ context.Context, call Call) error {
		err := status.Errorf(code, "%s breaks off by script after %d messages", call.Replica, n)
		if !call.Stream || call.live == nil || n <= 0 {
			return err
		}
		call.live.breakAfter(n, err)
		return nil
	}
}

// Sometimes applies a script to a random share of the calls, 0 to 1, and lets the others through.
func Sometimes(share float64, s Script) Script {
	return func(ctx context.Context, call Call) error {
		if share <= 0 || share < 1 && call.Rand().Float64() >= share {
			return nil
		}
		return s.run(ctx, call)
	}
}

// All runs the scripts one after the other until one gives an answer: All(Slow(d), Failing(code, 0.5)) is
// slow and then fails half of the calls.
func All(scripts ...Script) Script {
	return func(ctx context.Context, call Call) error {
		for _, s := range scripts {
			if err := s.run(ctx, call); err != nil {
				return err
			}
		}
		return nil
	}
}

// InTurn gives the first call that reaches it to the first script, the second to the second and so on; the
// last one keeps all that follow. The turns belong to this one value: replicas that share it share them.
func InTurn(scripts ...Script) Script {
	var calls atomic.Int64
	return func(ctx context.Context, call Call) error {
		if len(scripts) == 0 {
			return nil
		}
		turn := min(int(calls.Add(1)), len(scripts))
		return scripts[turn-1].run(ctx, call)
	}
}

// Alternating changes from one script to the next after each period, round and round, from now on: with
// Alternating(time.Second, Healthy(), Failing(codes.Unavailable, 1)) every other second fails. Without
// scripts or with a period of 0 or less it lets every call through.
func Alternating(period time.Duration, scripts ...Script) Script {
	start := time.Now()
	return func(ctx context.Context, call Call) error {
		if len(scripts) == 0 || period <= 0 {
			return nil
		}
		turn := int(time.Since(start) / period)
		return scripts[turn%len(scripts)].run(ctx, call)
	}
}

// On limits a script to some methods and lets the others through: "/svc/Method", or "/svc/" for all methods
// of a service, as in rules.
func (s Script) On(methods ...string) Script {
	return func(ctx context.Context, call Call) error {
		for _, m := range methods {
			if m == call.Method || strings.HasSuffix(m, "/") && strings.HasPrefix(call.Method, m) {
				return s.run(ctx, call)
			}
		}
		return nil
	}
}

// WithTrailer adds trailer metadata to the answers the script gives: key, value, key, value. It panics on an
// odd number, as metadata.Pairs does.
func (s Script) WithTrailer(pairs ...string) Script {
	md := metadata.Pairs(pairs...)
	return func(ctx context.Context, call Call) error {
		err := s.run(ctx, call)
		if err == nil {
			return nil
		}
		if e := grpc.SetTrailer(ctx, md); e != nil {
			return status.Errorf(codes.Internal, "steadytest: trailer: %v", e)
		}
		return err
	}
}

// WithPushback makes the script's answers say when a retry is welcome, by gRPC's trailer
// grpc-retry-pushback-ms: after d, rounded up to milliseconds, or not at all if d is negative.
func (s Script) WithPushback(d time.Duration) Script {
	ms := (d + time.Millisecond - 1) / time.Millisecond
	if d < 0 {
		ms = -1
	}
	return s.WithTrailer("grpc-retry-pushback-ms", strconv.FormatInt(int64(ms), 10))
}

// WithDetails adds details to the status of the answers the script gives.
func (s Script) WithDetails(details ...protoadapt.MessageV1) Script {
	return func(ctx context.Context, call Call) error {
		err := s.run(ctx, call)
		if err == nil {
			return nil
		}
		st, e := status.Convert(err).WithDetails(details...)
		if e != nil {
			return status.Errorf(codes.Internal, "steadytest: details: %v", e)
		}
		return st.Err()
	}
}

// WithRetryInfo adds google.rpc.RetryInfo with a delay of d to the script's answers.
func (s Script) WithRetryInfo(d time.Duration) Script {
	return s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(d)})
}

// run applies the script, a nil one too.
func (s Script) run(ctx context.Context, call Call) error {
	if s == nil {
		return nil
	}
	return s(ctx, call)
}

// sleep waits for d or for the end of ctx, which it returns as a status.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}
