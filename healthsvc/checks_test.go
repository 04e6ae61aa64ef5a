package healthsvc_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/healthsvc"
	"github.com/grpcsteady/steady/interceptors/steadytest"
)

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// connector is a database whose pings do as the test says.
type connector struct {
	ping func(ctx context.Context) error
}

func (c connector) Connect(context.Context) (driver.Conn, error) { return connected{c}, nil }
func (c connector) Driver() driver.Driver                        { return nil }

type connected struct{ connector }

func (c connected) Ping(ctx context.Context) error    { return c.ping(ctx) }
func (connected) Prepare(string) (driver.Stmt, error) { return nil, driver.ErrSkip }
func (connected) Close() error                        { return nil }
func (connected) Begin() (driver.Tx, error)           { return nil, driver.ErrSkip }

func TestSQL(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		var fail atomic.Bool
		db := sql.OpenDB(connector{func(context.Context) error {
			if fail.Load() {
				return errDown
			}
			return nil
		}})
		defer db.Close()
		db.SetMaxOpenConns(1)
		c := healthsvc.SQL(db)
		wantError(t, c.Check(t.Context()), "")
		fail.Store(true)
		wantError(t, c.Check(t.Context()), "connection refused")
		fail.Store(false)
		used, err := db.Conn(t.Context()) // all connections are in use
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, c.Check(within(t, s)), "deadline exceeded")
		_ = used.Close()
		wantError(t, c.Check(within(t, s)), "")
	})
}

func TestTCP(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := healthsvc.TCP(lis.Addr().String())
	wantError(t, c.Check(t.Context()), "")
	_ = lis.Close()
	wantError(t, c.Check(t.Context()), "refused")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, c.Check(ended), "canceled")
}

func TestHTTPCheck(t *testing.T) {
	var status atomic.Int64
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if code := int(status.Load()); code >= 300 && code < 400 {
			http.Redirect(w, r, "/elsewhere", code)
		} else {
			w.WriteHeader(code)
		}
	}))
	defer srv.Close()
	for _, client := range []*http.Client{nil, srv.Client()} {
		c := healthsvc.HTTP(client, srv.URL+"/health/ready")
		for code, want := range map[int64]string{200: "", 204: "", 302: "HTTP status 302", 404: "HTTP status 404", 503: "HTTP status 503"} {
			status.Store(code)
			asked.Store(0)
			wantError(t, c.Check(t.Context()), want)
			if n := asked.Load(); n != 1 {
				t.Errorf("%d: asked %d times", code, n)
			}
		}
	}
	c := healthsvc.HTTP(nil, srv.URL)
	srv.Close()
	wantError(t, c.Check(t.Context()), "refused")
}

// TestGRPC: another server's health, through a channel.
func TestGRPC(t *testing.T) {
	steadytest.Run(t, func(t *testing.T) {
		w, db := newWorld(t), &dep{}
		w.serve(newHealth(t, healthsvc.WithCheck("database", db, healthsvc.Fall(1), healthsvc.Jitter(0)), healthsvc.WithService("orders", "database")))
		synctest.Wait()
		c := healthsvc.GRPC(w.conn, "orders")
		wantError(t, c.Check(within(t, s)), "")
		db.set(errDown)
		time.Sleep(6 * s)
		wantError(t, c.Check(within(t, s)), `service "orders" is NOT_SERVING`)
		wantError(t, healthsvc.GRPC(w.conn, "nobody").Check(within(t, s)), codes.NotFound.String())
		w.net.BlackHole("a")
		wantError(t, c.Check(within(t, s)), codes.DeadlineExceeded.String())
		w.net.Heal("a")
	})
}

func TestDiskFree(t *testing.T) {
	dir := t.TempDir()
	wantError(t, healthsvc.DiskFree(dir, healthsvc.Bytes(1)).Check(t.Context()), "")
	wantError(t, healthsvc.DiskFree(dir, healthsvc.Bytes(1<<63)).Check(t.Context()), "9223372036854775808 are needed")
	wantError(t, healthsvc.DiskFree(dir, healthsvc.Percent(1e-9)).Check(t.Context()), "")
	wantError(t, healthsvc.DiskFree(dir, healthsvc.Percent(100)).Check(t.Context()), "100 % are needed")
	wantError(t, healthsvc.DiskFree(dir+"/nowhere", healthsvc.Percent(1)).Check(t.Context()), "no such file")
}

func TestFunc(t *testing.T) {
	wantError(t, healthsvc.Func(func(context.Context) error { return errDown }).Check(t.Context()), "refused")
}
