// Package attempt is the leaf through which the driver of a call and the picker of a balancer talk.
//
// The driver makes one [Attempt] for each attempt of a call and puts it into that attempt's context. The
// picker reads from it which endpoints the call has already tried and whether it is a stream, and writes
// which endpoint it picked; when the attempt ends, the picker's done function writes whether anything was
// sent. Neither side imports the other: both import this package, which imports only the standard library.
//
//	func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
//		a := attempt.From(info.Ctx) // nil without a driver, and every method of nil is harmless
//		for _, e := range p.candidates() {
//			if !a.Avoids(e.name) {
//				a.SetPicked(&e.name)
//				return e.result, nil
//			}
//		}
//		... // everything was tried: avoidance is soft, pick as if nothing were to be avoided
//	}
//
// A gate of the user's own finds method, channel and attempt number here as well.
//
// Everything may be called from any goroutine: two attempts of one call may run at once, a pick may be
// repeated, and the end of an abandoned attempt may arrive when its call is long over. That is why an
// Attempt is never reused.
package attempt

import (
	"context"
	"sync/atomic"
)

// Max is how many attempts of one call can be told apart, hedges included. It leaves room above the five
// attempts a rule may ask for; the endpoints of attempts beyond it are not remembered.
const Max = 8

// Call is what the attempts of one call share: the endpoints they were sent to.
type Call struct {
	picked [Max]atomic.Pointer[string]
}

// Adopt makes an attempt that began without a Call, since nobody knew whether there would be another, one of
// this call's. The attempt must have ended.
func (c *Call) Adopt(a *Attempt) {
	a.Call = c
	if p := a.picked.Load(); p != nil && a.Number >= 1 && a.Number <= Max {
		c.picked[a.Number-1].Store(p)
	}
}

// Tried returns the endpoints that attempts of the call were sent to, in the order of the attempts. An
// endpoint that was tried twice is named twice.
func (c *Call) Tried() []string {
	if c == nil {
		return nil
	}
	var names []string
	for i := range c.picked {
		if p := c.picked[i].Load(); p != nil {
			names = append(names, *p)
		}
	}
	return names
}

// Attempt is one attempt of a call. The exported fields are set before the attempt's context is handed on
// and are only read afterwards. The zero value is an attempt of no call: it avoids nothing.
type Attempt struct {
	Call    *Call  // shared by all attempts of the call; nil: nothing to avoid
	Channel string // name of the channel
	Method  string // full method, "/service/Method"
	Number  int    // 1 for the first attempt
	Stream  bool   // a stream's duration says nothing about latency
	Judged  bool   // the driver will tell how it ended; see Tell

	told    atomic.Uint32 // how many endpoints there are, and in the lowest two bits a Sent
	picked  atomic.Pointer[string]
	learner atomic.Pointer[Learner]
}

// Avoids reports whether another attempt of the same call was sent to the endpoint.
func (a *Attempt) Avoids(endpoint string) bool {
	if a == nil || a.Call == nil {
		return false
	}
	for i := range a.Call.picked {
		if i == a.Number-1 {
			continue
		}
		if p := a.Call.picked[i].Load(); p != nil && *p == endpoint {
			return true
		}
	}
	return false
}

// AvoidsAny reports whether there is anything to avoid, so that a picker can take its short way when not.
func (a *Attempt) AvoidsAny() bool {
	if a == nil || a.Call == nil {
		return false
	}
	for i := range a.Call.picked {
		if i != a.Number-1 && a.Call.picked[i].Load() != nil {
			return true
		}
	}
	return false
}

// SetPicked tells which endpoint the attempt is sent to. A repeated pick overwrites the one before. The
// pointer is kept, so that a pick allocates nothing: hand in the address of a string that does not change.
func (a *Attempt) SetPicked(endpoint *string) {
	if a == nil {
		return
	}
	a.picked.Store(endpoint)
	if a.Call != nil && a.Number >= 1 && a.Number <= Max {
		a.Call.picked[a.Number-1].Store(endpoint)
	}
}

// Picked returns the endpoint the attempt was sent to, or "" if no picker told.
func (a *Attempt) Picked() string {
	if a == nil {
		return ""
	}
	if p := a.picked.Load(); p != nil {
		return *p
	}
	return ""
}

// SetEndpoints tells how many endpoints the picker could choose from.
func (a *Attempt) SetEndpoints(n int) {
	if a != nil {
		n := uint32(min(max(n, 0), 1<<29)) << sentBits
		a.change(func(told uint32) uint32 { return n | told&sentMask })
	}
}

// Endpoints returns how many endpoints the picker could choose from, 0 if no picker told.
func (a *Attempt) Endpoints() int {
	if a == nil {
		return 0
	}
	return int(a.told.Load() >> sentBits)
}

const (
	sentBits = 2
	sentMask = 1<<sentBits - 1
)

func (a *Attempt) change(f func(told uint32) uint32) {
	for {
		old := a.told.Load()
		if next := f(old); next == old || a.told.CompareAndSwap(old, next) {
			return
		}
	}
}

// Sent says whether an attempt reached the wire.
type Sent uint8

const (
	SentUnknown Sent = iota // no picker told
	SentNo                  // provably nothing was sent
	SentYes                 // a stream was opened on a connection; the server may have seen the call
)

// SetSent tells whether a stream was opened on a connection for the attempt. An attempt that was sent once
// stays sent, whatever a repeated pick says later.
func (a *Attempt) SetSent(sent bool) {
	if a == nil {
		return
	}
	a.change(func(told uint32) uint32 {
		switch {
		case sent:
			return told&^sentMask | uint32(SentYes)
		case Sent(told&sentMask) == SentUnknown:
			return told | uint32(SentNo)
		default:
			return told
		}
	})
}

// Sent returns what is known of the attempt's way to the wire.
func (a *Attempt) Sent() Sent {
	if a == nil {
		return SentUnknown
	}
	return Sent(a.told.Load() & sentMask)
}

type key struct{}

// NewContext returns a context that carries the attempt.
func NewContext(ctx context.Context, a *Attempt) context.Context {
	return context.WithValue(ctx, key{}, a)
}

// From returns the attempt that ctx carries, or nil.
func From(ctx context.Context) *Attempt {
	a, _ := ctx.Value(key{}).(*Attempt)
	return a
}

// IsKey reports whether k is the key under which a context carries its attempt. A driver whose own object
// is the context answers it in its Value method, and saves the allocation of [NewContext].
func IsKey(k any) bool {
	_, ok := k.(key)
	return ok
}
