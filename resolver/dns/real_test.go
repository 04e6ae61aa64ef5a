package dns_test

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"

	"github.com/grpcsteady/steady/resolver/dns"
	"github.com/grpcsteady/steady/resolver/internal/resolvertest"
)

// The same against a real name server, over UDP and TCP of loopback, as the standard library asks it.

// follow builds a resolver that looks ten times a second, and is given what its errors say.
func follow(t *testing.T, name string, s *resolvertest.NameServer, opts ...dns.Option) (*resolvertest.Channel, chan error) {
	t.Helper()
	errs := make(chan error, 1000)
	c := new(resolvertest.Channel)
	opts = append([]dns.Option{dns.Every(100 * time.Millisecond), dns.OnError(func(err error) { errs <- err })}, opts...)
	resolvertest.Build(t, dns.Builder(opts...), "dns://"+s.Addr+"/"+name, c)
	return c, errs
}

// awaitError waits until an error with these words is told.
func awaitError(t *testing.T, errs chan error, words string) {
	t.Helper()
	timer := time.NewTimer(30 * time.Second)
	defer timer.Stop()
	for {
		select {
		case err := <-errs:
			if strings.Contains(err.Error(), words) {
				return
			}
		case <-timer.C:
			t.Fatalf("nobody said %s", words)
		}
	}
}

const host = "orders.test."

func TestRealRecords(t *testing.T) {
	s := resolvertest.StartNameServer(t)
	s.Set("A", host, "10.0.0.1")
	c, errs := follow(t, host+":1", s)
	c.Await(t, "10.0.0.1:1")
	s.Set("AAAA", host, "2001:db8::1")
	c.Await(t, "[2001:db8::1]:1+10.0.0.1:1")
	s.Set("A", host, "10.0.0.1", "10.0.0.2")
	c.Await(t, "[2001:db8::1]:1 10.0.0.1:1 10.0.0.2:1")

	s.Set("A", host, resolvertest.ServFail)
	awaitError(t, errs, "on "+s.Addr+": server misbehaving")
	s.Set("A", host)
	s.Set("AAAA", host)
	awaitError(t, errs, "no such host; the last list is held for 5m0s")
	s.Set("A", host, resolvertest.NXDomain)
	s.Set("A", host, "10.0.0.3")
	c.Await(t, "10.0.0.3:1")
	for _, line := range c.Told() {
		t.Errorf("the channel was told %s while nothing was known or the list was held", line)
	}
}

func TestRealGrace(t *testing.T) {
	s := resolvertest.StartNameServer(t)
	s.Set("A", host, "10.0.0.1")
	c, _ := follow(t, host+":1", s, dns.Grace(0))
	c.Await(t, "10.0.0.1:1")
	s.Set("A", host, resolvertest.NXDomain)
	c.Await(t, "none")
	c.Await(t, "error: dns: dns://"+s.Addr+"/"+host+":1: lookup "+host+" on "+s.Addr+": no such host")
	s.Set("A", host, "10.0.0.2")
	c.Await(t, "10.0.0.2:1")
}

// TestRealManyAddresses: 300 do not fit into UDP, and the question is asked again over TCP.
func TestRealManyAddresses(t *testing.T) {
	s := resolvertest.StartNameServer(t)
	var all, want []string
	for i := range 300 {
		all = append(all, fmt.Sprintf("10.1.%d.%d", i/200, i%200))
		want = append(want, all[i]+":1")
	}
	s.Set("A", host, all...)
	c, _ := follow(t, host+":1", s)
	c.Await(t, strings.Join(want, " "))
	if s.Asked("udp A "+host) == 0 || s.Asked("tcp A "+host) == 0 {
		t.Error("not asked over both UDP and TCP")
	}
	s.Set("A", host, resolvertest.Truncated, "10.0.0.1") // without need
	c.Await(t, "10.0.0.1:1")
}

func TestRealService(t *testing.T) {
	s := resolvertest.StartNameServer(t)
	const srv = "_grpc._tcp.orders.test."
	s.Set("SRV", srv, "0 3 50051 a.test.", "0 2 50052 b.test.", "1 1 50053 c.test.")
	s.Set("A", "a.test.", "10.0.0.1")
	s.Set("AAAA", "a.test.", "2001:db8::1")
	s.Set("A", "b.test.", "10.0.0.2")
	s.Set("A", "c.test.", "10.0.0.3")
	c, _ := follow(t, srv, s)
	c.Await(t, "*") // the library shuffles by weight
	s.Set("A", "b.test.", resolvertest.NXDomain)
	c.Await(t, "[2001:db8::1]:50051+10.0.0.1:50051?weight=3 10.0.0.3:50053?weight=1&priority=1")
	var many []string
	for i := range 300 {
		h := fmt.Sprintf("h%d.test.", i)
		many = append(many, "0 1 1 "+h)
		s.Set("A", h, fmt.Sprintf("10.1.%d.%d", i/200, i%200))
	}
	s.Set("SRV", srv, many...)
	c.Await(t, "10.1.*")
}

