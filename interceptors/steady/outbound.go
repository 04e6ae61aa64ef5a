package steady

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"google.golang.org/grpc"

	"github.com/grpcsteady/steady/interceptors/retry"
)

// Outbound holds the rules for the calls that leave a process. Every use of [Outbound.DialOptions] or
// [Outbound.Interceptors] makes one channel, with breakers, a retry budget and learned durations of its
// own; channels share nothing but the rules.
type Outbound struct {
	*settings
	table atomic.Pointer[table]

	mu       sync.Mutex // guards what follows, and orders updates
	rules    []Rule
	channels []weak.Pointer[channel] // for Snapshot; a channel lives as long as its connection
}

// NewOutbound checks the rules and returns an outbound that follows them. No rules are fine: calls are then
// left alone, but for gates, observers and call options. The error names each rule, field, value and what
// is allowed.
func NewOutbound(rules []Rule, opts ...Option) (*Outbound, error) {
	o := &Outbound{settings: newSettings(opts)}
	if err := o.check(true); err != nil {
		return nil, fmt.Errorf("steady: %w", err)
	}
	if err := o.Update(rules); err != nil {
		return nil, err
	}
	for _, x := range o.observers {
		if a, ok := x.(interface {
			Attach(snapshot func() Snapshot)
		}); ok {
			a.Attach(o.Snapshot)
		}
	}
	return o, nil
}

// Update exchanges the rules while calls are under way: calls in flight end under the rule they began with.
// A rule keeps its breakers and their memory if it keeps its name; thresholds apply from the next result
// on. With an error nothing has changed, and [Reloaded] tells observers of it.
func (o *Outbound) Update(rules []Rule) error {
	o.mu.Lock()
	mode := o.mode
	if t := o.table.Load(); t != nil {
		mode = t.mode
	}
	t, err := o.swap(rules, mode)
	o.mu.Unlock()
	o.announce(t, err)
	return err
}

// SetMode changes the mode of the whole outbound: observe and off weaken every rule, enforce leaves each
// rule its own.
func (o *Outbound) SetMode(m Mode) error {
	o.mu.Lock()
	t, err := o.swap(o.rules, m)
	o.mu.Unlock()
	o.announce(t, err)
	return err
}

// swap compiles rules and puts them in force; mu is held.
func (o *Outbound) swap(rules []Rule, mode Mode) (*table, error) {
	t, err := compile(rules, mode)
	if err != nil {
		return o.table.Load(), fmt.Errorf("steady: %w", err)
	}
	o.rules = make([]Rule, len(rules))
	for i, r := range rules {
		o.rules[i] = r.withDefaults() // a copy: the caller may go on using what he gave
	}
	o.table.Store(t)
	return t, nil
}

// announce tells observers what came of an update, and what the rules cannot do.
func (o *Outbound) announce(t *table, err error) {
	if t == nil {
		return
	}
	if o.observers.on() {
		o.observers.tell(&Reloaded{Rules: len(t.rules), Mode: t.mode, Err: err})
	}
	if err != nil {
		return
	}
	if !o.observers.on() {
		return
	}
	for _, c := range t.rules {
		if c.mode != ModeOff && (len(c.limited) > 0 || c.undescribed) {
			o.observers.tell(&RetryLimited{Rule: c.Name, Methods: c.limited, Undescribed: c.undescribed})
		}
	}
}

// Rules returns the rules in force, with defaults filled in.
func (o *Outbound) Rules() []Rule {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make([]Rule, len(o.rules))
	for i, r := range o.rules {
		out[i] = r.withDefaults()
	}
	return out
}

// DialOptions returns the options that make a connection follow the rules, around opts. Interceptors in
// opts run outside: they see calls. Interceptors that the caller appends later run inside: they see
// attempts. Stats handlers see attempts wherever they stand. gRPC's own retries are switched off; its
// transparent retries stay, inside one attempt.
func (o *Outbound) DialOptions(opts ...grpc.DialOption) []grpc.DialOption {
	b := o.bind(opts)
	return append(slices.Clip(opts),
		grpc.WithChainUnaryInterceptor(b.unary),
		grpc.WithChainStreamInterceptor(b.stream),
		withoutRetry(),
	)
}

// Interceptors returns the interceptors of one channel, for a chain of the caller's own. Add
// grpc.WithDisableRetry, or gRPC may retry each of our attempts once more.
func (o *Outbound) Interceptors() (grpc.UnaryClientInterceptor, grpc.StreamClientInterceptor) {
	b := o.bind(nil)
	return b.unary, b.stream
}

// ChannelName names a channel in events, metrics and snapshots. It is for [Outbound.DialOptions]; elsewhere
// it does nothing. Default: the target of the connection.
func ChannelName(name string) grpc.DialOption { return nameOption{name: name} }

type nameOption struct {
	grpc.EmptyDialOption
	name string
}

// bind makes the binding of one use of DialOptions or Interceptors.
func (o *Outbound) bind(opts []grpc.DialOption) *binding {
	b := &binding{out: o}
	for _, opt := range opts {
		if n, ok := opt.(nameOption); ok {
			b.name = n.name
		}
	}
	return b
}

// binding finds the channel of a call. Usually there is one; options that were reused for a second
// connection give that connection a channel of its own.
type binding struct {
	out   *Outbound
	name  string
	first atomic.Pointer[channel]

	mu     sync.Mutex // guards others
	others map[*grpc.ClientConn]*channel
}

// channel returns the channel of a connection.
func (b *binding) channel(cc *grpc.ClientConn) *channel {
	if ch := b.first.Load(); ch != nil && ch.cc == cc {
		return ch
	}
	return b.find(cc)
}

func (b *binding) find(cc *grpc.ClientConn) *channel {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := b.first.Load()
	if first != nil && first.cc == cc {
		return first
	}
	if ch, ok := b.others[cc]; ok {
		return ch
	}
	for other := range b.others {
		if closed(other) {
			delete(b.others, other)
		}
	}
	ch := b.out.newChannel(b.name, cc)
	if first == nil || closed(first.cc) {
		b.first.Store(ch)
		return ch
	}
	if b.others == nil {
		b.others = make(map[*grpc.ClientConn]*channel)
	}
	b.others[cc] = ch
	return ch
}

// newChannel makes the channel of a connection and remembers it as long as the connection lives.
func (o *Outbound) newChannel(name string, cc *grpc.ClientConn) *channel {
	if name == "" && cc != nil {
		name = cc.Target()
	}
	budget, err := retry.NewBudget(o.budget)
	if err != nil {
		panic("steady: the budget was checked by NewOutbound: " + err.Error())
	}
	ch := &channel{out: o, cc: cc, name: name, epoch: time.Now(), budget: budget, breakers: make(map[string]*breakerState)}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.channels = append(o.living(), weak.Make(ch))
	return ch
}

// living returns the channels that are still in use; mu is held.
func (o *Outbound) living() []weak.Pointer[channel] {
	kept := o.channels[:0]
	for _, w := range o.channels {
		if ch := w.Value(); ch != nil && !closed(ch.cc) {
			kept = append(kept, w)
		}
	}
	clear(o.channels[len(kept):])
	return kept
}
