package kube

import (
	"fmt"
	"sync"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// store holds all EndpointSlices of a service. client-go's reflector fills it; the publisher reads it.
type store struct {
	changed chan struct{} // holds one token while there is something new

	mu     sync.Mutex // guards what follows
	synced bool       // a whole list has arrived
	slices map[string]*discoveryv1.EndpointSlice
}

func newStore() *store {
	return &store{changed: make(chan struct{}, 1), slices: map[string]*discoveryv1.EndpointSlice{}}
}

// all returns the slices, which nobody changes any more, and whether there was a list.
func (s *store) all() ([]*discoveryv1.EndpointSlice, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*discoveryv1.EndpointSlice, 0, len(s.slices))
	for _, x := range s.slices {
		out = append(out, x)
	}
	return out, s.synced
}

func (s *store) change(obj any, do func(*discoveryv1.EndpointSlice)) error {
	x, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return fmt.Errorf("%T, want an EndpointSlice", obj)
	}
	s.mu.Lock()
	do(x)
	s.mu.Unlock()
	s.tell()
	return nil
}

func (s *store) tell() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Add takes a slice that the watch brings.
func (s *store) Add(obj any) error {
	return s.change(obj, func(x *discoveryv1.EndpointSlice) { s.slices[x.Name] = x })
}

// Update takes a slice that has changed.
func (s *store) Update(obj any) error { return s.Add(obj) }

// Delete takes away a slice that is gone or has another label now.
func (s *store) Delete(obj any) error {
	return s.change(obj, func(x *discoveryv1.EndpointSlice) { delete(s.slices, x.Name) })
}

// Replace takes a whole list.
func (s *store) Replace(list []any, _ string) error {
	slices := make(map[string]*discoveryv1.EndpointSlice, len(list))
	for _, obj := range list {
		x, ok := obj.(*discoveryv1.EndpointSlice)
		if !ok {
			return fmt.Errorf("%T, want an EndpointSlice", obj)
		}
		slices[x.Name] = x
	}
	s.mu.Lock()
	s.slices, s.synced = slices, true
	s.mu.Unlock()
	s.tell()
	return nil
}

// Resync is never asked for: everything is here.
func (*store) Resync() error { return nil }
