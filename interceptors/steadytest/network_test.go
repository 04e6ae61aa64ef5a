package steadytest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// pair returns both ends of a connection to "a".
func pair(t *testing.T, n *steadytest.Network) (client, server net.Conn) {
	t.Helper()
	lis, err := n.Listen("a")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() })
	client, err = n.Dial(within(t, time.Second), "a")
	if err != nil {
		t.Fatal(err)
	}
	server, err = lis.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	return client, server
}

func mustRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

func mustWrite(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if n, err := c.Write([]byte(s)); n != len(s) || err != nil {
		t.Fatalf("write %q: %d, %v", s, n, err)
	}
}

func TestConnNames(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		n := steadytest.NewNetwork()
		client, server := pair(t, n)
		for give, want := range map[net.Addr]string{
			client.LocalAddr(): "client:1", client.RemoteAddr(): "a",
		} {
			if give.String() != want || give.Network() != "mem" {
				t.Errorf("address %s %s, want mem %s", give.Network(), give, want)
			}
		}
		if server.LocalAddr() != client.RemoteAddr() || server.RemoteAddr() != client.LocalAddr() {
			t.Errorf("the server sees %v from %v", server.LocalAddr(), server.RemoteAddr())
		}
		other, err := n.DialFrom("gateway")(context.Background(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if got := other.LocalAddr().String(); got != "gateway:2" {
			t.Errorf("second client is %s", got)
		}
		_ = other.Close()
	})
}

func TestConnCarriesBytesBothWays(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		client, server := pair(t, steadytest.NewNetwork())
		mustWrite(t, client, "ping")
		mustRead(t, server, "ping")
		mustWrite(t, server, "pong and more")
		mustRead(t, client, "pong")
		mustRead(t, client, " and more")

		// More than the buffer holds: the writer waits for the reader, and every byte arrives.
		big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		go func() {
			_, _ = client.Write(big)
			_ = client.Close()
		}()
		got, err := io.ReadAll(server)
		if err != nil || !bytes.Equal(got, big) {
			t.Errorf("%d bytes arrived of %d, %v", len(got), len(big), err)
		}
	})
}

func TestConnErrors(t *testing.T) {
	tests := []struct {
		name string
		do   func(n *steadytest.Network, client, server net.Conn) error
		want error
	}{
		{"read after own close", func(_ *steadytest.Network, c, _ net.Conn) error {
			_ = c.Close()
			_, err := c.Read(make([]byte, 1))
			return err
		}, net.ErrClosed},
		{"write after own close", func(_ *steadytest.Network, c, _ net.Conn) error {
			_ = c.Close()
			_, err := c.Write([]byte("x"))
			return err
		}, net.ErrClosed},
		{"close twice", func(_ *steadytest.Network, c, _ net.Conn) error {
			_ = c.Close()
			return c.Close()
		}, net.ErrClosed},
		{"deadline after close", func(_ *steadytest.Network, c, _ net.Conn) error {
			_ = c.Close()
			return c.SetDeadline(time.Now())
		}, net.ErrClosed},
		{"read after the peer's close", func(_ *steadytest.Network, c, s net.Conn) error {
			_ = s.Close()
			_, err := c.Read(make([]byte, 1))
			return err
		}, io.EOF},
		{"write after the peer's close", func(_ *steadytest.Network, c, s net.Conn) error {
			_ = s.Close()
			_, err := c.Write([]byte("x"))
			return err
		}, syscall.EPIPE},
		{"close wakes a reader", func(_ *steadytest.Network, c, _ net.Conn) error {
			time.AfterFunc(time.Second, func() { _ = c.Close() })
			_, err := c.Read(make([]byte, 1))
			return err
		}, net.ErrClosed},
		{"read cut", func(n *steadytest.Network, c, s net.Conn) error {
			_, _ = s.Write([]byte("lost"))
			n.Cut("a")
			_, err := c.Read(make([]byte, 1))
			return err
		}, syscall.ECONNRESET},
		{"cut wakes a writer", func(n *steadytest.Network, c, _ net.Conn) error {
			time.AfterFunc(time.Second, func() { n.Cut("a") })
			_, err := c.Write(make([]byte, 1<<20))
			return err
		}, syscall.ECONNRESET},
		{"cut in a black hole", func(n *steadytest.Network, c, _ net.Conn) error {
			n.BlackHole("a")
			n.Cut("a")
			_, err := c.Read(make([]byte, 1))
			return err
		}, syscall.ECONNRESET},
		{"read past deadline", func(_ *steadytest.Network, c, _ net.Conn) error {
			_ = c.SetReadDeadline(time.Now().Add(-time.Second))
			_, err := c.Read(make([]byte, 1))
			return err
		}, os.ErrDeadlineExceeded},
		{"write past deadline", func(_ *steadytest.Network, c, _ net.Conn) error {
			_ = c.SetDeadline(time.Now().Add(time.Second))
			_, err := c.Write(make([]byte, 1<<20))
			return err
		}, os.ErrDeadlineExceeded},
		{"deadline set during read", func(_ *steadytest.Network, c, _ net.Conn) error {
			time.AfterFunc(time.Second, func() { _ = c.SetReadDeadline(time.Now().Add(time.Second)) })
			_, err := c.Read(make([]byte, 1))
			return err
		}, os.ErrDeadlineExceeded},
		{"deadline taken back", func(_ *steadytest.Network, c, s net.Conn) error {
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			_ = c.SetReadDeadline(time.Time{})
			time.AfterFunc(time.Minute, func() { _ = s.Close() })
			_, err := c.Read(make([]byte, 1))
			return err
		}, io.EOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				n := steadytest.NewNetwork()
				client, server := pair(t, n)
				if err := tt.do(n, client, server); !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
			})
		})
	}
}

