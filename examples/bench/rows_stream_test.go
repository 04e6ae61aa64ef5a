package main

import (
	"context"
	"strings"
	"testing"

	"github.com/grpcsteady/steady/examples/bench/pairs"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// streamsOf are the rows of streams whose name contains part.
func streamsOf(part string) func(*stub) []pairs.Row {
	return func(s *stub) []pairs.Row {
		var rows []pairs.Row
		for _, row := range streamRows(s) {
			if strings.Contains(row.Name, part) {
				rows = append(rows, row)
			}
		}
		return rows
	}
}

// Nobody wins by not opening a stream, or by not passing a message on. answered opens a stream with one message
// each way.
func TestBothSidesMoveTheMessages(t *testing.T) {
	type count struct{ opened, sent, received int }
	const n = 2 * streamLength
	for part, want := range map[string]count{
		"open":            {opened: n},
		"received":        {opened: 1, sent: 1, received: n + 1},
		"sent, committed": {opened: 2, sent: n + 2, received: 2},
		"kept":            {opened: n / messages, sent: n, received: n / messages},
	} {
		t.Run(part, func(t *testing.T) {
			sides(t, streamsOf(part), func(t *testing.T, s *stub, run pairs.Batch) {
				var got count
				s.hook = func(context.Context) error { got.opened++; return nil }
				s.send = func(*stubStream) { got.sent++ }
				s.receive = func(*stubStream) error { got.received++; return nil }
				if err := run(n); err != nil || got != want {
					t.Errorf("error %v, %+v, want %+v", err, got, want)
				}
			})
		})
	}
}

func TestBothSidesOpenAgain(t *testing.T) {
	sides(t, streamRows, func(t *testing.T, s *stub, run pairs.Batch) {
		opened := 0
		s.hook = func(context.Context) error {
			if opened++; opened == 1 {
				return errDown
			}
			return nil
		}
		if err := run(1); err != nil || opened != 2 {
			t.Errorf("error %v after opening %d times, want none after 2", err, opened)
		}
	})
}

// A stream that fails before its first message is opened again, and gets what was sent; ours sends it beside the
// application, which receives meanwhile.
func TestBothSidesReplay(t *testing.T) {
	sides(t, streamsOf("kept"), func(t *testing.T, s *stub, run pairs.Batch) {
		opened, sent := 0, make(chan struct{}, 3*messages)
		s.hook = func(context.Context) error { opened++; return nil }
		s.send = func(*stubStream) { sent <- struct{}{} }
		s.receive = func(*stubStream) error {
			for range messages {
				<-sent
			}
			if opened == 1 {
				return errDown
			}
			return nil
		}
		if err := run(messages); err != nil || opened != 2 || len(sent) != 0 {
			t.Errorf("error %v after %d attempts and %d messages too many, want none after 2", err, opened, len(sent))
		}
	})
}

// The same, for the rows that end in a server.
func TestBothSidesUploadAgain(t *testing.T) {
	server, ours, peer, done, err := openReplay()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	for name, client := range map[string]echov1.EchoClient{"ours": ours, "peer": peer} {
		server.failing.Store(1)
		if err := collects(client)(1); err != nil || server.failing.Load() != -1 {
			t.Errorf("%s: error %v, %d attempts left, want one failed and one that got all messages", name, err, server.failing.Load())
		}
	}
}

// What is said of memory is about what was sent: it is held until the stream is committed, and then it is not.
func TestBothSidesHoldWhatTheySent(t *testing.T) {
	held := map[string]pairs.Result{}
	for _, row := range replayRows() {
		if row.Keeps == 0 {
			continue
		}
		r, err := pairs.Measure(t.Context(), row, tiny)
		if err != nil {
			t.Fatal(err)
		}
		held[row.Name] = r
	}
	of := func(name string) (ours, peer float64) {
		r, ok := held["memory of an open stream, "+name]
		if !ok {
			t.Fatalf("no row of memory with %s", name)
		}
		return pairs.Middle(r.Ours).Held, pairs.Middle(r.Peer).Held
	}
	ours1, peer1 := of("1 message kept")
	ours100, peer100 := of("100 messages kept")
	oursAfter, peerAfter := of("100 sent and committed")
	const sent = messages * messageSize
	for _, c := range []struct {
		side            string
		one, all, after float64
	}{{"ours", ours1, ours100, oursAfter}, {"peer", peer1, peer100, peerAfter}} {
		if c.one <= 0 || c.all < c.one+sent || c.after > c.all-sent {
			t.Errorf("%s holds %.0f B with one message kept, %.0f with %d, %.0f when committed; want at least %d more, and to have it back",
				c.side, c.one, c.all, messages, c.after, sent)
		}
	}
}
