package steadytest_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/grpcsteady/steady/interceptors/steadytest"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

func TestMain(m *testing.M) { steadytest.Main(m) }

// within gives calls the deadline that all calls in a bubble need.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// get makes one call and says who answered.
func get(t *testing.T, conn *grpc.ClientConn, opts ...grpc.CallOption) (server string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	reply, err := echov1.NewEchoClient(conn).Get(ctx, &echov1.EchoRequest{Text: "hi"}, opts...)
	return reply.GetServer(), err
}
