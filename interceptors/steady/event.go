package steady

import (
	"net"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/deadline"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/resolver/endpoint"
)

// Observer is told what happens. Observe runs on the goroutine of the call, between its attempts: it must
// be quick, must not block, must be safe for concurrent use, and must not keep the event, which points into
// the call's own state and is valid only until Observe returns.
//
// An observer that also has a method Attach(func() Snapshot) is given the snapshot function of each outbound
// it is used with, by [NewOutbound]: what can only be read, such as the state of a breaker, is pulled.
type Observer interface{ Observe(Event) }

// ObserverFunc makes an observer of a function.
type ObserverFunc func(Event)

// Observe calls the function.
func (f ObserverFunc) Observe(e Event) { f(e) }

// Event is one of the event types of this package, always as a pointer: [*AttemptEnded], [*CallEnded],
// [*Refused], [*Retried], [*RetryLimited], [*BreakerChanged], [*DeadlineCut], [*FellBack],
// [*FaultInjected], [*EndpointChanged], [*Reloaded], [*Ignored]. An observer switches over the types it knows and ignores the rest, so a
// new type breaks nobody.
//
// Times in events are read from the monotonic clock of their channel: right to the nanosecond for comparing
// and subtracting, while the date is that of the channel's beginning grown older, and does not follow a system
// clock that was set since.
type Event interface{ event() }

// About says which call an event is about.
type About struct {
	Channel string // name of the channel
	Method  string // full method
	Rule    string // name of the rule, "none" without one
	Stream  bool

	// Known tells that the method stands in a rule or in a registered descriptor. The names of unknown
	// methods come from whoever makes the calls, and are no label for a metric.
	Known bool

	// Memo is for what an observer looks up for this method. It is shared by all events of the method on
	// its channel, and by all methods of a rule that are not known.
	Memo *Memo
}

// AttemptEnded tells that an attempt has ended. A refused attempt is not one: nothing was sent.
type AttemptEnded struct {
	About
	Number   int      // 1 for the first attempt
	Picked   string   // the endpoint as the balancer calls it, "" if it did not tell
	Addr     net.Addr // of the connection, nil if there was none
	Code     codes.Code
	Err      error
	Verdict  Verdict
	Start    time.Time
	Duration time.Duration
}

// Endpoint returns where the attempt was sent: what the balancer said, or else the address of the
// connection; "" if there was none.
func (e *AttemptEnded) Endpoint() string {
	if e.Picked != "" || e.Addr == nil {
		return e.Picked
	}
	return e.Addr.String()
}

// CallEnded tells that a call has ended, once for each call that a rule, a gate or an observer saw.
type CallEnded struct {
	About
	Code      codes.Code // as the caller gets it
	Err       error      // as the caller gets it
	Attempts  int        // made, refused ones not counted
	Elsewhere int        // attempts sent to an endpoint that the call had not tried before, the first not counted
	Start     time.Time
	Duration  time.Duration
	Stop      retry.Stop // why no further attempt was made; retry.Go if none was needed
	FellBack  bool       // answered by a fallback
}

// Refused tells that a gate did not admit an attempt.
type Refused struct {
	About
	Number     int    // of the attempt that was not made
	Gate       string // "breaker", "deadline" or the name of a gate of the user's
	Err        error
	RetryAfter time.Duration
	At         time.Time
	WouldHave  bool // the rule only observes: the attempt was made
}

// Retried tells that an attempt failed and another one follows after a wait.
type Retried struct {
	About
	Number    int // of the attempt that failed
	Code      codes.Code
	Err       error
	Wait      time.Duration // before the next attempt
	Pushback  bool          // the server chose the wait
	At        time.Time
	WouldHave bool // the rule only observes: no further attempt is made
}

// RetryLimited tells, once when rules are loaded, that a rule's retries are limited to attempts that never
// left the client for some of its methods, because nobody said that they may be repeated.
type RetryLimited struct {
	Rule        string
	Methods     []string // described methods without idempotency_level, in full
	Undescribed bool     // the rule is also for methods that no registered descriptor describes
}

// BreakerChanged tells that a breaker has changed its state.
type BreakerChanged struct {
	Channel   string
	Rule      string
	Method    string // full method, "" for the breaker of a whole rule
	Change    breaker.Change
	WouldHave bool // the rule only observes: nothing is refused
}

// DeadlineCut tells that a rule ended an attempt or a call before the caller's own deadline did.
type DeadlineCut struct {
	About
	Number    int             // of the attempt that was cut
	Attempt   bool            // by a timeout of the attempt; otherwise by the deadline of the call
	Origin    deadline.Origin // where the call's deadline came from, or which of a stream's times ran out
	Limit     time.Duration   // how long it was allowed to take
	At        time.Time
	WouldHave bool // the rule only observes: it goes on
}

// FellBack tells that a fallback was asked, and whether it could answer.
type FellBack struct {
	About
	Cause error // why
	Err   error // of the fallback itself; nil if it answered
}

// FaultInjected tells that a fault was injected on purpose.
type FaultInjected struct {
	About
	Number int
	Fault  string // name of the fault's rule
	Delay  time.Duration
	Code   codes.Code
	Drop   bool
	Server bool // injected on the server side
}

// Reloaded tells that rules were exchanged, or that new ones were refused and the old stay in force.
type Reloaded struct {
	Channel string // whose resolver pushed or withdrew a document; "": it is about all channels
	Source  string // name of the document that the rules stand in, or of the one refused; "": rules in Go
	Rules   int    // number of rules in force
	Mode    Mode   // of them all
	Err     error  // why the new ones were refused; nil: they are in force
}

// EndpointChanged tells that a balancing policy of ours took an endpoint out, or let it back in.
type EndpointChanged struct {
	Channel string
	endpoint.Change
	WouldHave bool // the policy only observes: nothing was done
}

// Ignored tells, once for each channel, that something in a document has no effect there, and why.
type Ignored struct {
	Channel string
	Source  string // name of the document
	Key     string // loadBalancingConfig, channel
	Reason  string // why, and what to do about it
}

func (*AttemptEnded) event()    {}
func (*CallEnded) event()       {}
func (*Refused) event()         {}
func (*Retried) event()         {}
func (*RetryLimited) event()    {}
func (*BreakerChanged) event()  {}
func (*DeadlineCut) event()     {}
func (*FellBack) event()        {}
func (*FaultInjected) event()   {}
func (*EndpointChanged) event() {}
func (*Reloaded) event()        {}
func (*Ignored) event()         {}

// observers is a list of observers; an empty one costs a comparison, and no event is built for it.
type observers []Observer

func (o observers) on() bool { return len(o) > 0 }

func (o observers) tell(e Event) {
	for _, x := range o {
		x.Observe(e)
	}
}
