package breaker

import (
	"time"

	"github.com/grpcsteady/steady/balancer/window"
)

// sources counts failures by the endpoint they came from, so that the failure ratio can be taken without the
// worst one: whether a service is well is not for a single endpoint of several to say, however many of the calls it
// happens to get, as the first that is connected to, or the last. Guarded by Breaker.mu; only failures get here.
type sources struct{ list []source }

// source is one endpoint. Times are offsets (see Breaker.offset).
type source struct {
	name     string
	failures *window.Window
	since    int64 // its first failure that no failure came before within a window
	last     int64
}

// maxSources bounds what is remembered. With more sick endpoints than that the service is not well.
const maxSources = 16

// add counts a failure of one endpoint among several. What came from anywhere, or from the only one there is, is the
// service's own.
func (s *sources) add(now time.Time, at int64, o *Outcome, span time.Duration, buckets int) {
	if o.Source == "" || o.Everywhere || o.Sources < 2 {
		return
	}
	x := s.find(o.Source, at, span)
	if x == nil {
		return
	}
	if x.failures == nil || at-x.last >= int64(span) {
		x.failures, x.since = window.NewSingle(span, buckets), at
	}
	x.last = at
	x.failures.Add(now, 0)
}

// find returns the place of an endpoint, in place of one that has not failed for a window if need be, or nil.
func (s *sources) find(name string, at int64, span time.Duration) *source {
	var old *source
	for i := range s.list {
		switch x := &s.list[i]; {
		case x.name == name:
			return x
		case at-x.last >= int64(span):
			old = x
		}
	}
	switch {
	case len(s.list) < maxSources:
		s.list = append(s.list, source{name: name})
		return &s.list[len(s.list)-1]
	case old != nil:
		*old = source{name: name}
	}
	return old
}

// worst returns the most failures that a single endpoint has in the window. One that has gone on failing for longer
// than a window is no accident any more, and nobody has taken it out: it counts like all others.
func (s *sources) worst(now time.Time, at int64, span time.Duration) int64 {
	most := int64(0)
	for i := range s.list {
		if x := &s.list[i]; at-x.last < int64(span) && at-x.since < int64(span) {
			most = max(most, x.failures.Sum(now).Total())
		}
	}
	return most
}
