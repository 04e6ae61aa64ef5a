package dns

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/proto/document"
	"github.com/grpcsteady/steady/resolver/endpoint"
)

// FuzzService: whatever SRV records and addresses a name server sends, weights and priorities are in range, no
// endpoint stands twice, and those of the first priority stand first.
func FuzzService(f *testing.F) {
	f.Add([]byte{0, 0, 0, 3, 0, 1, 'a', 0, 0, 0, 2, 0, 1, 'b'}, []byte{1, 2, 3}, false)
	f.Add([]byte{0, 9, 255, 255, 0, 1, 'a', 0, 1, 0, 0, 0, 0, '.'}, []byte{0, 1, 1, 2, 2}, true)
	f.Fuzz(func(t *testing.T, srv, ips []byte, first bool) {
		var records []*net.SRV
		found := make(map[string]families)
		for len(srv) >= 7 {
			r := &net.SRV{
				Priority: binary.BigEndian.Uint16(srv), Weight: binary.BigEndian.Uint16(srv[2:]),
				Port: binary.BigEndian.Uint16(srv[4:]), Target: string(srv[6:7]),
			}
			records, srv = append(records, r), srv[7:]
			n := min(len(ips), int(r.Port)%5)
			var h families
			for _, b := range ips[:n] {
				if b%2 == 0 {
					h.v4.addrs = append(h.v4.addrs, netip.AddrFrom4([4]byte{10, 0, 0, b}))
				} else {
					h.v6.addrs = append(h.v6.addrs, netip.AddrFrom16([16]byte{0x20, 15: b}))
				}
			}
			ips = ips[n:]
			found[r.Target] = h
		}
		a := &asker{first: first}
		seen, last := make(map[string]bool), 0
		check := func(e resolver.Endpoint) {
			w, said := endpoint.Weight(e)
			p := endpoint.Priority(e)
			if !said || w < 1 || w > document.MaxWeight || p < last || p > document.MaxPriority || first && p > 0 {
				t.Errorf("weight %d, priority %d after %d", w, p, last)
			}
			last = p
			if k := endpoint.Key(e); seen[k] || k == "" {
				t.Errorf("%q stands twice", k)
			} else {
				seen[k] = true
			}
		}
		for _, e := range a.collect(sorted(records), found) {
			check(e)
		}
	})
}
