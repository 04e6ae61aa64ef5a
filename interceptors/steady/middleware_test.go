package steady_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// finished is a logger of go-grpc-middleware that counts ends by their code.
type finished struct {
	mu    sync.Mutex
	codes map[string]int
}

func (f *finished) Log(_ context.Context, _ logging.Level, msg string, fields ...any) {
	if !strings.Contains(msg, "finished call") {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.codes == nil {
		f.codes = make(map[string]int)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == "grpc.code" {
			f.codes[fmt.Sprint(fields[i+1])]++
		}
	}
}

func (f *finished) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprint(f.codes)
}

// TestAroundGoGrpcMiddleware: logging and selector stand before and after us, on both sides, for unary calls and for
// streams of every kind; outside they see one call that succeeds, inside its three attempts. On the server both see
// what arrives.
func TestAroundGoGrpcMiddleware(t *testing.T) {
	onlyEcho := selector.MatchFunc(func(_ context.Context, c interceptors.CallMeta) bool { return c.Service == "steady.echo.v1.Echo" })
	never := selector.MatchFunc(func(context.Context, interceptors.CallMeta) bool { return false })
	ends := logging.WithLogOnEvents(logging.FinishCall)
	for _, kind := range []string{"unary", "server", "client", "bidi"} {
		t.Run(kind, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				outside, inside, before, after, nobody := new(finished), new(finished), new(finished), new(finished), new(finished)
				in, err := steady.NewInbound(nil)
				if err != nil {
					t.Fatal(err)
				}
				server := func(l *finished, m selector.Matcher) []grpc.ServerOption {
					return []grpc.ServerOption{
						grpc.ChainUnaryInterceptor(selector.UnaryServerInterceptor(logging.UnaryServerInterceptor(l, ends), m)),
						grpc.ChainStreamInterceptor(selector.StreamServerInterceptor(logging.StreamServerInterceptor(l, ends), m)),
					}
				}
				client := func(l *finished, m selector.Matcher) []grpc.DialOption {
					return []grpc.DialOption{
						grpc.WithChainUnaryInterceptor(selector.UnaryClientInterceptor(logging.UnaryClientInterceptor(l, ends), m)),
						grpc.WithChainStreamInterceptor(selector.StreamClientInterceptor(logging.StreamClientInterceptor(l, ends), m)),
					}
				}
				opts := append(append(server(before, onlyEcho), in.ServerOptions()...), server(after, onlyEcho)...)
				fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(append(opts, server(nobody, never)...)...))
				fleet.Behave(steadytest.InTurn(steadytest.Failing(codes.Unavailable, 1), steadytest.Failing(codes.Unavailable, 1), steadytest.Healthy()))
				out := outbound(t, streamRule(), wide)
				dialed := out.DialOptions(append(client(outside, onlyEcho), client(nobody, never)...)...)
				c := echov1.NewEchoClient(fleet.Dial(append(dialed, client(inside, onlyEcho)...)...))
				if kind == "unary" {
					_, err = c.Get(within(t, time.Minute), &req{})
				} else {
					_, err = talk(within(t, time.Minute), c, kind)
				}
				if err != nil {
					t.Fatal(err)
				}
				const one, three = "map[OK:1]", "map[OK:1 Unavailable:2]"
				if outside.String() != one || inside.String() != three || before.String() != three || after.String() != three || nobody.String() != "map[]" {
					t.Errorf("outside %v, inside %v, the server before %v and after %v, nobody %v", outside, inside, before, after, nobody)
				}
			})
		})
	}
}
