package follow

import (
	"sync"

	"google.golang.org/grpc/serviceconfig"

	"github.com/grpcsteady/steady/proto/document"
	"github.com/grpcsteady/steady/resolver/endpoint"
)

// Channel is what belongs to one connection and outlives its resolvers, which come and go with idle mode. Its
// fields are set before the first resolver is built and not changed afterwards.
type Channel struct {
	// Handle travels with every state, for balancing policies. Nil: none does.
	Handle *endpoint.Handle

	// Mark is told by [MarkOf] as long as the connection has a service config that came through here. 0: no
	// mark is made. Range: up to 1<<30 - 1.
	Mark uint32

	// Pushed is told what becomes of documents that the resolver pushes: a new one; why one was refused, which
	// leaves the one before in force; or nil and nil, there is none any more. It is called before gRPC is given
	// what belongs to it, one call at a time, and never twice in a row for the same document. Nil: pushed
	// documents are not followed, and pass to gRPC as they came.
	Pushed func(d *document.Document, err error)

	mu      sync.Mutex // guards what follows
	current *conn      // the newest; an older one that is still closing decides nothing
	parsed  []parsed   // the most recently used last
	told    string     // the pushed document that Pushed was told last, good or bad; "": none
	usable  *serviceconfig.ParseResult
}

// parsed is a service config that gRPC has parsed, and what it was made of: gRPC does not tell later.
type parsed struct {
	result *serviceconfig.ParseResult
	raw    string
}

// maxParsed bounds how many service configs are remembered. A resolver uses the newest, and after idle mode
// maybe the one it used last.
const maxParsed = 8

// remember notes what a result was parsed from.
func (ch *Channel) remember(r *serviceconfig.ParseResult, raw string) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if len(ch.parsed) == maxParsed {
		ch.parsed = append(ch.parsed[:0], ch.parsed[1:]...)
	}
	ch.parsed = append(ch.parsed, parsed{r, raw})
}

// raw returns what a result was parsed from, and whether it was parsed here at all; mu is held.
func (ch *Channel) raw(r *serviceconfig.ParseResult) (string, bool) {
	for i, p := range ch.parsed {
		if p.result == r {
			copy(ch.parsed[i:], ch.parsed[i+1:])
			ch.parsed[len(ch.parsed)-1] = p
			return p.raw, true
		}
	}
	return "", false
}

// take decides what a service config of the resolver means for a channel that follows pushed documents: what
// gRPC is to be given (nil: what the hub has), and what Pushed is to be told.
func (ch *Channel) take(target string, sc *serviceconfig.ParseResult) (give *serviceconfig.ParseResult, tell func()) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	raw, ours := "", false
	if sc != nil {
		raw, ours = ch.raw(sc)
	}
	if !ours { // nothing, or one that the resolver made itself and that holds no document
		withdrawn := ch.told != ""
		ch.told, ch.usable = "", nil
		if withdrawn {
			tell = func() { ch.Pushed(nil, nil) }
		}
		return sc, tell
	}
	news := raw != ch.told
	ch.told = raw
	if sc.Err == nil {
		ch.usable = sc
	}
	if news {
		d, err := document.Read("service config of "+target, []byte(raw), document.Lenient())
		if sc.Err != nil {
			if err == nil {
				err = Check(d)
			}
			if err == nil {
				err = sc.Err
			}
			d = nil
		}
		tell = func() { ch.Pushed(d, err) }
	}
	return ch.usable, tell
}

// usableOf returns what take has decided for a service config before.
func (ch *Channel) usableOf(sc *serviceconfig.ParseResult) *serviceconfig.ParseResult {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if _, ours := ch.raw(sc); ours {
		return ch.usable
	}
	return sc
}
