package resolvertest

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/grpcsteady/steady/resolver/endpoint"
)

// Channel stands in for a channel of gRPC: it keeps what its resolver says.
type Channel struct {
	resolver.ClientConn
	mu      sync.Mutex
	log     []string
	refuse  error
	configs map[*serviceconfig.ParseResult]string
	news    chan struct{} // one value: the log has grown; nil: nobody waits
}

// tell needs mu.
func (c *Channel) tell(line string) {
	c.log = append(c.log, line)
	if c.news != nil {
		select {
		case c.news <- struct{}{}:
		default:
		}
	}
}

// Refuse lets updates fail with err from now on; nil: they succeed again.
func (c *Channel) Refuse(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = err
}

// UpdateState implements resolver.ClientConn.
func (c *Channel) UpdateState(s resolver.State) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := Describe(s.Endpoints)
	if s.ServiceConfig != nil {
		text += " " + c.configs[s.ServiceConfig]
	}
	c.tell(text)
	if s.ServiceConfig != nil && s.ServiceConfig.Err != nil {
		return errors.New("bad resolver state")
	}
	return c.refuse
}

// ReportError implements resolver.ClientConn.
func (c *Channel) ReportError(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tell("error: " + err.Error())
}

// ParseServiceConfig implements resolver.ClientConn. A text with "bad" in it is refused.
func (c *Channel) ParseServiceConfig(text string) *serviceconfig.ParseResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := new(serviceconfig.ParseResult)
	if strings.Contains(text, "bad") {
		r.Err = errors.New("it is bad")
	}
	if c.configs == nil {
		c.configs = make(map[*serviceconfig.ParseResult]string)
	}
	c.configs[r] = text
	return r
}

// Told returns what the channel was told since the last time, a line each.
func (c *Channel) Told() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	log := c.log
	c.log = nil
	return log
}

// Expect compares what the channel was told since the last time. A line of want that ends in * stands for any
// that begins so.
func (c *Channel) Expect(t *testing.T, want ...string) {
	t.Helper()
	got := c.Told()
	same := len(got) == len(want)
	for i := 0; same && i < len(want); i++ {
		start, open := strings.CutSuffix(want[i], "*")
		same = got[i] == want[i] || open && strings.HasPrefix(got[i], start)
	}
	if !same {
		t.Errorf("the channel was told\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// Describe writes a list in one line: "a:1+b:1?weight=3&zone=z&priority=1 c:1".
func Describe(list []resolver.Endpoint) string {
	if len(list) == 0 {
		return "none"
	}
	var out []string
	for _, e := range list {
		var addrs, says []string
		for _, a := range e.Addresses {
			addrs = append(addrs, a.Addr)
		}
		if w, said := endpoint.Weight(e); said {
			says = append(says, fmt.Sprintf("weight=%d", w))
		}
		if z := endpoint.Zone(e); z != "" {
			says = append(says, "zone="+z)
		}
		if p := endpoint.Priority(e); p != 0 {
			says = append(says, fmt.Sprintf("priority=%d", p))
		}
		text := strings.Join(addrs, "+")
		if says != nil {
			text += "?" + strings.Join(says, "&")
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

// Target reads a target as gRPC does.
func Target(t *testing.T, text string) resolver.Target {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return resolver.Target{URL: *u}
}

// Build builds a resolver for a channel, and closes it at the end of the test.
func Build(t *testing.T, b resolver.Builder, target string, c *Channel) resolver.Resolver {
	t.Helper()
	r, err := b.Build(Target(t, target), c, resolver.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// Await waits, on the real clock, until the channel was told a line; what else it is told is dropped. It gives up
// after half a minute.
func (c *Channel) Await(t *testing.T, want string) {
	t.Helper()
	start, open := strings.CutSuffix(want, "*")
	var seen []string
	const patience = 30 * time.Second
	timer := time.NewTimer(patience)
	defer timer.Stop()
	c.mu.Lock()
	news := make(chan struct{}, 1)
	c.news = news
	c.mu.Unlock()
	for begun := time.Now(); time.Since(begun) < patience; {
		for _, line := range c.Told() {
			if line == want || open && strings.HasPrefix(line, start) {
				return
			}
			seen = append(seen, line)
		}
		select {
		case <-news:
		case <-timer.C:
		}
	}
	t.Fatalf("the channel was told\n\t%s\nand never %s", strings.Join(seen, "\n\t"), want)
}
