package steady

import (
	"testing"

	"google.golang.org/grpc/mem"
)

// TestKeptMemoryIsBounded: by stream in bytes and messages, and by channel; what was kept is given back when the
// stream is committed.
func TestKeptMemoryIsBounded(t *testing.T) {
	ch := new(channel)
	open := func() *stream {
		s := &stream{call: call{ch: ch}, keeps: true, turn: make(chan struct{}, 1), drive: make(chan struct{}, 1)}
		s.leg.Store(&leg{s: s, broken: true})
		s.turn <- struct{}{}
		return s
	}
	of := func(n int) *message {
		m := new(message)
		if n > 0 {
			m.data = mem.BufferSlice{mem.SliceBuffer(make([]byte, n))}
		}
		return m
	}
	s := open()
	for i, tt := range []struct {
		size int
		want bool
	}{{maxReplayBytes - 1, true}, {2, false}, {1, true}, {1, false}, {0, true}} {
		if got := s.keep(of(tt.size)); got != tt.want {
			t.Errorf("message %d: kept %v, want %v", i, got, tt.want)
		}
	}
	if got := ch.replay.Load(); got != maxReplayBytes {
		t.Errorf("%d bytes are counted, want %d", got, maxReplayBytes)
	}
	count := open()
	for i := range maxReplayMessages + 1 {
		if got := count.keep(of(0)); got != (i < maxReplayMessages) {
			t.Fatalf("message %d: kept %v", i+1, got)
		}
	}
	others := []*stream{s, count}
	for range maxChannelReplay/maxReplayBytes - 1 {
		o := open()
		others = append(others, o)
		if !o.keep(of(maxReplayBytes)) {
			t.Fatal("refused below the limit of the channel")
		}
	}
	last := open()
	if last.keep(of(1)) {
		t.Error("kept above the limit of the channel")
	}
	for _, o := range append(others, last) {
		o.commit(o.leg.Load()) // its turn is taken
		o.yield()
		if o.live.Load() == nil || len(o.kept.messages) > 0 {
			t.Fatal("committed, and still kept")
		}
	}
	if got := ch.replay.Load(); got != 0 {
		t.Errorf("%d bytes are still counted", got)
	}
}
