package steady_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	grpcmw "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/test/bufconn"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/steady"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// lines is a logger of go-grpc-middleware that keeps what it is given.
type lines struct {
	mu   sync.Mutex
	text []string
}

func (l *lines) Log(_ context.Context, _ logging.Level, msg string, _ ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, msg)
}

func (l *lines) count(substr string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, s := range l.text {
		if strings.Contains(s, substr) {
			n++
		}
	}
	return n
}

// TestWithGoGrpcMiddleware: what stands outside sees calls, what stands inside sees attempts.
func TestWithGoGrpcMiddleware(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"))
		fleet.Behave(steadytest.InTurn(steadytest.Failing(codes.Unavailable, 1), steadytest.Failing(codes.Unavailable, 1), steadytest.Healthy()))
		out := outbound(t, retryRule("/steady.echo.v1.Echo/"), wide)
		outside, inside := new(lines), new(lines)
		log := func(l *lines) grpc.UnaryClientInterceptor {
			return logging.UnaryClientInterceptor(l, logging.WithLogOnEvents(logging.FinishCall))
		}
		onlyGet := selector.MatchFunc(func(_ context.Context, c interceptors.CallMeta) bool { return c.Method == "Get" })
		opts := out.DialOptions(grpc.WithChainUnaryInterceptor(log(outside)))
		opts = append(opts, grpc.WithChainUnaryInterceptor(selector.UnaryClientInterceptor(log(inside), onlyGet)))
		client := echov1.NewEchoClient(fleet.Dial(opts...))
		if _, err := client.Get(within(t, 5*time.Second), &req{}); err != nil {
			t.Fatal(err)
		}
		if o, i := outside.count("finished call"), inside.count("finished call"); o != 1 || i != 3 {
			t.Errorf("outside saw %d ends, inside %d; want 1 call of 3 attempts", o, i)
		}
	})
}

// TestInterceptorsInAChainOfOnesOwn uses the pair of one channel without DialOptions.
func TestInterceptorsInAChainOfOnesOwn(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t, steadytest.Replicas("a"), steadytest.ServerOptions(
			grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
				return h(srv, grpcmw.WrapServerStream(ss))
			})))
		unary, stream := outbound(t, retryRule("/steady.echo.v1.Echo/"), wide).Interceptors()
		client := echov1.NewEchoClient(fleet.Dial(grpc.WithChainUnaryInterceptor(unary), grpc.WithChainStreamInterceptor(stream), grpc.WithDisableRetry()))
		fleet.Behave(steadytest.InTurn(steadytest.Failing(codes.Unavailable, 1), steadytest.Healthy()))
		if _, err := client.Get(within(t, 5*time.Second), &req{}, grpc.UseCompressor(gzip.Name)); err != nil {
			t.Fatal(err)
		}
		fleet.Behave(nil)
		s, err := client.List(within(t, 5*time.Second), &req{Count: 5})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := drain(s); n != 5 || err != nil {
			t.Errorf("%d messages, %v", n, err)
		}
	})
}

// TestOverBufconnAndTLS: real time, gRPC's own pipe, transport security and compression.
func TestOverBufconnAndTLS(t *testing.T) {
	cert, pool := selfSigned(t)
	lis := bufconn.Listen(1 << 20)
	in, err := steady.NewInbound(nil)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := 0
	srv := grpc.NewServer(append(in.ServerOptions(), grpc.Creds(credentials.NewServerTLSFromCert(&cert)))...)
	echov1.RegisterEchoServer(srv, echo{f: func(context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		if seen++; seen%2 == 1 {
			return unavailable("every other")
		}
		return nil
	}})
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	out := outbound(t, []steady.Rule{{
		Methods: []string{"/steady.echo.v1.Echo/"}, RetryOn: []codes.Code{codes.Unavailable},
		Retry: retryRule("")[0].Retry, Breaker: &breaker.Config{}, Deadline: &deadline.Config{Default: 10 * time.Second},
	}}, wide)
	conn, err := grpc.NewClient("passthrough:///bufconn", out.DialOptions(
		grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(pool, "steady.test")),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)),
	)...)
	if err != nil {
		t.Fatal(err)
	}
	client := echov1.NewEchoClient(conn)
	for i := range 10 {
		if _, err := client.Get(within(t, 20*time.Second), &req{Text: strings.Repeat("x", 1000)}); err != nil {
			t.Fatalf("call %d: %s", i, steady.Explain(err))
		}
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	srv.Stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if seen != 20 {
		t.Errorf("the server saw %d attempts, want 20", seen)
	}
}

// TestForeignBalancers: every balancer of gRPC's own works; without avoidance, but with its endpoints known.
func TestForeignBalancers(t *testing.T) {
	for _, policy := range []string{"pick_first", "round_robin"} {
		t.Run(policy, func(t *testing.T) {
			steadytest.Run(t, func(t *testing.T) {
				fleet := steadytest.NewFleet(t)
				var report steady.Report
				fleet.Behave(steadytest.Failing(codes.Unavailable, 1))
				conn := dial(fleet, outbound(t, retryRule("/steady.echo.v1.Echo/"), wide),
					grpc.WithDefaultServiceConfig(fmt.Sprintf(`{"loadBalancingConfig":[{%q:{}}]}`, policy)))
				_, err := echov1.NewEchoClient(conn).Get(within(t, 5*time.Second), &req{}, steady.ReportTo(&report))
				wantCode(t, err, codes.Unavailable)
				for _, a := range report.Attempts {
					if a.Endpoint == "" {
						t.Errorf("attempt %d: the endpoint is not known", a.Number)
					}
				}
			})
		})
	}
}

// echo answers Get with whatever the function returns.
type echo struct {
	echov1.UnimplementedEchoServer
	f func(ctx context.Context) error
}

func (e echo) Get(ctx context.Context, in *req) (*reply, error) {
	if err := e.f(ctx); err != nil {
		return nil, err
	}
	return &reply{Text: in.GetText()}, nil
}

// selfSigned returns a certificate for steady.test and the pool that trusts it.
func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "steady.test"}, DNSNames: []string{"steady.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
