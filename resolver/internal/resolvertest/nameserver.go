package resolvertest

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// What a name server may do instead of giving records.
const (
	ServFail  = "SERVFAIL"
	NXDomain  = "NXDOMAIN"
	Truncated = "TRUNCATED" // over UDP nothing but the flag; TCP has the records behind it
	Silent    = "SILENT"    // no answer at all
)

// NameServer is a real one, on a loopback socket, UDP and TCP. It is authoritative for every name; one that was
// not set does not exist.
type NameServer struct {
	Addr string

	mu    sync.Mutex
	zone  map[string][]string
	asked map[string]int // "udp A orders.test."
}

// StartNameServer starts a server that ends with the test.
func StartNameServer(t *testing.T) *NameServer {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := &NameServer{Addr: tcp.Addr().String(), zone: make(map[string][]string), asked: make(map[string]int)}
	var wg sync.WaitGroup
	wg.Go(func() { s.packets(udp) })
	wg.Go(func() { s.streams(tcp, &wg) })
	t.Cleanup(func() {
		_ = udp.Close()
		_ = tcp.Close()
		wg.Wait()
	})
	return s
}

// Set sets the records of a kind (A, AAAA, SRV, TXT) of a name, which ends with a dot; SRV as "priority weight port
// host.". The first may be what the server does instead. None: the name exists, and has none.
func (s *NameServer) Set(kind, name string, records ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone[kind+" "+name] = append([]string{}, records...)
}

// Asked returns how often a question came: "udp A orders.test.".
func (s *NameServer) Asked(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[what]
}

func (s *NameServer) packets(conn net.PacketConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if reply := s.answer("udp", buf[:n]); reply != nil {
			_, _ = conn.WriteTo(reply, from)
		}
	}
}

func (s *NameServer) streams(lis net.Listener, wg *sync.WaitGroup) {
	for {
		conn, err := lis.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer func() { _ = conn.Close() }()
			var size [2]byte
			if _, err := io.ReadFull(conn, size[:]); err != nil {
				return
			}
			query := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(conn, query); err != nil {
				return
			}
			if reply := s.answer("tcp", query); reply != nil {
				_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)) //nolint:gosec // a message is at most that long
			}
		})
	}
}

// answer returns the reply to a query; nil: none.
func (s *NameServer) answer(network string, query []byte) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	kind := strings.TrimPrefix(q.Type.String(), "Type")
	name := strings.ToLower(q.Name.String())
	s.mu.Lock()
	s.asked[network+" "+kind+" "+name]++
	records, exists := s.zone[kind+" "+name]
	if !exists {
		for key := range s.zone {
			_, n, _ := strings.Cut(key, " ")
			exists = exists || n == name
		}
		if !exists {
			records = []string{NXDomain}
		}
	}
	s.mu.Unlock()
	h = dnsmessage.Header{ID: h.ID, Response: true, Authoritative: true, RecursionDesired: h.RecursionDesired, RecursionAvailable: true}
	if len(records) > 0 {
		switch records[0] {
		case Silent:
			return nil
		case ServFail:
			h.RCode, records = dnsmessage.RCodeServerFailure, nil
		case NXDomain:
			h.RCode, records = dnsmessage.RCodeNameError, nil
		case Truncated:
			records = records[1:]
			if network == "udp" {
				h.Truncated, records = true, nil
			}
		}
	}
	reply := build(h, q, records)
	const most = 1232 // what Go's own client says it takes
	if network == "udp" && len(reply) > most {
		h.Truncated = true
		reply = build(h, q, nil)
	}
	return reply
}

func build(h dnsmessage.Header, q dnsmessage.Question, records []string) []byte {
	b := dnsmessage.NewBuilder(nil, h)
	b.EnableCompression()
	_ = b.StartQuestions()
	_ = b.Question(q)
	_ = b.StartAnswers()
	rh := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}
	for _, r := range records {
		switch q.Type {
		case dnsmessage.TypeA:
			_ = b.AResource(rh, dnsmessage.AResource{A: netip.MustParseAddr(r).As4()})
		case dnsmessage.TypeAAAA:
			_ = b.AAAAResource(rh, dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(r).As16()})
		case dnsmessage.TypeTXT:
			var parts []string
			for len(r) > 255 {
				parts, r = append(parts, r[:255]), r[255:]
			}
			_ = b.TXTResource(rh, dnsmessage.TXTResource{TXT: append(parts, r)})
		case dnsmessage.TypeSRV:
			srv, err := parseSRV(r)
			if err != nil {
				panic(err)
			}
			_ = b.SRVResource(rh, srv)
		default:
		}
	}
	reply, err := b.Finish()
	if err != nil {
		panic(err)
	}
	return reply
}

func parseSRV(text string) (srv dnsmessage.SRVResource, err error) {
	var target string
	if _, err = fmt.Sscan(text, &srv.Priority, &srv.Weight, &srv.Port, &target); err != nil {
		return srv, err
	}
	srv.Target, err = dnsmessage.NewName(target)
	return srv, err
}
