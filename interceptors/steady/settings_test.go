package steady_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// plainDial has nothing of the fleet's but what it takes to get there, so that gRPC's own defaults show.
func plainDial(t *testing.T, f *steadytest.Fleet, out *steady.Outbound, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	return connect(t, out.DialOptions(append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(f.Network().Dial),
		steady.Resolvers(f.Resolver()),
	}, opts...)...))
}

// TestConnectTimeout: an address that swallows everything is given up after the document's time and not after
// gRPC's 20 s, also above the dial option for the same.
func TestConnectTimeout(t *testing.T) {
	for _, tt := range []struct {
		text string
		opts []grpc.DialOption
		want time.Duration
	}{
		{"{}", nil, 20 * time.Second},
		{"channel: {connectTimeout: 5s}", nil, 5 * time.Second},
		{"channel: {connectTimeout: 5s}", []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 9 * time.Second})}, 5 * time.Second},
		{"{}", []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 9 * time.Second})}, 9 * time.Second},
	} {
		steadytest.Run(t, func(t *testing.T) {
			fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
			fleet.Replica("a").BlackHole()
			conn := plainDial(t, fleet, fromDocument(t, tt.text), tt.opts...)
			start := time.Now()
			_, err := echov1.NewEchoClient(conn).Get(within(t, time.Minute), &req{})
			if took := time.Since(start); status.Code(err) != codes.Unavailable || took != tt.want {
				t.Errorf("%s with %d options: %v after %v, want UNAVAILABLE after %v", tt.text, len(tt.opts), err, took, tt.want)
			}
		})
	}
}

// TestConnectTimeoutOfTheSecondAddress: with a balancer that connects to one address after the other, the black
// hole costs its time once.
func TestConnectTimeoutOfOneAddressOfTwo(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a", "b"))
		fleet.Replica("a").BlackHole()
		conn := plainDial(t, fleet, fromDocument(t, "channel: {connectTimeout: 5s}\nloadBalancingConfig: [{round_robin: {}}]"))
		start := time.Now()
		if _, err := echov1.NewEchoClient(conn).Get(within(t, time.Minute), &req{}); err != nil || time.Since(start) != 0 {
			t.Errorf("%v after %v, want the good address at once", err, time.Since(start))
		}
	})
}

// TestKeepalive: pings as a document has them by default are allowed by every gRPC server and find a peer that
// vanished; more frequent ones end the connection where the server was not told.
func TestKeepalive(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		hole       bool          // the peer vanishes after a minute
		want       time.Duration // when the stream ends; 0: not within two hours
		says       string
	}{
		{"off", "{}", true, 0, ""},
		{"defaults, all well", "channel: {keepalive: {}}", false, 0, ""},
		{"defaults, black hole", "channel: {keepalive: {}}", true, 6*time.Minute + 20*time.Second, "keepalive ping failed"},
		{"faster, black hole", "channel: {keepalive: {time: 2m, timeout: 5s}}", true, 2*time.Minute + 5*time.Second, "keepalive ping failed"},
		{"too fast for the server", "channel: {keepalive: {time: 1m}}", false, 4*time.Minute + time.Second, "too_many_pings"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
				conn := plainDial(t, fleet, fromDocument(t, tt.text))
				stream, err := echov1.NewEchoClient(conn).Chat(within(t, 2*time.Hour))
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				if tt.hole {
					time.AfterFunc(time.Minute, fleet.Replica("a").BlackHole)
				}
				_, err = stream.Recv()
				took := time.Since(start)
				if tt.want == 0 {
					if took != 2*time.Hour {
						t.Errorf("the stream ended after %v with %v", took, err)
					}
					return
				}
				if took != tt.want || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("the stream ended after %v with %v, want %v and %q", took, err, tt.want, tt.says)
				}
			})
		})
	}
}

// TestSettingsAreThoseOfTheBeginning: a channel keeps those it was made with, which is reported; the next one
// has the new ones.
func TestSettingsAreThoseOfTheBeginning(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		var ev events
		out := fromDocument(t, everyDoc, steady.WithObserver(&ev), steady.FollowPushed())
		conn := plainDial(t, fleet, out, steady.ChannelName("old"))
		wantInForce(t, fleet, conn, "every", 3)
		if err := out.UpdateDocument(read(t, firstDoc)); err != nil {
			t.Fatal(err)
		}
		if got := ev.ignores(); len(got) != 0 {
			t.Errorf("events %+v for a document that changes no setting", got)
		}
		if err := out.UpdateDocument(read(t, everyDoc+"channel: {connectTimeout: 5s}\n")); err != nil {
			t.Fatal(err)
		}
		if got := ev.ignores(); len(got) != 1 || got[0].Channel != "old" || got[0].Key != "channel" || got[0].Source != "conf/orders.yaml" {
			t.Errorf("events %+v, want one about the old channel", got)
		}
		p := newPusher("a")
		p.first = `{"channel":{"keepalive":{}}}`
		conn = dialWith(t, fleet, out, p, steady.ChannelName("new"))
		wantInForce(t, fleet, conn, "none", 1)
		if got := ev.ignores(); len(got) != 2 || got[1].Channel != "new" || got[1].Key != "channel" || !strings.Contains(got[1].Reason, "pushed") {
			t.Errorf("events %+v, want one about the pushed settings", got)
		}
	})
}
