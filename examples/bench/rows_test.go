package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/examples/bench/pairs"
)

var errDown = status.Error(codes.Unavailable, "down")

// sides calls check with both arms of every row that open finds, each in a bubble of virtual time. The stub
// that the arms end in does what hook says.
func sides(t *testing.T, rows func(*stub) []pairs.Row, check func(t *testing.T, s *stub, run pairs.Batch)) {
	t.Helper()
	names := rows(&stub{})
	if len(names) == 0 {
		t.Fatal("no rows")
	}
	for i, row := range names {
		for _, side := range []string{"ours", "peer"} {
			t.Run(row.String()+"/"+side, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := new(stub)
					ours, peer, done, err := rows(s)[i].Open()
					if err != nil {
						t.Fatal(err)
					}
					if done != nil {
						defer done()
					}
					arm := ours
					if side == "peer" {
						arm = peer
					}
					check(t, s, arm.Run)
				})
			})
		}
	}
}

// of returns the rows of the groups that a feature is switched on for.
func of(has func(group) bool) func(*stub) []pairs.Row {
	return func(s *stub) []pairs.Row {
		var rows []pairs.Row
		for _, g := range driverRows(s) {
			if has(g) {
				rows = append(rows, g.rows()...)
			}
		}
		return rows
	}
}

// TestBothSidesMakeTheCalls keeps a comparison honest: nobody wins by not doing the work.
func TestBothSidesMakeTheCalls(t *testing.T) {
	for name, rows := range map[string]func(*stub) []pairs.Row{
		"driver": of(func(group) bool { return true }), "retry": retryRows, "metrics": promRows,
	} {
		t.Run(name, func(t *testing.T) {
			sides(t, rows, func(t *testing.T, s *stub, run pairs.Batch) {
				made := 0
				s.hook = func(context.Context) error { made++; return nil }
				if err := run(100); err != nil || made != 100 {
					t.Errorf("error %v, %d calls made, want 100", err, made)
				}
			})
		})
	}
}

func TestBothSidesRetry(t *testing.T) {
	retries := of(func(g group) bool { return g.retries })
	for name, rows := range map[string]func(*stub) []pairs.Row{"driver": retries, "retry": retryRows} {
		t.Run(name, func(t *testing.T) {
			sides(t, rows, func(t *testing.T, s *stub, run pairs.Batch) {
				made := 0
				s.hook = func(context.Context) error {
					if made++; made == 1 {
						return errDown
					}
					return nil
				}
				if err := run(1); err != nil || made != 2 {
					t.Errorf("error %v after %d attempts, want none after 2", err, made)
				}
			})
		})
	}
}

func TestBothSidesSetADeadline(t *testing.T) {
	sides(t, of(func(g group) bool { return g.cuts }), func(t *testing.T, s *stub, run pairs.Batch) {
		s.hook = func(ctx context.Context) error {
			if ctx.Done() == nil {
				return errors.New("the context never ends")
			}
			return nil
		}
		if err := run(1); err != nil {
			t.Error(err)
		}
	})
}

// TestBothSidesCutAHangingCall waits, in virtual time, for what the deadline of a rule is there for.
func TestBothSidesCutAHangingCall(t *testing.T) {
	sides(t, of(func(g group) bool { return g.cuts && !g.tight }), func(t *testing.T, s *stub, run pairs.Batch) {
		s.hook = func(ctx context.Context) error {
			<-ctx.Done()
			return status.FromContextError(ctx.Err()).Err()
		}
		began := time.Now()
		if err := run(1); err == nil {
			t.Error("a hanging call succeeded")
		}
		if took := time.Since(began); took > callTime {
			t.Errorf("cut after %v, want %v at most", took, callTime)
		}
	})
}

func TestBothSidesBreak(t *testing.T) {
	sides(t, of(func(g group) bool { return g.breaks }), func(t *testing.T, s *stub, run pairs.Batch) {
		made := 0
		s.hook = func(context.Context) error { made++; return errDown }
		for range 100 {
			before := made
			if err := run(1); err == nil {
				t.Fatal("a call to a dead server succeeded")
			}
			if made == before {
				return // refused
			}
		}
		t.Error("100 calls to a dead server, and none was refused")
	})
}
