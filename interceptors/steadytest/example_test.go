package steadytest_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// A replica sends its callers away for two seconds and says so, as an overloaded server does.
func ExampleFleet() {
	t := newT() // in a test: the test's t
	defer t.end()
	fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
	fleet.Behave(steadytest.InTurn(
		steadytest.Failing(codes.ResourceExhausted, 1).WithPushback(2*time.Second),
		steadytest.Healthy(),
	))
	get := steadytest.Get(fleet.Dial())
	for i := range 2 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		fmt.Println(get(ctx, i))
		cancel()
	}
	for _, call := range fleet.Calls() {
		fmt.Println(call.Replica, call.Number, call.Method, call.Code)
	}
	// Output:
	// rpc error: code = ResourceExhausted desc = a fails by script
	// <nil>
	// a 1 /steady.echo.v1.Echo/Get ResourceExhausted
	// a 2 /steady.echo.v1.Echo/Get OK
}

// TestOutage is the example of docs/testing.md: plain round_robin meets a replica that fails for ten of
// thirty seconds.
func TestOutage(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a", "b", "c"))
		conn := ready(t, fleet)
		b := fleet.Replica("b")
		time.AfterFunc(9999*time.Millisecond, func() { b.Behave(steadytest.Failing(codes.Unavailable, 1)) })
		time.AfterFunc(19999*time.Millisecond, func() { b.Behave(steadytest.Healthy()) })

		result := steadytest.Load{Rate: 30, For: 30 * time.Second, Call: steadytest.Get(conn)}.Run(t.Context())
		for from, want := range map[time.Duration]int{0: 0, 10 * time.Second: 100, 20 * time.Second: 0} {
			part := result.Between(from, from+10*time.Second)
			if part.Calls != 300 || part.Errors[codes.Unavailable] != want || part.OK != 300-want {
				t.Errorf("from %v: %v, want %d errors", from, part, want)
			}
		}
	})
}

func ExampleNetwork() {
	n := steadytest.NewNetwork()
	defer n.Close()
	lis, _ := n.Listen("db:5432")
	conn, _ := n.Dial(context.Background(), "db:5432")
	server, _ := lis.Accept()
	fmt.Println(server.RemoteAddr(), "->", conn.RemoteAddr())

	n.Cut("db:5432")
	_, err := conn.Read(make([]byte, 1))
	fmt.Println(err)
	_ = lis.Close()
	_, err = n.Dial(context.Background(), "db:5432")
	fmt.Println(err)
	// Output:
	// client:1 -> db:5432
	// read mem client:1->db:5432: read: connection reset by peer
	// dial mem db:5432: connect: connection refused
}

// exampleT stands for the t of a test, which examples do not get.
type exampleT struct {
	testing.TB
	cleanups []func()
}

func newT() *exampleT { return &exampleT{} }

func (t *exampleT) Helper()                   {}
func (t *exampleT) Cleanup(f func())          { t.cleanups = append(t.cleanups, f) }
func (t *exampleT) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (t *exampleT) Errorf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

func (t *exampleT) end() {
	for _, f := range slices.Backward(t.cleanups) {
		f()
	}
}