func TestDialErrors(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		n := steadytest.NewNetwork()
		lis, err := n.Listen("a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Listen("a"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("second listener: %v", err)
		}
		dial := func(name string) (time.Duration, error) {
			start := time.Now()
			c, err := n.Dial(within(t, 3*time.Second), name)
			if err == nil {
				_ = c.Close()
			}
			return time.Since(start), err
		}
		check := func(what, name string, want error, took time.Duration) {
			t.Helper()
			if got, err := dial(name); !errors.Is(err, want) || got != took {
				t.Errorf("%s: %v after %v, want %v after %v", what, err, got, want, took)
			}
		}
		check("listening", "a", nil, 0)
		check("unknown", "b", syscall.ECONNREFUSED, 0)
		n.Refuse("a")
		check("refused", "a", syscall.ECONNREFUSED, 0)
		n.BlackHole("a")
		check("black hole", "a", context.DeadlineExceeded, 3*time.Second)
		time.AfterFunc(time.Second, func() { n.Heal("a") })
		check("healed while dialling", "a", nil, time.Second)
		_ = lis.Close()
		check("closed", "a", syscall.ECONNREFUSED, 0)
		if err := lis.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second Close: %v", err)
		}
		if _, err := lis.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Close: %v", err)
		}
		if _, err = n.Listen("a"); err != nil {
			t.Fatalf("the name is not free again: %v", err)
		}
		n.BlackHole("a")
		time.AfterFunc(time.Second, n.Close)
		check("network closed while dialling", "a", net.ErrClosed, time.Second)
		check("network closed", "a", net.ErrClosed, 0)
		if _, err := n.Listen("c"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Listen after Close: %v", err)
		}
	})
}

func TestListenerResetsWhatNobodyAccepted(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		n := steadytest.NewNetwork()
		lis, err := n.Listen("a")
		if err != nil {
			t.Fatal(err)
		}
		c, err := n.Dial(within(t, time.Second), "a")
		if err != nil {
			t.Fatal(err)
		}
		_ = lis.Close()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
		_ = c.Close()
		if got := n.Conns("a"); got != 0 {
			t.Errorf("%d connections are left", got)
		}
	})
}

func TestBacklogIsBounded(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		n := steadytest.NewNetwork()
		if _, err := n.Listen("a"); err != nil {
			t.Fatal(err)
		}
		opened := 0
		for range 2000 {
			if _, err := n.Dial(within(t, time.Second), "a"); err != nil {
				if !errors.Is(err, syscall.ECONNREFUSED) {
					t.Fatal(err)
				}
				break
			}
			opened++
		}
		if opened != 1024 || n.Conns("a") != opened {
			t.Errorf("%d dials succeeded, %d connections are open, want 1024", opened, n.Conns("a"))
		}
		n.Close()
	})
}

func TestBlackHoleHoldsAndHealDelivers(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		n := steadytest.NewNetwork()
		client, server := pair(t, n)
		n.BlackHole("a")
		mustWrite(t, client, "request")
		mustWrite(t, server, "reply")
		_ = server.Close()

		arrived := make(chan string, 1)
		go func() {
			b, _ := io.ReadAll(client)
			arrived <- string(b)
		}()
		time.Sleep(time.Hour)
		synctest.Wait()
		select {
		case b := <-arrived:
			t.Fatalf("%q got through a black hole", b)
		default:
		}
		mustWrite(t, client, "nobody said that the other end is closed")
		n.Heal("a")
		if b := <-arrived; b != "reply" {
			t.Errorf("after healing %q arrived", b)
		}
	})
}

func TestCutLeavesNewConnectionsAlone(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		n := steadytest.NewNetwork()
		client, _ := pair(t, n)
		if got := n.Cut("a"); got != 1 {
			t.Errorf("cut %d connections, want 1", got)
		}
		if got := n.Cut("a"); got != 0 {
			t.Errorf("cut %d connections again", got)
		}
		c, err := n.Dial(within(t, time.Second), "a")
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, c, "fine")
		if _, err := client.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write on a cut connection: %v", err)
		}
		_ = c.Close()
	})
}
