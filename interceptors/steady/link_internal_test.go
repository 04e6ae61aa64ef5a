package steady

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/proto/document"
)

type oneAddress struct{}

func (oneAddress) Scheme() string { return "one" }

func (oneAddress) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	_ = cc.UpdateState(resolver.State{Addresses: []resolver.Address{{Addr: "a"}}})
	return oneAddress{}, nil
}
func (oneAddress) ResolveNow(resolver.ResolveNowOptions) {}
func (oneAddress) Close()                                {}

// TestLinksOfClosedConnectionsGo, whether they are known by their mark, by their target or not at all.
func TestLinksOfClosedConnectionsGo(t *testing.T) {
	d, err := document.Read("x.yaml", []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		opts  []Option
		doc   bool
		calls bool
		most  int
	}{
		{"document", nil, true, true, 1},
		{"document, followed", []Option{FollowPushed()}, true, true, 1},
		{"rules", nil, false, true, 1},
		{"rules, followed", []Option{FollowPushed()}, false, true, 1},
		{"without a call", nil, true, false, maxLinks},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out, err := NewOutbound(nil, tt.opts...)
				if err == nil && tt.doc {
					err = out.UpdateDocument(d)
				}
				if err != nil {
					t.Fatal(err)
				}
				opts := out.DialOptions(Resolvers(oneAddress{}), grpc.WithTransportCredentials(insecure.NewCredentials()),
					grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, net.ErrClosed }))
				for range 1100 {
					conn, err := grpc.NewClient("one:///x", opts...)
					if err != nil {
						t.Fatal(err)
					}
					conn.Connect()
					if tt.calls {
						ctx, cancel := context.WithTimeout(t.Context(), time.Second)
						_ = conn.Invoke(ctx, "/a.B/C", nil, nil)
						cancel()
					}
					synctest.Wait()
					conn.Close()
				}
				out.mu.Lock()
				bindings := out.bound()
				out.mu.Unlock()
				if n := len(bindings[0].links); len(bindings) != 1 || n > tt.most {
					t.Errorf("%d bindings, %d links of the first, want 1 and at most %d", len(bindings), n, tt.most)
				}
			})
		})
	}
}
