package file

import (
	"context"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/grpcsteady/steady/proto/document"
	"github.com/grpcsteady/steady/resolver/internal/publish"
)

type builder struct {
	settings
	err error
}

func (builder) Scheme() string { return Scheme }

// OverrideAuthority names the channel after the file, orders for /etc/orders.yaml: a path is no authority that a
// server takes. grpc.WithAuthority says something better.
func (builder) OverrideAuthority(t resolver.Target) string {
	name := path.Base(t.Endpoint())
	name = strings.TrimSuffix(name, path.Ext(name))
	for i := range len(name) {
		if c := name[i]; c != '-' && c != '_' && c != '.' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return "localhost"
		}
	}
	if strings.Trim(name, ".") == "" {
		return "localhost"
	}
	return name
}

// Build starts to follow the file of the target. A target that names none is an error; gRPC hands it to every call.
func (b builder) Build(target resolver.Target, cc resolver.ClientConn, opts resolver.BuildOptions) (resolver.Resolver, error) {
	if b.err != nil {
		return nil, b.err
	}
	name, err := pathOf(target)
	if err != nil {
		return nil, err
	}
	r := &watcher{
		outlet:  publish.Open(cc, target.String(), b.random, b.onError),
		configs: !opts.DisableServiceConfig,
		now:     make(chan struct{}, 1), ended: make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() {
		defer close(r.ended)
		err := document.WatchEndpoints(ctx, name, r.report, document.Every(b.every), document.OnDemand(r.now), document.Random(b.random))
		if err != nil { // an option out of range, which Builder has checked
			r.outlet.Fail(fmt.Errorf("file: %w", err))
		}
	}()
	return r, nil
}

func pathOf(t resolver.Target) (string, error) {
	u := t.URL
	bad := func(format string, args ...any) (string, error) {
		return "", fmt.Errorf("file: target %s: "+format, append([]any{t.String()}, args...)...)
	}
	switch {
	case u.Host != "" && u.Host != "localhost" || u.User != nil:
		return bad("names the host %q, want file:///path", u.Host)
	case u.RawQuery != "" || u.ForceQuery:
		return bad("has a query, ?%s; a question mark of the path is written %%3F", u.RawQuery)
	case u.Fragment != "":
		return bad("has a fragment, #%s; a number sign of the path is written %%23", u.Fragment)
	}
	name := u.Path
	if name == "" {
		name = u.Opaque
	}
	if strings.Trim(name, "/") == "" {
		return bad("names no file, want file:///path")
	}
	return name, nil
}

// watcher is one resolver. Its goroutine is in document.WatchEndpoints, and its outlet hands on.
type watcher struct {
	outlet  *publish.Outlet
	configs bool // the channel takes service configs
	cancel  context.CancelFunc
	now     chan struct{} // one value: gRPC wants to know
	ended   chan struct{}

	mu    sync.Mutex // guards asked
	asked time.Time  // when gRPC's wish was last passed on
}

func (w *watcher) report(e *document.Endpoints, err error) {
	if err != nil {
		w.outlet.Fail(fmt.Errorf("file: %w", err))
		return
	}
	s := publish.State{Endpoints: publish.Endpoints(e.List)}
	if e.Document != nil && w.configs {
		s.Config, s.Plain = e.DocumentJSON(), e.Document.ForGRPC()
	}
	w.outlet.Publish(s, nil)
}

// hurry is how often gRPC's wishes are passed on at most: with each the file has to settle anew.
const hurry = time.Second

// ResolveNow looks at once. Of many within a second the first counts.
func (w *watcher) ResolveNow(resolver.ResolveNowOptions) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.asked.IsZero() && time.Since(w.asked) < hurry {
		return
	}
	w.asked = time.Now()
	select {
	case w.now <- struct{}{}:
	default:
	}
}

// Close ends the resolver.
func (w *watcher) Close() {
	w.cancel()
	<-w.ended
	w.outlet.Close()
}
