package steadytest

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// keepCalls bounds what a replica remembers: at twice as many records the older half goes.
const keepCalls = 100_000

// Replica is one server of a [Fleet]: a real grpc.Server behind a name of the fleet's network. Its methods
// may be called from any goroutine, while calls are under way.
type Replica struct {
	name  string
	fleet *Fleet

	// life serializes what starts and stops servers. It is held over grpc.Server.Stop, which finds no
	// connection left to wait for and does not wait for handlers, so no virtual time passes under it.
	life    sync.Mutex
	current *server   // the one that listens; nil: none
	running []*server // current, and those that still drain

	script atomic.Pointer[Script]

	mu       sync.Mutex // guards the rest; held for moments only
	number   int
	records  []*Record
	counts   map[codes.Code]int
	seen     int
	inFlight int
	idle     chan struct{} // closed when inFlight falls to 0; nil while nobody waits
}

// server is one life of a replica.
type server struct {
	*grpc.Server
	lis  *listener
	done sync.WaitGroup // Serve and GracefulStop
}

// Name returns the replica's name, which is also its address.
func (r *Replica) Name() string { return r.name }

// Behave makes calls that arrive from now on follow the script; nil is [Healthy]. It survives restarts.
func (r *Replica) Behave(s Script) { r.script.Store(&s) }

// Start brings the replica back to where clients can call it, from Crash, Down, Drain or BlackHole. On one
// that serves it does nothing. A restarted replica is a new grpc.Server with the same services.
func (r *Replica) Start() {
	r.life.Lock()
	defer r.life.Unlock()
	r.fleet.network.Heal(r.name)
	if r.current != nil {
		return
	}
	lis, err := r.fleet.network.listen(r.name)
	if err != nil {
		r.fleet.tb.Errorf("steadytest: start %s: %v", r.name, err)
		return
	}
	srv := &server{Server: grpc.NewServer(r.serverOptions()...), lis: lis}
	r.fleet.register(r, srv)
	// Serve ends with the listener, which only this package closes, so its error says nothing new.
	srv.done.Go(func() { _ = srv.Serve(lis) })
	r.current, r.running = srv, append(r.running, srv)
}

// Crash ends the replica as a killed machine does: its connections are reset, calls in flight fail, their
// contexts end, and new connections are refused until Start. What the replica recorded stays.
func (r *Replica) Crash() {
	r.life.Lock()
	defer r.life.Unlock()
	r.fleet.network.Refuse(r.name) // no new connection between the cut and the stop
	r.fleet.network.Cut(r.name)
	r.stop()
}

// Down ends the replica as a process that exits at once: clients read the end of their connections instead
// of a reset. Otherwise it is like Crash.
func (r *Replica) Down() {
	r.life.Lock()
	defer r.life.Unlock()
	r.fleet.network.Refuse(r.name)
	r.fleet.network.hangUp(r.name)
	r.stop()
}

// stop needs life.
func (r *Replica) stop() {
	for _, srv := range r.running {
		srv.Stop()
		srv.done.Wait()
	}
	r.current, r.running = nil, nil
}

// Drain ends the replica as a good server does: it stops listening, asks its clients by GOAWAY to go
// elsewhere, and lets calls in flight end. The channel is closed when the last one has; one that hangs keeps
// it open until Crash, Down or the end of the test. On a replica that does not listen it is closed already.
func (r *Replica) Drain() <-chan struct{} {
	r.life.Lock()
	defer r.life.Unlock()
	drained := make(chan struct{})
	srv := r.current
	if srv == nil {
		close(drained)
		return drained
	}
	r.current = nil
	srv.done.Go(func() {
		defer close(drained)
		srv.GracefulStop()
	})
	<-srv.lis.closed // the name is free for a Start that follows
	return drained
}

// BlackHole makes the replica fall silent without ending anything: see [Network.BlackHole]. Start heals it.
func (r *Replica) BlackHole() { r.fleet.network.BlackHole(r.name) }

// Calls returns what the replica saw, in order of arrival: the newest 100,000 calls at least. Calls to
// services of gRPC itself (health, reflection) are left out, as [AllMethods] explains.
func (r *Replica) Calls() []Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := make([]Record, len(r.records))
	for i, rec := range r.records {
		calls[i] = *rec
	}
	return calls
}

// Count returns how many calls the replica saw since the last Forget, or, with codes, how many of them ended
// with one of those.
func (r *Replica) Count(cs ...codes.Code) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(cs) == 0 {
		return r.seen
	}
	n := 0
	for code, count := range r.counts {
		if slices.Contains(cs, code) {
			n += count
		}
	}
	return n
}

// InFlight returns how many calls the replica is working on.
func (r *Replica) InFlight() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inFlight
}

// Forget empties Calls and Count. Calls in flight are counted with their code when they end.
func (r *Replica) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records, r.counts, r.seen = nil, nil, 0
}

// arrive gives the call its number and writes it down.
func (r *Replica) arrive(c Call) *liveCall {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.number++
	r.seen++
	r.inFlight++
	c.Number = r.number
	if len(r.records) >= 2*keepCalls {
		r.records = slices.Clone(r.records[keepCalls:])
	}
	live := &liveCall{call: c, record: &Record{Call: c}}
	r.records = append(r.records, live.record)
	live.call.rand, live.call.live = newRand(r.fleet.seed, r.name, c.Number), live
	return live
}

// end writes down what became of a call.
func (r *Replica) end(live *liveCall, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := live.record
	rec.Ended, rec.Err, rec.Code, rec.Took = true, err, codeOf(err), time.Since(rec.Arrived)
	if r.counts == nil {
		r.counts = map[codes.Code]int{}
	}
	r.counts[rec.Code]++
	if r.inFlight--; r.inFlight == 0 && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
}

// close ends the replica for good and waits for its handlers and drains.
func (r *Replica) close() {
	r.Down()
	r.mu.Lock()
	idle := make(chan struct{})
	if r.inFlight == 0 {
		close(idle)
	} else {
		r.idle = idle
	}
	r.mu.Unlock()
	<-idle
}
