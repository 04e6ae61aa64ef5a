package fault_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcsteady/steady/interceptors/fault"
)

func TestApply(t *testing.T) {
	const s = time.Second
	tests := map[string]struct {
		give     fault.Fault
		timeout  time.Duration // of the context; 0: none
		cancelAt time.Duration // 0: never
		took     time.Duration
		want     error // besides *fault.Error
		code     uint32
	}{
		"nothing":                     {give: fault.Fault{}},
		"delay":                       {give: fault.Fault{Delay: s}, took: s},
		"code":                        {give: fault.Fault{Code: 14}, code: 14},
		"delay, then code":            {give: fault.Fault{Delay: s, Code: 13}, took: s, code: 13},
		"deadline in delay":           {give: fault.Fault{Delay: 2 * s, Code: 13}, timeout: s, took: s, want: context.DeadlineExceeded},
		"deadline with end of delay":  {give: fault.Fault{Delay: s, Code: 13}, timeout: s, took: s, want: context.DeadlineExceeded},
		"deadline just after delay":   {give: fault.Fault{Delay: s, Code: 13}, timeout: s + 1, took: s, code: 13},
		"cancelled in delay":          {give: fault.Fault{Delay: 2 * s}, cancelAt: s, took: s, want: context.Canceled},
		"drop until deadline":         {give: fault.Fault{Drop: true}, timeout: 3 * s, took: 3 * s, want: context.DeadlineExceeded},
		"drop until cancelled":        {give: fault.Fault{Drop: true}, timeout: 3 * s, cancelAt: s, took: s, want: context.Canceled},
		"over before: delay and code": {give: fault.Fault{Delay: s, Code: 13}, timeout: -1, want: context.DeadlineExceeded},
		"over before: code":           {give: fault.Fault{Code: 13}, timeout: -1, want: context.DeadlineExceeded},
		"over before: drop":           {give: fault.Fault{Drop: true}, timeout: -1, want: context.DeadlineExceeded},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for range 20 { // what select chooses by chance must not matter
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if tt.timeout != 0 {
						var stop context.CancelFunc
						ctx, stop = context.WithTimeout(ctx, tt.timeout)
						defer stop()
					}
					if tt.cancelAt > 0 {
						defer time.AfterFunc(tt.cancelAt, cancel).Stop()
					}
					start := time.Now()
					err := tt.give.Apply(ctx)
					if took := time.Since(start); took != tt.took {
						t.Errorf("took %v, want %v", took, tt.took)
					}
					if tt.code == 0 {
						if !errors.Is(err, tt.want) || errors.Is(err, fault.ErrInjected) {
							t.Errorf("got %v, want %v", err, tt.want)
						}
						return
					}
					var injected *fault.Error
					if !errors.As(err, &injected) || injected.Code != tt.code || !errors.Is(err, fault.ErrInjected) {
						t.Errorf("got %v, want an injected code %d", err, tt.code)
					}
				})
			}
		})
	}
}

func TestErrorIsLoud(t *testing.T) {
	tests := map[string]*fault.Error{
		`INJECTED FAULT by rule "sick": UNAVAILABLE: down`: {Rule: "sick", Code: 14, Message: "down"},
		`INJECTED FAULT by rule "sick": CANCELLED`:         {Rule: "sick", Code: 1},
		`INJECTED FAULT by rule "x": code 99: y`:           {Rule: "x", Code: 99, Message: "y"},
	}
	for want, err := range tests {
		if got := err.Error(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	f := fault.Fault{Rule: "sick", Code: 5, Message: "no such thing"}
	if got := f.Apply(t.Context()).Error(); !strings.Contains(got, `"sick": NOT_FOUND: no such thing`) {
		t.Errorf("got %s", got)
	}
}
