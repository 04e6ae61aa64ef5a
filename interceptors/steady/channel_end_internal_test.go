package steady

import (
	"runtime"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// TestAClosedConnectionLeavesNothingBehind, however often options are used again.
func TestAClosedConnectionLeavesNothingBehind(t *testing.T) {
	o, err := NewOutbound(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := o.bind(nil)
	var oldest, before, open *grpc.ClientConn
	for range 20 {
		before = open
		if open, err = grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
			t.Fatal(err)
		}
		if ch := b.channel(open); ch.cc != open || b.channel(open) != ch {
			t.Fatal("a connection without a channel of its own")
		}
		if oldest == nil {
			oldest = open
		}
		if before != nil { // two are open at a time
			if err := before.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.mu.Lock()
	others := len(b.others)
	b.mu.Unlock()
	if others > 2 || b.first.Load().cc == oldest {
		t.Errorf("%d channels of 20 connections are kept, the oldest: %v", others, b.first.Load().cc == oldest)
	}
	if err := open.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(o.Snapshot().Channels); n != 0 {
		t.Errorf("%d channels in the snapshot, all connections are closed", n)
	}
	runtime.KeepAlive(b)
}
