package main

import (
	"net"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// The name that clients ask for, and where its hosts are: a.shop.test. and so on.
const (
	shopDomain  = "shop.test."
	serviceName = "_orders._tcp." + shopDomain
)

// nameServer is as small as one can be: it knows one service, over UDP alone.
type nameServer struct {
	addr  string
	conn  net.PacketConn
	serve sync.WaitGroup

	mu    sync.Mutex // guards ports
	ports []uint16   // of a, b, c and so on; all are on loopback
}

func startNameServer() (*nameServer, error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &nameServer{addr: conn.LocalAddr().String(), conn: conn}
	s.serve.Go(s.run)
	return s, nil
}

func (s *nameServer) close() {
	_ = s.conn.Close()
	s.serve.Wait()
}

// set changes the records.
func (s *nameServer) set(addrs []string) {
	var ports []uint16
	for _, a := range addrs {
		ports = append(ports, netip.MustParseAddrPort(a).Port())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports = ports
}

func (s *nameServer) run() {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if reply, err := s.answer(buf[:n]); err == nil {
			_, _ = s.conn.WriteTo(reply, from) // who asked asks again
		}
	}
}

func (s *nameServer) answer(query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	ports := s.ports
	s.mu.Unlock()

	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: h.ID, Response: true, Authoritative: true, RecursionDesired: h.RecursionDesired})
	b.EnableCompression()
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(q); err != nil {
		return nil, err
	}
	if err := b.StartAnswers(); err != nil {
		return nil, err
	}
	head := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1}
	name := strings.ToLower(q.Name.String())
	switch {
	case q.Type == dnsmessage.TypeSRV && name == serviceName:
		for i, port := range ports {
			host, err := dnsmessage.NewName(string(rune('a'+i)) + "." + shopDomain)
			if err != nil {
				return nil, err
			}
			if err := b.SRVResource(head, dnsmessage.SRVResource{Weight: 1, Port: port, Target: host}); err != nil {
				return nil, err
			}
		}
	case q.Type == dnsmessage.TypeA && strings.HasSuffix(name, "."+shopDomain):
		if err := b.AResource(head, dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}
