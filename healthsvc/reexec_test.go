package healthsvc_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/grpcsteady/steady/healthsvc"
	echov1 "github.com/grpcsteady/steady/proto/steady/echo/v1"
)

// serveAt makes the test binary a server on an address, which is how real processes are tested.
const serveAt = "STEADY_HEALTHSVC_SERVE"

func served() bool {
	at := os.Getenv(serveAt)
	if at == "" {
		return false
	}
	if err := serve(at); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return true
}

// serve is the other process: it serves until SIGTERM, and tells its memory for every line it reads.
func serve(at string) error {
	lis, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	h, err := healthsvc.New(healthsvc.WithDrainWait(300 * time.Millisecond))
	if err != nil {
		return err
	}
	srv := grpc.NewServer()
	echov1.RegisterEchoServer(srv, &echoes{name: lis.Addr().String(), take: func() time.Duration { return 2 * time.Millisecond }})
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			fmt.Println(m.HeapInuse+m.StackInuse, h.Snapshot().Watches)
		}
	}()
	fmt.Println(lis.Addr())
	return h.Serve(ctx, srv, lis)
}

// process is a server of its own.
type process struct {
	cmd  *exec.Cmd
	addr string
	out  *bufio.Scanner
	in   interface{ WriteString(string) (int, error) }
}

func startProcess(t testing.TB, at string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), serveAt+"="+at)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // one that the test has not ended
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	p.in = writer{in.Write}
	p.out = bufio.NewScanner(out)
	p.addr = p.line(t)
	return p
}

type writer struct{ write func([]byte) (int, error) }

func (w writer) WriteString(s string) (int, error) { return w.write([]byte(s)) }

func (p *process) line(t testing.TB) string {
	t.Helper()
	if !p.out.Scan() {
		t.Fatalf("the process said nothing: %v", p.out.Err())
	}
	return p.out.Text()
}

// memory returns what the process uses, and how many watches are open there.
func (p *process) memory(t testing.TB) (bytes, watches int) {
	t.Helper()
	if _, err := p.in.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(p.line(t), &bytes, &watches); err != nil {
		t.Fatal(err)
	}
	return bytes, watches
}

func (p *process) terminate(t testing.TB) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for p.out.Scan() {
		t.Errorf("%s: %s", p.addr, p.out.Text())
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%s: %v", p.addr, err)
	}
}

// TestRollingRestartOfProcesses: the same with processes, sockets and SIGTERM.
func TestRollingRestartOfProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes and takes seconds")
	}
	for _, policy := range policies {
		if !policy.real {
			continue
		}
		t.Run(policy.name, func(t *testing.T) {
			fleet := make([]*process, 3)
			state := resolver.State{}
			for i := range fleet {
				fleet[i] = startProcess(t, "127.0.0.1:0")
				state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: fleet[i].addr}}})
			}
			r := manual.NewBuilderWithScheme("rolling")
			r.InitialState(state)
			conn, err := grpc.NewClient("rolling:///", grpc.WithResolvers(r), grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithDefaultServiceConfig(policy.serviceConfig), grpc.WithConnectParams(grpc.ConnectParams{
					Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, MaxDelay: 100 * time.Millisecond}, MinConnectTimeout: 5 * time.Second,
				}))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			client := echov1.NewEchoClient(conn)
			answers := newCounter()
			rolled := make(chan struct{})
			type count struct{ calls, failed int }
			counts := make(chan count)
			const callers, least = 16, 10_000
			for range callers {
				go func() {
					var c count
					defer func() { counts <- c }()
					for {
						select {
						case <-rolled:
							if c.calls >= least/callers {
								return
							}
						default:
						}
						ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
						r, err := client.Get(ctx, &echov1.EchoRequest{})
						cancel()
						c.calls++
						if err != nil {
							c.failed++
							t.Errorf("call failed: %v", err)
						}
						answers.add(r.GetServer())
					}
				}()
			}
			for i, p := range fleet {
				answers.more(p.addr, 100)
				p.terminate(t)
				fleet[i] = startProcess(t, p.addr)
				answers.more(p.addr, 100)
			}
			close(rolled)
			var total count
			for range callers {
				c := <-counts
				total.calls += c.calls
				total.failed += c.failed
			}
			t.Logf("%d calls, %d failed", total.calls, total.failed)
			if total.calls < least || total.failed > 0 {
				t.Errorf("%d calls, %d failed", total.calls, total.failed)
			}
			for _, p := range fleet {
				p.terminate(t)
			}
		})
	}
}

// TestRequestsAreNotKept: what a hostile client adds to its request is gone once the Watch is open.
func TestRequestsAreNotKept(t *testing.T) {
	p := startProcess(t, "127.0.0.1:0")
	conn, err := grpc.NewClient("passthrough:///"+p.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const watches, ballast = 100, 1 << 20
	open := func(n int) {
		for i := range n {
			in := &healthpb.HealthCheckRequest{Service: fmt.Sprint("unknown", i%2)}
			if i%4 < 2 {
				in.Service = ""
			}
			in.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 99, protowire.BytesType), make([]byte, ballast)))
			stream, err := healthpb.NewHealthClient(conn).Watch(ctx, in)
			if err == nil {
				_, err = stream.Recv()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	open(10) // buffers that are kept for use by all
	before, _ := p.memory(t)
	open(watches)
	after, opened := p.memory(t)
	if kept := after - before; opened != 10+watches || kept > watches*ballast/4 {
		t.Errorf("%d watches are open, and %d bytes were kept of %d", opened, kept, watches*ballast)
	}
	cancel()
	p.terminate(t)
}

// BenchmarkWatcherMemory tells what one open Watch costs a server, over connections of 1,000 streams each.
func BenchmarkWatcherMemory(b *testing.B) {
	for b.Loop() {
		p := startProcess(b, "127.0.0.1:0")
		const conns, each = 10, 1000
		before, _ := p.memory(b)
		ctx, cancel := context.WithCancel(context.Background())
		for range conns {
			conn, err := grpc.NewClient("passthrough:///"+p.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = conn.Close() })
			for range each {
				stream, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := stream.Recv(); err != nil {
					b.Fatal(err)
				}
			}
		}
		after, watches := p.memory(b)
		if watches != conns*each {
			b.Fatalf("%d watches are open, want %d: %s", watches, conns*each, strings.TrimSpace(p.addr))
		}
		b.ReportMetric(float64(after-before)/(conns*each), "B/watcher")
		cancel()
		p.terminate(b)
	}
}
