package kube_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/grpcsteady/steady/interceptors/steadytest"
)

// apiServer is as much of an API server as a watch of EndpointSlices needs, in memory: lists, watches that start
// at a version, and the ways in which they fail.
type apiServer struct {
	t       *testing.T
	network *steadytest.Network
	srv     *http.Server
	served  chan struct{}

	mu       sync.Mutex
	version  int
	slices   map[string]*discoveryv1.EndpointSlice
	events   []event
	oldest   int           // versions before it are gone
	changed  chan struct{} // closed at the next event
	cut      chan struct{} // closed to break off all watches
	refuse   map[string]int
	hang     bool
	requests []url.Values // of lists and watches
}

type event struct {
	version int
	kind    string
	slice   *discoveryv1.EndpointSlice
}

const apiAddr = "api:80"

func newAPIServer(t *testing.T, n *steadytest.Network) *apiServer {
	a := &apiServer{
		t: t, network: n, version: 1, slices: map[string]*discoveryv1.EndpointSlice{},
		changed: make(chan struct{}), cut: make(chan struct{}), refuse: map[string]int{},
	}
	a.start()
	t.Cleanup(a.stop)
	return a
}

func (a *apiServer) start() {
	lis, err := a.network.Listen(apiAddr)
	if err != nil {
		a.t.Fatal(err)
	}
	a.srv, a.served = &http.Server{Handler: a}, make(chan struct{})
	go func() {
		defer close(a.served)
		_ = a.srv.Serve(lis)
	}()
}

// stop is a kill: connections break.
func (a *apiServer) stop() {
	if a.srv == nil {
		return
	}
	_ = a.srv.Close()
	<-a.served
	a.srv = nil
	synctest.Wait()
}

func (a *apiServer) config() *rest.Config {
	return &rest.Config{
		Host:  "http://" + apiAddr,
		Dial:  func(ctx context.Context, _, addr string) (net.Conn, error) { return a.network.Dial(ctx, addr) },
		Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
	}
}

// set writes slices; one with other labels than before is another.
func (a *apiServer) set(all ...*discoveryv1.EndpointSlice) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range all {
		kind := "MODIFIED"
		if a.slices[s.Name] == nil {
			kind = "ADDED"
		}
		a.event(kind, s)
		a.slices[s.Name] = s
	}
}

func (a *apiServer) remove(names ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range names {
		a.event("DELETED", a.slices[n])
		delete(a.slices, n)
	}
}

// event needs mu.
func (a *apiServer) event(kind string, s *discoveryv1.EndpointSlice) {
	a.version++
	s.ResourceVersion = strconv.Itoa(a.version)
	a.events = append(a.events, event{a.version, kind, s.DeepCopy()})
	close(a.changed)
	a.changed = make(chan struct{})
}

// breakWatches ends all watches as a connection ends; gone: and forgets what they could go on from.
func (a *apiServer) breakWatches(gone bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if gone {
		a.version++
		a.oldest, a.events = a.version, nil
	}
	close(a.cut)
	a.cut = make(chan struct{})
}

// fail has lists or watches (verb "list" or "watch") answered with an HTTP status; 0: no longer.
func (a *apiServer) fail(verb string, status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refuse[verb] = status
}

func (a *apiServer) slow(hang bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hang = hang
}

// count returns how many lists and watches were asked for.
func (a *apiServer) count() (lists, watches int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, q := range a.requests {
		if q.Get("watch") != "" {
			watches++
		} else {
			lists++
		}
	}
	return lists, watches
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	q := req.URL.Query()
	verb := "list"
	if q.Get("watch") != "" {
		verb = "watch"
	}
	namespace, ok := strings.CutPrefix(req.URL.Path, "/apis/discovery.k8s.io/v1/namespaces/")
	namespace, ok2 := strings.CutSuffix(namespace, "/endpointslices")
	service, ok3 := strings.CutPrefix(q.Get("labelSelector"), discoveryv1.LabelServiceName+"=")
	a.mu.Lock()
	a.requests = append(a.requests, q)
	status, hang, oldest := a.refuse[verb], a.hang, a.oldest
	a.mu.Unlock()
	from, _ := strconv.Atoi(q.Get("resourceVersion"))
	switch {
	case !ok || !ok2 || !ok3:
		a.t.Errorf("the API server is asked for %s", req.URL)
		status = http.StatusNotFound
	case status != 0:
	case hang:
		<-req.Context().Done()
		return
	case verb == "watch" && from < oldest:
		status = http.StatusGone
	}
	w.Header().Set("Content-Type", "application/json")
	if status != 0 {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(refusal(verb, namespace, status))
		return
	}
	mine := func(s *discoveryv1.EndpointSlice) bool {
		return s.Namespace == namespace && s.Labels[discoveryv1.LabelServiceName] == service
	}
	if verb == "watch" {
		a.watch(w, req, from, mine)
		return
	}
	list := discoveryv1.EndpointSliceList{TypeMeta: metav1.TypeMeta{Kind: "EndpointSliceList", APIVersion: "discovery.k8s.io/v1"}}
	a.mu.Lock()
	list.ResourceVersion = strconv.Itoa(a.version)
	for _, s := range a.slices {
		if mine(s) {
			list.Items = append(list.Items, *s.DeepCopy())
		}
	}
	a.mu.Unlock()
	_ = json.NewEncoder(w).Encode(list)
}

func (a *apiServer) watch(w http.ResponseWriter, req *http.Request, from int, mine func(*discoveryv1.EndpointSlice) bool) {
	a.mu.Lock()
	cut := a.cut
	a.mu.Unlock()
	enc := json.NewEncoder(w)
	for {
		a.mu.Lock()
		gone := from < a.oldest
		events, changed := slices.Clone(a.events), a.changed
		a.mu.Unlock()
		if gone { // an error in the middle of the stream
			_ = enc.Encode(map[string]any{"type": "ERROR", "object": refusal("watch", "", http.StatusGone)})
			return
		}
		for _, e := range events {
			if e.version <= from {
				continue
			}
			from = e.version
			if mine(e.slice) {
				_ = enc.Encode(map[string]any{"type": e.kind, "object": e.slice})
			}
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-changed:
		case <-cut:
			return
		case <-req.Context().Done():
			return
		}
	}
}

func refusal(verb, namespace string, status int) metav1.Status {
	s := metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(status),
		Message: http.StatusText(status),
	}
	switch status {
	case http.StatusForbidden:
		s.Reason = metav1.StatusReasonForbidden
		s.Message = `endpointslices.discovery.k8s.io is forbidden: User "system:serviceaccount:web:default" cannot ` + verb +
			` resource "endpointslices" in API group "discovery.k8s.io" in the namespace "` + namespace + `"`
	case http.StatusGone:
		s.Reason = metav1.StatusReasonExpired
	case http.StatusTooManyRequests:
		s.Reason = metav1.StatusReasonTooManyRequests
	case http.StatusServiceUnavailable:
		s.Reason = metav1.StatusReasonServiceUnavailable
	}
	return s
}
