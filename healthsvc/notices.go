package healthsvc

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// maxNotices bounds the events that wait for an observer.
const maxNotices = 1024

// notices hands events to observers in order, on a goroutine that exists only while there are some. So what
// observers do, or fail to do, reaches no check: one that panics or calls Goexit costs the event it was told of,
// one that blocks costs what does not find room behind it.
type notices struct {
	observers []Observer // never changes

	mu       sync.Mutex
	waiting  []Event
	running  bool
	lost     uint64
	panicked sync.Once
	quiet    chan struct{} // closed when the goroutine ends; nil while nobody waits for that
}

// tell queues an event. It may be called with other locks held, which is how events keep their order.
func (n *notices) tell(e Event) {
	if len(n.observers) == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.waiting) >= maxNotices {
		n.lost++
		return
	}
	n.waiting = append(n.waiting, e)
	n.begin()
}

// begin needs mu.
func (n *notices) begin() {
	if !n.running {
		n.running = true
		go n.deliver()
	}
}

// deliver ends when nothing waits any more. If an observer calls Goexit, what waits behind the event begins a
// goroutine of its own.
func (n *notices) deliver() {
	over := false
	defer func() {
		if over {
			return
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.running = false; len(n.waiting) > 0 {
			n.begin()
			return
		}
		n.rest()
	}()
	for {
		n.mu.Lock()
		if len(n.waiting) == 0 {
			n.waiting, n.running, over = nil, false, true
			n.rest()
			n.mu.Unlock()
			return
		}
		e := n.waiting[0]
		n.waiting[0] = nil
		n.waiting = n.waiting[1:]
		n.mu.Unlock()
		for _, o := range n.observers {
			n.observe(o, e)
		}
	}
}

// rest needs mu.
func (n *notices) rest() {
	if n.quiet != nil {
		close(n.quiet)
		n.quiet = nil
	}
}

// flush waits until nothing waits any more, for a second at most: an observer that hangs keeps nobody from
// ending.
func (n *notices) flush() {
	n.mu.Lock()
	if !n.running {
		n.mu.Unlock()
		return
	}
	if n.quiet == nil {
		n.quiet = make(chan struct{})
	}
	quiet := n.quiet
	n.mu.Unlock()
	limit := time.NewTimer(time.Second)
	defer limit.Stop()
	select {
	case <-quiet:
	case <-limit.C:
	}
}

// observe keeps a panic away from the observers behind it, and says once that there was one.
func (n *notices) observe(o Observer, e Event) {
	defer func() {
		if r := recover(); r != nil {
			n.panicked.Do(func() {
				slog.Error("healthsvc: an observer panicked, further panics are not logged", "event", fmt.Sprintf("%T", e), "panic", r)
			})
		}
	}()
	o.Observe(e)
}

func (n *notices) lostEvents() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lost
}
