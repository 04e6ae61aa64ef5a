package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/grpcsteady/steady/resolver/dns"
	"github.com/grpcsteady/steady/resolver/file"
	"github.com/grpcsteady/steady/resolver/follow"
	"github.com/grpcsteady/steady/resolver/static"
)

// A directory is where clients find the fleet: what -resolver chooses.
type directory struct {
	target  string
	builder follow.Builder
	list    func(addrs []string) error // changes what it says; nil: it can not change
	change  string                     // what list does, for people
	close   func()
}

// resolvers are the values of -resolver.
var resolvers = []string{"static", "file", "dns"}

// openDirectory opens a directory of the servers a, b, c and so on at these addresses. Clients that look at it
// again and again do so at least every so often.
func openDirectory(kind string, addrs []string, every time.Duration) (*directory, error) {
	switch kind {
	case "", "static":
		return &directory{target: target(addrs), builder: static.Builder(), close: func() {}}, nil
	case "file":
		return openFile(addrs, every)
	case "dns":
		return openDNS(addrs, every)
	default:
		return nil, fmt.Errorf("no resolver is called %q, want one of %s", kind, strings.Join(resolvers, ", "))
	}
}

// openFile is a file of endpoints, written anew and renamed for each change.
func openFile(addrs []string, every time.Duration) (*directory, error) {
	dir, err := os.MkdirTemp("", "quickstart")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "endpoints.yaml")
	list := func(addrs []string) error {
		next := path + ".next"
		if err := os.WriteFile(next, []byte("endpoints: ["+strings.Join(addrs, ", ")+"]\n"), 0o600); err != nil {
			return err
		}
		return os.Rename(next, path)
	}
	d := &directory{
		target: file.Scheme + "://" + filepath.ToSlash(path), builder: file.Builder(file.Every(every)),
		list: list, change: "endpoints.yaml is written anew", close: func() { _ = os.RemoveAll(dir) },
	}
	if err := list(addrs); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// openDNS is a name server whose SRV records tell host and port.
func openDNS(addrs []string, every time.Duration) (*directory, error) {
	s, err := startNameServer()
	if err != nil {
		return nil, err
	}
	s.set(addrs)
	return &directory{
		target: dns.Scheme + "://" + s.addr + "/" + serviceName, builder: dns.Builder(dns.Every(every)),
		list:   func(addrs []string) error { s.set(addrs); return nil },
		change: "the name server has one more SRV record", close: s.close,
	}, nil
}
