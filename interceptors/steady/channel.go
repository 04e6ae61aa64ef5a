package steady

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
)

// channel is the state of one connection: what a rule set has learned there.
type channel struct {
	out    *Outbound
	of     *binding // nil in tests alone
	cc     *grpc.ClientConn
	name   string
	epoch  time.Time // when the channel began; see now
	budget *retry.Budget
	seen   sightings
	link   atomic.Pointer[link] // to its resolver, once that is known
	replay atomic.Int64         // bytes that streams keep, to send them again

	view   atomic.Pointer[view] // methods under the rules in force
	memory sync.Map             // method -> *memory; outlives the rules

	mu       sync.Mutex // guards what follows, and the building of views
	breakers map[string]*breakerState
	strays   map[string]bool // methods that nobody described and that have state of their own
}

// now reads the clock. time.Since reads only the monotonic one, which takes half the time of time.Now; the
// result is right for comparing and subtracting, while its wall clock is that of the epoch grown older.
func (ch *channel) now() time.Time { return ch.epoch.Add(time.Since(ch.epoch)) }

// view is what a channel makes of one table: each method with its rule and state, found by one look-up.
type view struct {
	table    *table
	near     [nearSlots]atomic.Pointer[method] // some of methods, found by a glance at the name
	methods  sync.Map                          // full method -> *method
	overflow sync.Map                          // *compiled -> *method, for strays beyond the limit
}

// nearSlots is how many methods of a view can be found without hashing their whole name. Each slot is filled once,
// so that two methods of one slot do not drive each other out; the other one is found in the map.
const nearSlots = 128

// nearSlot returns the slot of a method. It looks at those bytes in which the methods of a service differ most.
func nearSlot(name string) uint {
	n := uint(len(name))
	if n < 4 {
		return 0
	}
	return (uint(name[n-1]) + uint(name[n-2])*3 + uint(name[n-4])*5 + n*7) % nearSlots
}

// maxStrays bounds how many methods, known neither from rules nor from descriptors, get state of their own in
// the life of a channel. Those beyond it share one state for each rule.
const maxStrays = 1024

// method is one method of a channel under one rule. It is immutable but for what it points to.
type method struct {
	about   About
	rule    *compiled
	breaker *breaker.Breaker
	memory  *memory
	repeats bool // its descriptor allows retries
	answer  answerFunc
	success successFunc
	idle    bool // there is nothing to do for a call without options of ours
	plain   bool // a call without options for the driver may go the quick way: the rule asks for nothing that is not done there
}

// memory is what is learned of a method whatever the rule.
type memory struct {
	learned  deadline.Learned
	feasible deadline.Feasible
}

// breakerState is a breaker and who reads its changes.
type breakerState struct {
	*breaker.Breaker
	rule    string
	method  string
	observe atomic.Bool // its rule only observes
}

// method returns the state of a method under the rules in force.
func (ch *channel) method(name string, stream bool) *method {
	v := ch.view.Load()
	if v == nil || v.table != ch.rules() {
		v = ch.renew()
	}
	near := &v.near[nearSlot(name)]
	if m := near.Load(); m != nil && m.about.Method == name {
		return m
	}
	if m, ok := v.methods.Load(name); ok {
		return m.(*method)
	}
	m := ch.resolve(v, name, stream)
	if m.about.Method == name { // not one that strays share
		near.CompareAndSwap(nil, m)
	}
	return m
}

// renew makes the view of the newest table and hands the breakers their new thresholds. Breakers whose rule is
// gone are forgotten.
func (ch *channel) renew() *view {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	t := ch.rules() // under the lock, so that nobody goes back to an older one
	if v := ch.view.Load(); v != nil && v.table == t {
		return v
	}
	if err := ch.budget.Update(t.budget); err != nil {
		panic("steady: the budget was checked with its rules: " + err.Error())
	}
	for key, b := range ch.breakers {
		c := t.byName[b.rule]
		if c == nil || c.Breaker == nil || c.PerMethod != (b.method != "") {
			delete(ch.breakers, key)
			continue
		}
		b.observe.Store(c.mode == ModeObserve)
		if err := b.Update(*c.Breaker); err != nil {
			panic("steady: the breaker was checked with its rule: " + err.Error())
		}
	}
	v := &view{table: t}
	ch.view.Store(v)
	return v
}

// resolve builds the state of a method that is called for the first time under a view.
func (ch *channel) resolve(v *view, name string, stream bool) *method {
	rule, named := v.table.match(name)
	descriptor := describe(name)
	known := named || descriptor != nil
	if !known && !ch.admitStray(name) {
		if m, ok := v.overflow.Load(rule); ok {
			return m.(*method)
		}
		m, _ := v.overflow.LoadOrStore(rule, ch.build(rule, "", stream))
		return m.(*method)
	}
	m := ch.build(rule, name, stream)
	m.about.Known = known
	m.repeats = repeatable(descriptor)
	m.answer = ch.out.fallbacks[name]
	m.success = ch.out.successes[name]
	m.idle = m.idle && m.answer == nil && m.success == nil
	found, _ := v.methods.LoadOrStore(name, m)
	return found.(*method)
}

