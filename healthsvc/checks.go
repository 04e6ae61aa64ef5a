package healthsvc

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// SQL pings a database. That takes a connection from the pool as a call would, so a pool that is used up is
// down as well. What a ping proves is the driver's business; where it proves too little, ask a question:
//
//	healthsvc.Func(func(ctx context.Context) error {
//		var one int
//		return db.QueryRowContext(ctx, "SELECT 1 FROM orders LIMIT 1").Scan(&one)
//	})
func SQL(db *sql.DB) Checker { return sqlCheck{db} }

type sqlCheck struct{ db *sql.DB }

func (c sqlCheck) Check(ctx context.Context) error { return c.db.PingContext(ctx) }

func (c sqlCheck) Validate() error {
	if c.db == nil {
		return errors.New("SQL: db is nil, want a *sql.DB")
	}
	return nil
}

// TCP connects to an address, "host:port", and hangs up. It says that somebody listens, not that he is well.
func TCP(address string) Checker { return tcpCheck{address} }

type tcpCheck struct{ address string }

func (c tcpCheck) Check(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.address)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (c tcpCheck) Validate() error {
	if _, port, err := net.SplitHostPort(c.address); err != nil || port == "" {
		return fmt.Errorf("TCP: address is %q, want host:port", c.address)
	}
	return nil
}

// HTTP asks for a URL with GET: a status from 200 to 299 is well. Redirects are not followed, as one to a login
// page is no sign of health. The client is for credentials, proxies and connections that stay; nil makes a new
// connection each time, without a proxy. The check's timeout holds in any case.
func HTTP(client *http.Client, address string) Checker {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if client != nil {
		c = *client
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &httpCheck{client: c, url: address}
}

// maxBody is how much of an answer is read, so that its connection can be used again.
const maxBody = 64 << 10

type httpCheck struct {
	client http.Client
	url    string
}

func (c *httpCheck) Check(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxBody) // its words do not matter
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("HTTP status %d", resp.StatusCode)
	}
	return nil
}

func (c *httpCheck) Validate() error {
	u, err := url.Parse(c.url)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("HTTP: address is %q, want http://host/path or https://host/path", c.url)
	}
	return nil
}

// GRPC asks another server's health service for a name of its, "" for the server itself. SERVING is well. Ask
// for what this server needs, so that a chain of services is not down as a whole because the last one is; and
// not at all for those whose outage this server can bear.
func GRPC(conn grpc.ClientConnInterface, service string) Checker { return grpcCheck{conn, service} }

type grpcCheck struct {
	conn    grpc.ClientConnInterface
	service string
}

func (c grpcCheck) Check(ctx context.Context) error {
	r, err := healthpb.NewHealthClient(c.conn).Check(ctx, &healthpb.HealthCheckRequest{Service: c.service})
	switch {
	case err != nil:
		return err
	case r.GetStatus() != healthpb.HealthCheckResponse_SERVING:
		return fmt.Errorf("service %q is %v", c.service, r.GetStatus())
	}
	return nil
}

func (c grpcCheck) Validate() error {
	if c.conn == nil {
		return errors.New("GRPC: conn is nil, want a channel")
	}
	return nil
}
