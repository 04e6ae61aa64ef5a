package consistenthash

import (
	"context"
	"net"
	"net/netip"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// keySource says where the key of a call is found.
type keySource struct {
	header string // "": in none
	peer   bool
}

// key returns the hash of a call's key, and whether it has one. An empty one is none.
func (s keySource) key(ctx context.Context) (uint64, bool) {
	if s.header != "" {
		if v := metadata.ValueFromOutgoingContext(ctx, s.header); len(v) > 0 && v[0] != "" {
			return xxhash.Sum64String(v[0]), true
		}
	}
	if k, ok := ctx.Value(contextKey{}).(string); ok && k != "" {
		return xxhash.Sum64String(k), true
	}
	if s.peer {
		if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
			return hostOf(p.Addr), true
		}
	}
	return 0, false
}

// hostOf hashes an address without its port, which changes with each connection.
func hostOf(addr net.Addr) uint64 {
	var ip netip.Addr
	switch a := addr.(type) {
	case *net.TCPAddr:
		ip, _ = netip.AddrFromSlice(a.IP)
	default:
		if host, _, err := net.SplitHostPort(addr.String()); err == nil {
			if ip, err = netip.ParseAddr(host); err != nil {
				return xxhash.Sum64String(host)
			}
		} else {
			return xxhash.Sum64String(addr.String())
		}
	}
	b := ip.Unmap().WithZone("").As16()
	return xxhash.Sum64(b[:])
}
