package document

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Defaults and bounds of watching.
const (
	defaultEvery = time.Second
	minEvery     = 10 * time.Millisecond
	maxEvery     = time.Hour

	// settle is how long a file must stay as it is before it counts. One that is being written in place is
	// often a good document all the while, only of fewer rules.
	settle = 100 * time.Millisecond
)

// WatchOption changes how a file is watched.
type WatchOption func(*watcher)

// Since names the document that is in force already: the first look reports only what differs from it. It
// closes the gap between Load and Watch. Default: the first look reports whatever it finds.
func Since(d *Document) WatchOption { return func(w *watcher) { w.since = d } }

// Every sets how long to wait between looks; each wait is up to a tenth longer or shorter at random, so that
// a thousand processes do not read a shared disk in step. Default 1 s, range 10 ms to 1 h.
func Every(d time.Duration) WatchOption { return func(w *watcher) { w.every = d } }

// OnDemand looks at once for each value that now delivers, in addition; a program may send one on SIGHUP.
// A closed channel is as good as none. Default: none.
func OnDemand(now <-chan struct{}) WatchOption { return func(w *watcher) { w.now = now } }

// Reading sets options with which the file is read. Default: none, so strict.
func Reading(opts ...Option) WatchOption {
	return func(w *watcher) { w.reading = append(w.reading, opts...) }
}

// Random sets where the jitter of Every comes from: numbers from 0 up to, but not including, 1. Default:
// math/rand/v2.
func Random(f func() float64) WatchOption {
	return func(w *watcher) {
		if f != nil {
			w.random = f
		}
	}
}

// Watch follows the file at path until ctx ends, and then returns nil; it returns an error at once if an
// option is out of range. Each time the file has become another good document, report is called with it. If
// the file can't be read, or is no good document, report is called once with the error: what was in force
// stays in force, and the file goes on being watched.
//
// It finds every way a file is changed: written in place, replaced by a rename, deleted and made anew, and
// the swapped links of a Kubernetes ConfigMap. The first look counts at once, a change when the file has
// been the same for 100 ms.
//
// report is called from within Watch, which starts no goroutine; nothing is read while it runs.
func Watch(ctx context.Context, path string, report func(*Document, error), opts ...WatchOption) error {
	w := &watcher{}
	for _, o := range opts {
		o(w) // for what Reading says
	}
	tell := func(l look) {
		if l.err != nil {
			report(nil, l.err)
			return
		}
		report(Read(path, l.data, w.reading...))
	}
	if report == nil {
		tell = nil
	}
	return watch(ctx, path, tell, opts)
}

func watch(ctx context.Context, path string, tell func(look), opts []WatchOption) error {
	w := &watcher{path: path, every: defaultEvery, random: rand.Float64}
	for _, o := range opts {
		o(w)
	}
	if w.every < minEvery || w.every > maxEvery {
		return fmt.Errorf("document: Every is %v, want %v to %v", w.every, minEvery, maxEvery)
	}
	if tell == nil {
		return errors.New("document: Watch has no function to report to")
	}
	w.follow(ctx, tell)
	return nil
}

// watcher follows one file. It belongs to the goroutine that is in Watch.
type watcher struct {
	path    string
	every   time.Duration
	now     <-chan struct{}
	since   *Document
	reading []Option
	random  func() float64
}

// look is what was found at the path: bytes, or why there are none.
//
// Bytes are compared, not times and inodes: a file can change within the granule of its modification time
// and keep its size, and reading at most 1 MiB a second is nothing.
type look struct {
	data []byte
	err  error
}

func (w *watcher) look() look {
	data, err := readFile(w.path)
	return look{data, err}
}

func (l look) same(other look) bool {
	if l.err != nil || other.err != nil {
		return l.err != nil && other.err != nil && l.err.Error() == other.err.Error()
	}
	return bytes.Equal(l.data, other.data)
}

func (w *watcher) follow(ctx context.Context, tell func(look)) {
	timer := time.NewTimer(w.every)
	defer timer.Stop()
	told := w.look()
	if w.since == nil || told.err != nil || sha256.Sum256(told.data) != w.since.sum {
		tell(told)
	}
	last := told
	for ctx.Err() == nil {
		wait := w.every + time.Duration((w.random()*2-1)/10*float64(w.every))
		if !last.same(told) {
			wait = min(settle, w.every)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case _, open := <-w.now:
			if !open {
				w.now = nil
			}
		case <-timer.C:
			if next := w.look(); !next.same(last) {
				last = next // and wait until it stays so
				continue
			}
			if !last.same(told) {
				told = last
				tell(told)
			}
			continue
		}
		// Asked for: one look, which counts once it has settled.
		last = w.look()
	}
}
