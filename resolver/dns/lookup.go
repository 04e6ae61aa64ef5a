package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// Lookup asks name servers. A [net.Resolver] is one. Each method must return soon after its context has ended. The
// error for a name that does not exist, or has nothing of what is asked for, is a [net.DNSError] with IsNotFound.
type Lookup interface {
	// LookupNetIP is asked for networks "ip4" and "ip6".
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	// LookupSRV is asked with service and proto empty, and the name in full.
	LookupSRV(ctx context.Context, service, proto, name string) (cname string, addrs []*net.SRV, err error)
	// LookupTXT returns a text for each record.
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// system returns what asks the given server; "": those that the system names, in the way it is set up to.
func system(server string) Lookup {
	var d net.Dialer
	return &net.Resolver{
		PreferGo: server != "",
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if server != "" {
				addr = server
			}
			conn, err := d.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			// The library looks at the end of ctx between questions, and waits for each answer for seconds:
			// so long a channel would take to close.
			context.AfterFunc(ctx, func() { _ = conn.Close() }) // the answer is nobody's any more
			return conn, nil
		},
	}
}

// absent reports whether a name server has said that there is nothing.
func absent(err error) bool {
	e, ok := errors.AsType[*net.DNSError](err)
	return ok && e.IsNotFound
}

// explain puts the server that was asked into the error: the library names the one that the system has.
func explain(err error, server string) error {
	e, ok := errors.AsType[*net.DNSError](err)
	if !ok || server == "" {
		return err
	}
	c := *e
	c.Server = server
	return &c
}
