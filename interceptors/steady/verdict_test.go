package steady_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/steady"
)

// TestVerdictOfEveryCode: what each of gRPC's codes says of the server's health, when nothing else is known.
func TestVerdictOfEveryCode(t *testing.T) {
	const (
		success = steady.VerdictSuccess
		failure = steady.VerdictFailure
		suspect = steady.VerdictSuspect
		nothing = steady.VerdictNothing
	)
	info, err := status.New(codes.ResourceExhausted, "slow down").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		name    string
		err     error
		trailer metadata.MD
		want    steady.Verdict
	}
	rows := []row{
		{"RESOURCE_EXHAUSTED with pushback", status.Error(codes.ResourceExhausted, "x"), pushback(10), failure},
		{"RESOURCE_EXHAUSTED with RetryInfo", info.Err(), nil, failure},
		{"a bare end of a context", context.DeadlineExceeded, nil, nothing},
		{"a bare cancel", context.Canceled, nil, nothing},
		{"a wrapped status", fmt.Errorf("below: %w", unavailable("x")), nil, failure},
		{"a code nobody knows", status.Error(99, "x"), nil, success},
		{"a message over the limit", status.Error(codes.ResourceExhausted, "grpc: received message larger than max (5 vs. 4)"), pushback(10), nothing},
	}
	for code, want := range map[codes.Code]steady.Verdict{
		codes.OK: success, codes.Canceled: nothing, codes.Unknown: suspect, codes.InvalidArgument: success,
		codes.DeadlineExceeded: nothing, // it was not given time enough
		codes.NotFound:         success, codes.AlreadyExists: success, codes.PermissionDenied: success,
		codes.ResourceExhausted:  nothing, // it may be the quota of one tenant
		codes.FailedPrecondition: success, codes.Aborted: success, codes.OutOfRange: success, codes.Unimplemented: success,
		codes.Internal: failure, codes.Unavailable: failure, codes.DataLoss: failure, codes.Unauthenticated: success,
	} {
		rows = append(rows, row{code.String(), status.Error(code, "x"), nil, want})
	}
	if len(rows) != 7+17 {
		t.Fatalf("%d rows, want one for each code", len(rows))
	}
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			rec := new(recorder)
			c := newClient(t, always(answer{err: tt.err, from: "a", trailer: tt.trailer}), breakerRule(countOnly), steady.WithObserver(rec))
			_, _ = c.call(t.Context(), get)
			got := of[steady.AttemptEnded](rec)
			if len(got) != 1 || got[0].Verdict != tt.want {
				t.Errorf("%v, want one attempt that is a %v", got, tt.want)
			}
		})
	}
}

// TestTheCallersFaultEndsARun: a NOT_FOUND is not only no failure, it is a server that works.
func TestTheCallersFaultEndsARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fifth := status.Error(codes.NotFound, "x")
		c := newClient(t, newStub(func(n int) answer {
			if n == 5 {
				return answer{err: fifth, from: "a"}
			}
			return answer{err: unavailable("x"), from: "a"}
		}), breakerRule(countOnly))
		for range 9 { // four, the NOT_FOUND, four
			_, _ = c.call(t.Context(), get)
		}
		if got := state(t, c.out); got != breaker.Closed {
			t.Errorf("breaker %v, want closed: never five in a row", got)
		}
	})
}

// TestClassifierHasTheFirstWord, also against the rule's own codes, and for streams it has no reply to read.
func TestClassifierHasTheFirstWord(t *testing.T) {
	rec := new(recorder)
	rules := breakerRule(countOnly)
	rules[0].FailOn = []codes.Code{codes.NotFound}
	c := newClient(t, newStub(func(n int) answer {
		return answer{err: status.Error(codes.NotFound, []string{"", "default", "nothing"}[n]), from: "a"}
	}), rules, steady.WithObserver(rec), steady.WithClassifier(func(_ string, reply any, err error) steady.Verdict {
		if reply != nil {
			t.Errorf("an attempt that failed shows the reply %v", reply)
		}
		if status.Convert(err).Message() == "nothing" {
			return steady.VerdictNothing
		}
		return steady.VerdictDefault
	}))
	for range 2 {
		_, err := c.call(t.Context(), get)
		wantCode(t, err, codes.NotFound)
	}
	got := of[steady.AttemptEnded](rec)
	if len(got) != 2 || got[0].Verdict != steady.VerdictFailure || got[1].Verdict != steady.VerdictNothing {
		t.Errorf("%+v, %+v", got[0], got[1])
	}
}
