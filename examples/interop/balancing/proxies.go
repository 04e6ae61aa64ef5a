package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// proxies are where the two listen, once with weights and once with least connections.
type proxies struct{ nginxWeights, nginxLeast, haproxyWeights, haproxyLeast string }

const nginxConfig = `worker_processes 1;
daemon off;
pid DIR/nginx.pid;
error_log DIR/nginx.log;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
  keepalive_requests 1000000;
  upstream weights { zone weights 64k; server A weight=5; server B weight=3; server C weight=2; keepalive 64; }
  upstream least { zone least 64k; least_conn; server A; server B; server C; keepalive 64; }
  server { listen W http2; location / { grpc_pass grpc://weights; } }
  server { listen L http2; location / { grpc_pass grpc://least; } }
}
`

const haproxyConfig = `global
  maxconn 1000
defaults
  mode http
  timeout connect 5s
  timeout client 1m
  timeout server 1m
frontend weights
  bind W proto h2
  default_backend weights
frontend least
  bind L proto h2
  default_backend least
backend weights
  balance roundrobin
  server a A proto h2 weight 50
  server b B proto h2 weight 30
  server c C proto h2 weight 20
backend least
  balance leastconn
  server a A proto h2
  server b B proto h2
  server c C proto h2
`

// startProxies starts both, in the foreground so that they end with us.
func startProxies(ctx context.Context, dir, nginx, haproxy string, addrs [3]string) (p proxies, end func(), err error) {
	var running []*exec.Cmd
	end = func() {
		for _, c := range running {
			_ = c.Process.Signal(os.Interrupt)
			_ = c.Wait()
		}
	}
	for _, at := range []*string{&p.nginxWeights, &p.nginxLeast, &p.haproxyWeights, &p.haproxyLeast} {
		if *at, err = freeAddr(); err != nil {
			return p, nil, err
		}
	}
	for _, x := range []struct {
		name, config, weights, least string
		command                      func(file string) *exec.Cmd
	}{
		{"nginx.conf", nginxConfig, p.nginxWeights, p.nginxLeast, func(file string) *exec.Cmd {
			return exec.CommandContext(ctx, nginx, "-p", dir, "-c", file)
		}},
		{"haproxy.cfg", haproxyConfig, p.haproxyWeights, p.haproxyLeast, func(file string) *exec.Cmd {
			return exec.CommandContext(ctx, haproxy, "-db", "-f", file)
		}},
	} {
		file := filepath.Join(dir, x.name)
		text := strings.NewReplacer("DIR", dir, " A", " "+addrs[0], " B", " "+addrs[1], " C", " "+addrs[2],
			" W ", " "+x.weights+" ", " L ", " "+x.least+" ").Replace(x.config)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			end()
			return p, nil, err
		}
		c := x.command(file)
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			end()
			return p, nil, fmt.Errorf("%s: %w", x.name, err)
		}
		running = append(running, c)
		for _, addr := range []string{x.weights, x.least} {
			if err := reachable(ctx, addr); err != nil {
				end()
				return p, nil, fmt.Errorf("%s: %w", x.name, err)
			}
		}
	}
	return p, end, nil
}

// freeAddr returns an address of the loopback that nobody listens on just now.
func freeAddr() (string, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = lis.Close() }()
	return lis.Addr().String(), nil
}

// reachable waits until somebody listens.
func reachable(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nobody listens on %s: %w", addr, err)
		case <-ticker.C:
		}
	}
}
