package kube_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// slice returns an EndpointSlice of Service orders in namespace shop, with port grpc=50051.
func slice(name string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{Kind: "EndpointSlice", APIVersion: "discovery.k8s.io/v1"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "shop", Labels: map[string]string{discoveryv1.LabelServiceName: "orders"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("grpc"), Port: new(int32(50051))}},
		Endpoints:   endpoints,
	}
}

func annotated(s *discoveryv1.EndpointSlice, key, value string) *discoveryv1.EndpointSlice {
	s.Annotations = map[string]string{key: value}
	return s
}

// pod returns a ready endpoint.
func pod(name, ip string) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		Addresses:  []string{ip},
		Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: name, UID: types.UID("uid-" + name)},
	}
}

func unready(e discoveryv1.Endpoint) discoveryv1.Endpoint {
	e.Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(false), Terminating: new(false)}
	return e
}

func terminating(e discoveryv1.Endpoint) discoveryv1.Endpoint {
	e.Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
	return e
}

// channel stands for a gRPC channel and remembers what a resolver says to it, and when.
type channel struct {
	resolver.ClientConn

	mu     sync.Mutex
	states []resolver.State
	errs   []error
	at     []time.Time // of states
	refuse error
}

func (c *channel) UpdateState(s resolver.State) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.states = append(c.states, s)
	c.at = append(c.at, time.Now())
	return c.refuse
}

func (c *channel) ReportError(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errs = append(c.errs, err)
}

func (*channel) ParseServiceConfig(string) *serviceconfig.ParseResult {
	return &serviceconfig.ParseResult{Err: errors.New("not expected")}
}

func (c *channel) setRefuse(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = err
}

// last returns the last list, as text, and how many there were.
func (c *channel) last() (string, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.states) == 0 {
		return "", 0
	}
	return text(c.states[len(c.states)-1].Endpoints), len(c.states)
}

func (c *channel) want(t *testing.T, list string, updates int) {
	t.Helper()
	if got, n := c.last(); got != list || n != updates {
		t.Errorf("list %q after %d updates, want %q after %d", got, n, list, updates)
	}
}

func (c *channel) errors() []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.errs)
}

func text(all []resolver.Endpoint) string {
	var out []string
	for _, e := range all {
		var addrs []string
		for _, a := range e.Addresses {
			addrs = append(addrs, a.Addr)
		}
		out = append(out, strings.Join(addrs, "+"))
	}
	return strings.Join(out, " ")
}

func build(t *testing.T, b resolver.Builder, target string, cc resolver.ClientConn) resolver.Resolver {
	t.Helper()
	r, err := tryBuild(b, target, cc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func tryBuild(b resolver.Builder, target string, cc resolver.ClientConn) (resolver.Resolver, error) {
	u, err := parse(target)
	if err != nil {
		return nil, err
	}
	return b.Build(resolver.Target{URL: *u}, cc, resolver.BuildOptions{})
}

// told remembers what OnError is told.
type told struct {
	mu   sync.Mutex
	errs []string
}

func (o *told) add(target string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.errs = append(o.errs, fmt.Sprintf("%s|%v", target, err))
}

func (o *told) take() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := o.errs
	o.errs = nil
	return out
}

func deadline(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), time.Minute)
}