// admitStray reports whether a method that nobody described may have state of its own.
func (ch *channel) admitStray(name string) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.strays[name] {
		return true
	}
	if len(ch.strays) >= maxStrays {
		return false
	}
	if ch.strays == nil {
		ch.strays = make(map[string]bool)
	}
	ch.strays[name] = true
	return true
}

// build makes the state of a method; "" is for the methods that share one.
func (ch *channel) build(rule *compiled, name string, stream bool) *method {
	m := &method{rule: rule, about: About{Channel: ch.name, Method: name, Rule: rule.Name, Stream: stream, Memo: new(Memo)}}
	o := ch.out
	bare := len(o.gates) == 0 && o.faults == nil && o.classifier == nil
	m.idle = bare && rule.Name == noRule && !o.observers.on()
	m.plain = bare && rule.mode == ModeEnforce && (!rule.deadline || rule.Deadline.Feasibility != deadline.FeasibilityAll)
	mem, ok := ch.memory.Load(name)
	if !ok {
		mem, _ = ch.memory.LoadOrStore(name, new(memory))
	}
	m.memory = mem.(*memory)
	if rule.Breaker != nil {
		scope := ""
		if rule.PerMethod {
			scope = name
			if scope == "" {
				scope = "other"
			}
		}
		m.breaker = ch.breakerOf(rule, scope)
	}
	return m
}

// breakerOf returns the breaker of a rule, or of one method of it. A call that still goes by an older table
// must not bring back a breaker that an update has dropped, nor its thresholds: what it gets then is its own.
func (ch *channel) breakerOf(rule *compiled, scope string) *breaker.Breaker {
	key := rule.Name + "\x00" + scope
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if b, ok := ch.breakers[key]; ok {
		return b.Breaker
	}
	current := ch.view.Load().table.byName[rule.Name] == rule
	s := &breakerState{rule: rule.Name, method: scope}
	s.observe.Store(rule.mode == ModeObserve)
	b, err := breaker.New(*rule.Breaker, breaker.WithRandom(ch.out.random), breaker.OnChange(func(c breaker.Change) {
		if ch.out.observers.on() {
			ch.out.observers.tell(&BreakerChanged{
				Channel: ch.name, Rule: s.rule, Method: s.method, Change: c, WouldHave: s.observe.Load(),
			})
		}
	}))
	if err != nil {
		panic("steady: the breaker was checked with its rule: " + err.Error())
	}
	s.Breaker = b
	if current {
		ch.breakers[key] = s
	}
	return b
}

// sightings remembers which endpoints answered lately, for breakers under a balancer that does not tell how
// many there are. It is a sample: a success is noted every 50 ms or so, so that it costs nothing, and at
// uneven times, so that a balancer that goes round at the same pace does not show the same endpoint each time.
type sightings struct {
	next atomic.Pointer[time.Time] // when a success is next worth noting

	mu    sync.Mutex // guards what follows
	last  map[string]time.Time
	burst time.Time // the first failure of late, while there seemed to be one endpoint only
}

const (
	sightingPeriod = 50 * time.Millisecond
	sightingMemory = 10 * time.Second
	maxSightings   = 64
)

// success notes where an attempt succeeded, now and then.
func (s *sightings) success(now time.Time, addr net.Addr) {
	if next := s.next.Load(); next == nil || !now.Before(*next) {
		due := now.Add(sightingPeriod/2 + rand.N(sightingPeriod))
		s.next.Store(&due)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.note(now, addr.String())
		s.burst = time.Time{}
	}
}

// failure notes where an attempt that began at start has failed, and returns how many endpoints there seem to
// be: those seen in the last ten seconds. If it was one only, that may be all there are, or all that was heard
// of. So the first failure, and those of attempts that were under way by then, which burst tells, are taken for
// the crash of one of several; attempts that begin after a failure and fail as well are a reason to stop.
func (s *sightings) failure(now, start time.Time, source string) (endpoints int, burst bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if endpoints = s.note(now, source); endpoints > 1 {
		return endpoints, false
	}
	if s.burst.IsZero() || now.Sub(s.burst) > sightingMemory {
		s.burst = now
		return 2, false
	}
	if start.Before(s.burst) {
		return 2, true
	}
	return endpoints, false
}

// only returns the endpoint, if one only was seen in the last ten seconds.
func (s *sightings) only(now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := ""
	for name, at := range s.last {
		if now.Sub(at) > sightingMemory {
			continue
		}
		if found != "" {
			return ""
		}
		found = name
	}
	return found
}

// note remembers an endpoint and returns how many were seen in the last ten seconds; mu is held.
func (s *sightings) note(now time.Time, source string) int {
	for name, at := range s.last {
		if now.Sub(at) > sightingMemory {
			delete(s.last, name)
		}
	}
	if s.last == nil {
		s.last = make(map[string]time.Time)
	}
	if _, ok := s.last[source]; ok || len(s.last) < maxSightings {
		s.last[source] = now
	}
	return len(s.last)
}
