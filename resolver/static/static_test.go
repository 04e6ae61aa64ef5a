package static_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/resolver/static"
)

func TestMain(m *testing.M) { steadytest.Main(m) }

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		give string
		want string // addresses, or a part of the error
		ok   bool
	}{
		{"10.0.0.1:50051", "[10.0.0.1:50051]", true},
		{"a:1,b:2,[::1]:3", "[a:1 b:2 [::1]:3]", true},
		{"", "no endpoint", false},
		{"a", `endpoint 1: "a"`, false},
		{":1", `endpoint 1: ":1"`, false},
		{"a:1,,b:2", `endpoint 2: ""`, false},
		{"a:1,b:0", `port "0"`, false},
		{"a:1,b:65536", `port "65536"`, false},
		{"a:1,b:http", `port "http"`, false},
		{"a:1,b:2,a:1", "endpoint 3", false},
		{"a b:1", "endpoint 1", false},
		{"a/b:1", "endpoint 1", false},
		{"::1:50051", "endpoint 1", false},
		{strings.Repeat("a:1,", 10_001), "at most", false},
	} {
		got, err := static.Parse(tt.give)
		if tt.ok != (err == nil) {
			t.Errorf("%.30q: %v", tt.give, err)
			continue
		}
		if text := fmt.Sprint(got, err); !strings.Contains(text, tt.want) {
			t.Errorf("%.30q: %s, want %s", tt.give, text, tt.want)
		}
	}
}

func dial(t *testing.T, target string, dialer func(context.Context, string) (net.Conn, error)) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithResolvers(static.Builder()), grpc.WithContextDialer(dialer),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestAllEndpointsAreCalled(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a:1", "b:2", "c:3"))
		conn := dial(t, "static:///a:1,b:2,c:3", fleet.Network().Dial)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := echov1.NewEchoClient(conn).Get(ctx, &echov1.EchoRequest{}, grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // all three are connected
		fleet.Forget()
		for range 30 {
			if _, err := echov1.NewEchoClient(conn).Get(ctx, &echov1.EchoRequest{}); err != nil {
				t.Fatal(err)
			}
		}
		for name, n := range fleet.Count() {
			if n != 10 {
				t.Errorf("%s got %d calls, want 10", name, n)
			}
		}
	})
}

// TestABadTargetIsToldToTheCaller, with the part that is wrong.
func TestABadTargetIsToldToTheCaller(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		conn := dial(t, "static:///a:1,b", steadytest.NewNetwork().Dial)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := echov1.NewEchoClient(conn).Get(ctx, &echov1.EchoRequest{})
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), `endpoint 2: "b"`) {
			t.Errorf("%v", err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "a:1", "a:1,b:2", "[::1]:1", ",", "a:99999", "\x00:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		addrs, err := static.Parse(s)
		if err != nil {
			return
		}
		again, err := static.Parse(strings.Join(addrs, ","))
		if err != nil || !slices.Equal(again, addrs) {
			t.Errorf("%q: %v, read again: %v, %v", s, addrs, again, err)
		}
	})
}

func ExampleParse() {
	addrs, err := static.Parse("10.0.0.1:50051,10.0.0.2:50051")
	fmt.Println(addrs, err)
	_, err = static.Parse("10.0.0.1:50051,10.0.0.2")
	fmt.Println(err)
	// Output:
	// [10.0.0.1:50051 10.0.0.2:50051] <nil>
	// static: endpoint 2: "10.0.0.2", want host:port
}
