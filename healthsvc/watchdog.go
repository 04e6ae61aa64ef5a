package healthsvc

import (
	"fmt"
	"sync/atomic"
	"time"
)

// maxDogs bounds the watchdogs of a program, which are few by their nature.
const maxDogs = 1000

// A Watchdog takes liveness down when it is not fed in time. It is for what only a restart mends, such as a
// main loop that hangs: feed it from that loop, and never from what waits for a dependency, or an outage of
// that restarts all who wait for it.
type Watchdog struct {
	h     *Health
	limit time.Duration
	born  time.Time
	fed   atomic.Int64 // nanoseconds since born
	late  atomic.Bool
	timer *time.Timer

	dogState // Health.mu guards it
}

// Watchdog makes a watchdog that must be fed at least every limit, from now on. The error is about a name that
// is taken or too long, or a limit outside 10 ms to 24 h.
func (h *Health) Watchdog(name string, limit time.Duration) (*Watchdog, error) {
	var f findings
	f.name("watchdog", name)
	f.span(fmt.Sprintf("watchdog %q: limit", name), limit, minInterval, 24*time.Hour)
	if err := f.err(); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return nil, ErrStopping
	case h.dogs[name] != nil:
		return nil, fmt.Errorf("healthsvc: watchdog is %q, want a name that is not taken", name)
	case len(h.dogs) >= maxDogs:
		return nil, fmt.Errorf("healthsvc: there are %d watchdogs, want at most so many", maxDogs)
	}
	now := time.Now()
	w := &Watchdog{h: h, limit: limit, born: now, dogState: dogState{name: name, since: now}}
	h.dogs[name] = w
	w.timer = time.AfterFunc(limit, w.look)
	h.publish("watchdog "+name+" added", now)
	return w, nil
}

// Feed tells that all is well. It costs a few nanoseconds and may be called from any goroutine.
func (w *Watchdog) Feed() {
	w.fed.Store(int64(time.Since(w.born)))
	if w.late.Load() {
		w.look()
	}
}

// Remove takes the watchdog away: what it watched has come to its end.
func (w *Watchdog) Remove() {
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	w.timer.Stop()
	if w.h.dogs[w.name] == w {
		delete(w.h.dogs, w.name)
		w.h.publish("watchdog "+w.name+" removed", time.Now())
	}
}

// look runs when the limit may have passed, and when a late one is fed. It says late before it reads fed, and
// Feed the other way round, so that one of both sees the other.
func (w *Watchdog) look() {
	h := w.h
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.dogs[w.name] != w {
		return
	}
	w.late.Store(true)
	now := time.Now()
	left := w.limit - (now.Sub(w.born) - time.Duration(w.fed.Load()))
	stalled := left <= 0
	if !stalled {
		w.late.Store(false)
		w.timer.Reset(left)
	}
	if stalled == w.stalled {
		return
	}
	w.stalled, w.since = stalled, now
	h.notices.tell(&WatchdogChanged{Watchdog: w.name, Stalled: stalled, Limit: w.limit, At: now})
	what := " is fed again"
	if stalled {
		what = " was not fed in time"
	}
	h.publish("watchdog "+w.name+what, now)
}