func TestRealServiceConfig(t *testing.T) {
	s := resolvertest.StartNameServer(t)
	s.Set("A", host, "10.0.0.1")
	long := `{"loadBalancingConfig":[{"round_robin":{}}],"x":"` + strings.Repeat("y", 2000) + `"}` // of several strings, over TCP
	s.Set("TXT", "_grpc_config."+host, "v=spf1 -all", `grpc_config=[{"serviceConfig":`+long+`}]`)
	c, errs := follow(t, host+":1", s, dns.ServiceConfigs())
	c.Await(t, "10.0.0.1:1 "+long)
	s.Set("TXT", "_grpc_config."+host, "grpc_config=[")
	awaitError(t, errs, "service config: the TXT record is no list of choices")
	s.Set("TXT", "_grpc_config."+host, resolvertest.ServFail)
	awaitError(t, errs, "service config: lookup _grpc_config.orders.test. on "+s.Addr)
	s.Set("TXT", "_grpc_config."+host)
	c.Await(t, "10.0.0.1:1")
	off, _ := follow(t, host+":1", s)
	off.Await(t, "10.0.0.1:1")
	before := s.Asked("udp TXT _grpc_config." + host)
	if before == 0 {
		t.Error("nobody asked for TXT records")
	}
}

// TestRealCloseInTheMiddle of a question whose answer never comes: whoever closes does not wait for it.
func TestRealCloseInTheMiddle(t *testing.T) {
	s := resolvertest.StartNameServer(t)
	for _, name := range []string{host + ":1", "_grpc._tcp." + host} {
		s.Set("A", host, resolvertest.Silent)
		s.Set("AAAA", host, resolvertest.Silent)
		s.Set("SRV", "_grpc._tcp."+host, resolvertest.Silent)
		c := new(resolvertest.Channel)
		b := dns.Builder(dns.Every(time.Second))
		r, err := b.Build(resolvertest.Target(t, "dns://"+s.Addr+"/"+name), c, resolver.BuildOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for s.Asked("udp A "+host)+s.Asked("udp SRV _grpc._tcp."+host) == 0 {
			runtime.Gosched() // until the question is on its way
		}
		start := time.Now()
		r.Close()
		if took := time.Since(start); took > 2*time.Second { // the library alone waits for 5 s, twice
			t.Errorf("%s: Close took %v", name, took)
		}
		if told := c.Told(); told != nil {
			t.Errorf("%s: the channel was told %q by a closed resolver", name, told)
		}
	}
}

// TestRealCalls: a scale-up behind a name is noticed by a channel whose connections are all healthy, and a real
// error reaches the caller.
func TestRealCalls(t *testing.T) {
	s := resolvertest.StartNameServer(t)
	s.Set("A", host, "127.0.0.1")
	port := listen(t, "127.0.0.1:0")
	listen(t, "127.0.0.2:"+port)
	conn := dialReal(t, "dns://"+s.Addr+"/"+host+":"+port)
	seen := func() string {
		reply, err := echov1.NewEchoClient(conn).Get(t.Context(), &echov1.EchoRequest{}, grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		return reply.GetServer()
	}
	if got := seen(); got != "127.0.0.1" {
		t.Errorf("%s answers, want 127.0.0.1", got)
	}
	s.Set("A", host, "127.0.0.1", "127.0.0.2")
	for seen() != "127.0.0.2" {
	}
	lost := dialReal(t, "dns://"+s.Addr+"/nobody.test.:1")
	_, err := echov1.NewEchoClient(lost).Get(t.Context(), &echov1.EchoRequest{})
	if want := "dns: dns://" + s.Addr + "/nobody.test.:1: lookup nobody.test. on " + s.Addr + ": no such host"; status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want UNAVAILABLE and %s", err, want)
	}
}

func dialReal(t *testing.T, target string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithResolvers(dns.Builder(dns.Every(100*time.Millisecond), dns.OnError(func(error) {}))), grpc.WithNoProxy(),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(resolvertest.RoundRobin))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// listen starts a server that tells its address, and returns its port.
func listen(t *testing.T, addr string) string {
	t.Helper()
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ip, port, err := net.SplitHostPort(lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	echov1.RegisterEchoServer(srv, &echo{ip: ip})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.Serve(lis)
	}()
	t.Cleanup(func() {
		srv.Stop()
		<-ended
	})
	return port
}

type echo struct {
	echov1.UnimplementedEchoServer
	ip string
}

func (e *echo) Get(context.Context, *echov1.EchoRequest) (*echov1.EchoResponse, error) {
	return &echov1.EchoResponse{Server: e.ip}, nil
}
