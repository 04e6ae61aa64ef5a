package steady

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grpcsteady/steady/interceptors/deadline"
)

// watchdog ends a leg that lets the application wait for too long: for its first message, for the next one, or
// in a SendMsg. It has one timer and no goroutine. Messages do not touch the timer, nor do they read the clock
// but for the first few between two of its ticks; the timer looks at what they have counted, an eighth of the
// limit apart.
type watchdog struct {
	leg  *leg
	asks bool // the application may send more than one message

	first, idle, write time.Duration // the limits; zero: none

	start    time.Time // when the leg was opened; times below are since then
	receives waits     // once the first message is there
	sends    waits
	sent     atomic.Int64 // when a message was sent last while somebody waited for the first answer, plus 1; 0: nothing was sent

	mu      sync.Mutex // guards what follows
	timer   *time.Timer
	stopped bool
	opening bool // gRPC is still opening the leg
	waiting int  // calls that wait for the first answer: RecvMsg and Header
	since   time.Duration
}

const (
	parts = 8  // a limit is looked after so often: a cut comes at most one such part too late
	notes = 64 // and not at all too late where fewer messages than this come in one part
)

// guard gives a leg that is about to be opened what it needs to be ended: a watchdog, if its rule has limits for
// it, and a context of its own, if another leg may take its place or the watchdog may end it. It returns the
// context for gRPC.
func (l *leg) guard() context.Context {
	c, t := &l.s.call, l.try
	ctx := context.Context(t.wire)
	limited := c.rule.limitsStreams()
	if l.s.keeps || limited && c.rule.mode == ModeEnforce {
		l.ctx = newLegContext(t.wire)
		ctx = l.ctx.given
	}
	if limited {
		l.watch(c.rule.Deadline)
	}
	return ctx
}

// limitsStreams reports whether the rule has limits for streams.
func (r *compiled) limitsStreams() bool {
	return r.deadline && (r.Deadline.FirstMessage > 0 || r.Deadline.Idle > 0 || r.Deadline.Send > 0)
}

// watch starts the watchdog of a leg. What it looks at is there.
func (l *leg) watch(cfg *deadline.Config) {
	d := &watchdog{
		leg: l, asks: l.s.desc.ClientStreams, first: max(cfg.FirstMessage, 0), idle: cfg.Idle, write: cfg.Send,
		start: time.Now(), opening: true,
	}
	tick := d.tick()
	if d.first > 0 && (tick == 0 || d.first < tick) {
		tick = d.first
	}
	d.receives.note.Store(notes)
	d.sends.note.Store(notes)
	l.dog = d
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timer = time.AfterFunc(tick, d.fire)
}

// tick returns how often to look at what messages have counted; 0: never.
func (d *watchdog) tick() time.Duration {
	switch tick := min(d.idle, d.write); {
	case d.idle == 0 && d.write == 0:
		return 0
	case tick == 0:
		return max(max(d.idle, d.write)/parts, 1)
	default:
		return max(tick/parts, 1)
	}
}

// opened notes that gRPC has opened the leg.
func (d *watchdog) opened() {
	d.mu.Lock()
	d.opening = false
	d.mu.Unlock()
}

func (d *watchdog) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = true
	d.timer.Stop()
}

// enter notes that the application waits for the first answer, and leave that it does no longer.
func (d *watchdog) enter() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting++; d.waiting == 1 {
		d.since = time.Since(d.start)
	}
}

func (d *watchdog) leave() {
	d.mu.Lock()
	d.waiting--
	d.mu.Unlock()
}

// asked notes that the application has sent something before it had an answer: the server may have been waiting
// for just that.
func (d *watchdog) asked() {
	if d.first == 0 || !d.asks || d.leg.answered() {
		return
	}
	d.mu.Lock()
	waiting := d.waiting > 0
	d.mu.Unlock()
	if waiting || d.sent.Load() == 0 {
		d.sent.Store(1 + int64(time.Since(d.start)))
	}
}

// fire looks after the leg, and decides when to do so again.
func (d *watchdog) fire() {
	d.mu.Lock()
	if d.stopped {
		d.mu.Unlock()
		return
	}
	now := time.Since(d.start)
	next, found := time.Duration(0), (*cut)(nil)
	look := func(due, limit, tick time.Duration, origin deadline.Origin, what string) {
		if due <= now {
			if found == nil {
				found = newCut(origin, limit, what)
			}
			return
		}
		if wait := min(due-now, tick); next == 0 || wait < next {
			next = wait
		}
	}
	if d.first > 0 && !d.leg.answered() {
		look(d.firstDue(now), d.first, d.first, deadline.OriginFirstMessage, "no response message")
	}
	if d.idle > 0 {
		look(d.receives.due(now, d.idle), d.idle, d.tick(), deadline.OriginIdle, "no further response message")
	}
	if d.write > 0 {
		look(d.sends.due(now, d.write), d.write, d.tick(), deadline.OriginSend, "a message could not be sent")
	}
	if found == nil {
		if next > 0 {
			d.timer.Reset(next)
		}
		d.mu.Unlock()
		return
	}
	d.stopped = true
	d.mu.Unlock()
	d.leg.outOfTime(found, d.start.Add(now))
}

// firstDue returns when the first message is overdue, as far as can be told now. Nobody waits for it while the
// application does something else: it may have arrived long ago. mu is held.
func (d *watchdog) firstDue(now time.Duration) time.Duration {
	sent := time.Duration(d.sent.Load())
	switch {
	case d.opening:
		return d.first
	case d.asks && (sent == 0 || d.waiting == 0):
		return now + d.first
	case d.asks:
		return max(sent-1, d.since) + d.first
	case d.waiting == 0:
		return max(d.first, now+d.first/parts+1)
	default:
		return max(d.first, d.since+d.first/parts)
	}
}

// waits counts the calls of one kind, of which there is one at a time.
type waits struct {
	turns atomic.Uint64 // odd: one is under way
	note  atomic.Int32  // so many of the next ones are to note when they began
	noted atomic.Uint64 // which one did last
	at    atomic.Int64  // and when

	// The timer's own.
	seen  uint64        // turns at the last look
	since time.Duration // when it was first seen so
}

func (w *waits) begin(start time.Time) {
	n := w.turns.Load() + 1
	if left := w.note.Load(); left > 0 {
		w.note.Store(left - 1)
		w.at.Store(int64(time.Since(start)))
		w.noted.Store(n)
	}
	w.turns.Store(n)
}

func (w *waits) end() { w.turns.Store(w.turns.Load() + 1) }

// due returns when the call that is under way, or else the next one, is overdue, as far as can be told now. Of a
// call that did not note its beginning it is known only that it came after the last look.
func (w *waits) due(now, limit time.Duration) time.Duration {
	n := w.turns.Load()
	w.note.Store(notes)
	switch {
	case n%2 == 0:
		return now + limit
	case w.noted.Load() == n:
		return time.Duration(w.at.Load()) + limit
	case w.seen != n:
		w.seen, w.since = n, now
	}
	return w.since + limit
}
