package steadytest_test

import (
	"context"
	"io"
	"testing"

	"github.com/grpcsteady/steady/interceptors/steadytest"
)

func BenchmarkConn(b *testing.B) {
	n := steadytest.NewNetwork()
	lis, err := n.Listen("a")
	if err != nil {
		b.Fatal(err)
	}
	client, err := n.Dial(context.Background(), "a")
	if err != nil {
		b.Fatal(err)
	}
	server, err := lis.Accept()
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(server, server)
	}()
	msg := make([]byte, 1024)
	b.SetBytes(2 * int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Write(msg); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(client, msg); err != nil {
			b.Fatal(err)
		}
	}
	n.Close()
	_ = client.Close()
	_ = server.Close()
	<-done
}

func BenchmarkCall(b *testing.B) {
	fleet := steadytest.NewFleet(b, steadytest.Replicas("a"))
	call := steadytest.Get(fleet.Dial())
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := call(context.Background(), i); err != nil {
			b.Fatal(err)
		}
	}
}
