package failover_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/steadytest"
	"github.com/grpcsteady/steady/resolver/failover"
	"github.com/grpcsteady/steady/resolver/internal/resolvertest"
	"github.com/grpcsteady/steady/resolver/static"
)

// TestAPrimaryThatIsDown and listed all the same hands over to the backup by the policy, and gets its calls back.
func TestAPrimaryThatIsDown(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet, conn := dial(t, failover.Builder([]failover.Group{
			{"static:///a:1,b:1", static.Builder()},
			{"static:///c:1", static.Builder()},
		}), resolvertest.Weighted)
		spread := func(want string) {
			t.Helper()
			if got := resolvertest.Spread(t, fleet, conn, 20); got != want {
				t.Errorf("20 calls went %s, want %s", got, want)
			}
		}
		spread("a:1=10 b:1=10")
		fleet.Replica("a:1").Crash()
		fleet.Replica("b:1").Crash()
		time.Sleep(time.Second) // what was under way has failed
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := echov1.NewEchoClient(conn).Get(ctx, &echov1.EchoRequest{}, grpc.WaitForReady(true)); err != nil {
			t.Error(err)
		}
		spread("c:1=20")
		fleet.Replica("a:1").Start()
		fleet.Replica("b:1").Start()
		time.Sleep(10 * time.Minute) // reconnected, and the hold is over
		spread("a:1=10 b:1=10")
	})
}
