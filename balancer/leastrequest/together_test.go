package leastrequest_test

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
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/grpcsteady/steady/balancer/consistenthash"
	"github.com/grpcsteady/steady/balancer/internal/capture"
	"github.com/grpcsteady/steady/balancer/leastrequest"
	"github.com/grpcsteady/steady/balancer/weighted"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// configs select each of steady's policies. What they have in common is tested here for all of them.
var configs = []string{leastrequest.ServiceConfig, weighted.ServiceConfig, consistenthash.ServiceConfig}

// each calls Get under a key of its own, which the hash needs and the others do not mind.
func each(conn *grpc.ClientConn) func(ctx context.Context, i int) error {
	get := steadytest.Get(conn)
	return func(ctx context.Context, i int) error { return get(consistenthash.WithKey(ctx, fmt.Sprint(i)), i) }
}

// load makes a hundred calls a second, and fails for one that fails.
func load(t *testing.T, fleet *steadytest.Fleet, conn *grpc.ClientConn, d time.Duration) map[string]int {
	t.Helper()
	fleet.Forget()
	if r := (steadytest.Load{Rate: 100, For: d, Call: each(conn)}).Run(t.Context()); r.OK != r.Calls {
		t.Errorf("%v", r)
	}
	return fleet.Count()
}

func TestUnreachableFirstAddress(t *testing.T) {
	for _, config := range configs {
		steadytest.Run(t, func(t *testing.T) {
			fleet := steadytest.NewFleet(t)
			conn := fleet.Dial(grpc.WithDefaultServiceConfig(config))
			state := resolver.State{}
			for i, name := range []string{"a", "b", "c"} {
				e := resolver.Endpoint{Addresses: []resolver.Address{{Addr: fmt.Sprint("nobody", i)}, {Addr: name}}}
				if i == 1 { // and one that says nothing at all
					fleet.Network().BlackHole("nobody1")
				}
				state.Endpoints = append(state.Endpoints, e)
			}
			fleet.SetState(state)
			load(t, fleet, conn, time.Second)
			for name, n := range load(t, fleet, conn, 3*time.Second) {
				if n < 50 {
					t.Errorf("%s: %s gets %d of 300 calls", config, name, n)
				}
			}
		})
	}
}

// TestClientSideHealth: gRPC's own watch of a server's health (A17) takes an endpoint out and brings it back.
func TestClientSideHealth(t *testing.T) {
	for _, config := range configs {
		steadytest.Run(t, func(t *testing.T) {
			servers := make(map[string]*health.Server)
			fleet := steadytest.NewFleet(t, steadytest.Services(func(r *steadytest.Replica, s grpc.ServiceRegistrar) {
				servers[r.Name()] = health.NewServer()
				healthpb.RegisterHealthServer(s, servers[r.Name()])
			}))
			conn := fleet.Dial(grpc.WithDefaultServiceConfig(config[:len(config)-1] + `,"healthCheckConfig":{"serviceName":""}}`))
			for _, status := range []healthpb.HealthCheckResponse_ServingStatus{
				healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING, healthpb.HealthCheckResponse_SERVING,
			} {
				servers["b"].SetServingStatus("", status)
				synctest.Wait()
				load(t, fleet, conn, 100*time.Millisecond) // the first calls connect
				n := load(t, fleet, conn, 3*time.Second)["b"]
				if serving := status == healthpb.HealthCheckResponse_SERVING; serving != (n > 0) {
					t.Errorf("%s: b is %v and gets %d of 300 calls", config, status, n)
				}
			}
		})
	}
}

func TestTLS(t *testing.T) {
	for _, config := range configs {
		steadytest.Run(t, func(t *testing.T) {
			certificate, roots := certify(t)
			fleet := steadytest.NewFleet(t, steadytest.ServerOptions(grpc.Creds(credentials.NewServerTLSFromCert(&certificate))))
			conn := fleet.Dial(grpc.WithDefaultServiceConfig(config), grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(roots, "fleet")))
			load(t, fleet, conn, 100*time.Millisecond)
			for name, n := range load(t, fleet, conn, 3*time.Second) {
				if n < 50 {
					t.Errorf("%s: %s gets %d of 300 calls", config, name, n)
				}
			}
		})
	}
}

// certify makes a certificate for the name fleet, valid at the bubble's time.
func certify(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fleet"}, DNSNames: []string{"fleet"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// TestPoliciesTakeTurns: a resolver that changes the policy under load, among ours and gRPC's own, fails no call.
func TestPoliciesTakeTurns(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		fleet := steadytest.NewFleet(t)
		fleet.Behave(steadytest.SlowBetween(time.Millisecond, 300*time.Millisecond)) // calls are under way at each change
		turns := append([]string{`{"loadBalancingConfig":[{"round_robin":{}}]}`, `{}`}, configs...)
		r := manual.NewBuilderWithScheme("turns")
		state := resolver.State{Endpoints: capture.Addresses("a", "b", "c")}
		r.InitialState(state)
		conn, err := grpc.NewClient("turns:///fleet", append(fleet.DialOptions(), grpc.WithResolvers(r))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		conn.Connect()
		synctest.Wait()
		stop := make(chan struct{})
		changed := make(chan int)
		go func() {
			ticker := time.NewTicker(130 * time.Millisecond)
			defer ticker.Stop()
			for n := 0; ; n++ {
				select {
				case <-stop:
					changed <- n
					return
				case <-ticker.C:
				}
				state.ServiceConfig = r.CC().ParseServiceConfig(turns[n*7%len(turns)])
				r.UpdateState(state)
			}
		}()
		load(t, fleet, conn, 20*time.Second)
		close(stop)
		if n := <-changed; n < 100 {
			t.Errorf("%d changes", n)
		}
	})
}

// TestListsComeAndGo: all endpoints replaced, one at a time, shuffled, and listed twice, under load.
func TestListsComeAndGo(t *testing.T) {
	for _, config := range configs {
		steadytest.Run(t, func(t *testing.T) {
			names := []string{"a", "b", "c", "d", "e", "f"}
			fleet := steadytest.NewFleet(t, steadytest.Replicas(names...))
			fleet.Behave(steadytest.SlowBetween(time.Millisecond, 300*time.Millisecond))
			conn := fleet.Dial(grpc.WithDefaultServiceConfig(config))
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				ticker := time.NewTicker(130 * time.Millisecond)
				defer ticker.Stop()
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					case <-ticker.C:
					}
					window := []string{names[n%6], names[(n+1)%6], names[(n+2)%6]}
					if n%3 == 0 {
						window = []string{window[2], window[0], window[1], window[0]}
					}
					fleet.SetEndpoints(window...)
				}
			}()
			for name, n := range load(t, fleet, conn, 10*time.Second) {
				if n < 50 {
					t.Errorf("%s: %s gets %d of 1000 calls", config, name, n)
				}
			}
			close(stop)
			<-stopped
		})
	}
}
