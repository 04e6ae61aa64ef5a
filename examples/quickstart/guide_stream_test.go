package main

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/grpcsteady/steady/interceptors/steadytest"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// The read timeout is for the first message of a stream, and for each one after it.
func TestGuideStreamRead(t *testing.T) {
	const pause = 29 * time.Second
	tests := []struct {
		name     string
		messages int
		silent   bool // the server says nothing at all
		want     time.Duration
	}{
		{"silent from the start", 0, true, guideRead},
		{"silent after the first message", 1, false, guideRead},
		{"slow, but never silent for too long", 3, false, 2*pause + guideRead},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				c := newGuideChannel(t, "a")
				if test.silent {
					c.fleet.Behave(steadytest.Hanging(1))
				}
				start := time.Now()
				s, err := c.client.Chat(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				got := 0
				for i := range max(test.messages, 1) { // the server answers each
					time.AfterFunc(time.Duration(i)*pause, func() {
						if err := s.Send(&echov1.EchoRequest{}); err != nil {
							t.Error(err)
						}
					})
				}
				for {
					if _, err = s.Recv(); err != nil {
						break
					}
					got++
				}
				if took := time.Since(start); took != test.want || got != test.messages || status.Code(err) != codes.DeadlineExceeded {
					t.Errorf("%d messages and %v after %v, want %d and DEADLINE_EXCEEDED after %v", got, err, took, test.messages, test.want)
				}
			})
		})
	}
}

// The write timeout is for a message that the server does not take.
func TestGuideStreamWrite(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		c := newGuideChannel(t, "a")
		c.fleet.Behave(steadytest.Hanging(1))
		start := time.Now()
		s, err := c.client.Collect(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			err = s.Send(&echov1.EchoRequest{Payload: make([]byte, 32<<10)})
		}
		if took := time.Since(start); took != guideWrite || !errors.Is(err, io.EOF) {
			t.Errorf("Send ended with %v after %v, want EOF after %v", err, took, guideWrite)
		}
		if _, err = s.CloseAndRecv(); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("got %v, want DEADLINE_EXCEEDED", err)
		}
	})
}
