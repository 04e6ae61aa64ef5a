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
	"github.com/grpcsteady/steady/proto/document"
	"github.com/grpcsteady/steady/resolver/follow"
)

// Outbound holds the rules for the calls that leave a process. Every use of [Outbound.DialOptions] or
// [Outbound.Interceptors] makes one channel, with breakers, a retry budget and learned durations of its
// own; channels share nothing but the rules.
type Outbound struct {
	*settings
	table atomic.Pointer[table]
	hub   follow.Hub    // gives channels the document's balancing policies
	marks atomic.Uint32 // given to links so far
	path  string        // of the file that Load read; "": none

	mu       sync.Mutex // guards what follows, and orders updates
	inForce  ruleset
	wanted   Mode                    // of the outbound, beside the document's
	doc      *document.Document      // nil: the rules are in Go
	config   string                  // doc's service config
	bindings []weak.Pointer[binding] // to push documents; a binding lives as long as its options
	channels []weak.Pointer[channel] // for Snapshot; a channel lives as long as its connection
}

// NewOutbound checks the rules and returns an outbound that follows them. No rules are fine: calls are then
// left alone, but for gates, observers and call options. The error names each rule, field, value and what
// is allowed.
func NewOutbound(rules []Rule, opts ...Option) (*Outbound, error) {
	o, err := newOutbound(opts)
	if err != nil {
		return nil, err
	}
	if err := o.Update(rules); err != nil {
		return nil, err
	}
	o.attach()
	return o, nil
}

// newOutbound returns an outbound that has no rules yet.
func newOutbound(opts []Option) (*Outbound, error) {
	o := &Outbound{settings: newSettings(opts)}
	if err := o.check(true); err != nil {
		return nil, fmt.Errorf("steady: %w", err)
	}
	o.wanted = o.mode
	return o, nil
}

// attach gives the snapshot function to observers that want it.
func (o *Outbound) attach() {
	for _, x := range o.observers {
		if a, ok := x.(interface {
			Attach(snapshot func() Snapshot)
		}); ok {
			a.Attach(o.Snapshot)
		}
	}
}

// Update exchanges the rules while calls are under way: calls in flight end under the rule they began with.
// A rule keeps its breakers and their memory if it keeps its name; thresholds apply from the next result
// on. With an error nothing has changed, and [Reloaded] tells observers of it. It is an error if the rules are
// from a document, which stands above rules in Go: see [Outbound.UpdateDocument].
func (o *Outbound) Update(rules []Rule) error {
	o.mu.Lock()
	t := o.table.Load()
	var err error
	if o.doc != nil {
		err = fmt.Errorf("steady: the rules are those of %s, which stand above rules in Go: change it, or UpdateDocument", o.doc.Name())
	} else {
		t, err = o.swap(ruleset{rules: rules}, o.wanted)
	}
	o.mu.Unlock()
	o.announce(t, "", "", err)
	return err
}

// SetMode changes the mode of the whole outbound: observe and off weaken every rule, enforce leaves each
// rule, and each document, its own.
func (o *Outbound) SetMode(m Mode) error {
	o.mu.Lock()
	t, err := o.swap(o.inForce, m)
	if err == nil {
		for _, b := range o.bound() {
			b.setMode(m)
		}
	}
	o.mu.Unlock()
	source := ""
	if t != nil {
		source = t.source
	}
	o.announce(t, "", source, err)
	return err
}

// compile makes the table of a ruleset.
func (o *Outbound) compile(s ruleset, mode Mode) (*table, error) {
	if s.budget == nil {
		s.budget = &o.budget
	}
	t, err := s.compile(mode)
	if err != nil {
		return nil, fmt.Errorf("steady: %w", err)
	}
	return t, nil
}

// swap compiles rules and puts them in force; mu is held.
func (o *Outbound) swap(s ruleset, mode Mode) (*table, error) {
	t, err := o.compile(s, mode)
	if err != nil {
		return o.table.Load(), err
	}
	rules := make([]Rule, len(s.rules))
	for i, r := range s.rules {
		rules[i] = r.withDefaults() // a copy: the caller may go on using what he gave
	}
	s.rules = rules
	o.inForce, o.wanted = s, mode
	o.table.Store(t)
	return t, nil
}

// announce tells observers what came of an update, and what the rules cannot do.
func (o *Outbound) announce(t *table, channel, source string, err error) {
	if t == nil || !o.observers.on() {
		return
	}
	o.observers.tell(&Reloaded{Channel: channel, Source: source, Rules: len(t.rules), Mode: t.mode, Err: err})
	if err != nil {
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
	out := make([]Rule, len(o.inForce.rules))
	for i, r := range o.inForce.rules {
		out[i] = r.withDefaults()
	}
	return out
}

// DialOptions returns the options that make a connection follow the rules, around opts. Interceptors in
// opts run outside: they see calls. Interceptors that the caller appends later run inside: they see
// attempts. Stats handlers see attempts wherever they stand. gRPC's own retries are switched off; its
// transparent retries stay, inside one attempt.
//
// The builders of resolvers for dns, passthrough and unix, and those that [Resolvers] names, are decorated: a
// state without a service config gets that of the document in force, as a whole and above
// grpc.WithDefaultServiceConfig, and gets it again when the document has changed. With other builders, and with
// grpc.WithDisableServiceConfig, the document's balancing policies are those of the moment at which DialOptions
// is called, below grpc.WithDefaultServiceConfig. The document's settings for connections are of that moment
// too, and stand above the same in opts.
func (o *Outbound) DialOptions(opts ...grpc.DialOption) []grpc.DialOption {
	b := o.bind(opts)
	o.mu.Lock()
	b.made = dialSettingsOf(o.doc)
	config := o.config
	o.mu.Unlock()
	out := make([]grpc.DialOption, 0, len(opts)+8)
	if config != "" {
		out = append(out, grpc.WithDefaultServiceConfig(config))
	}
	for _, opt := range opts {
		if r, ok := opt.(resolversOption); ok {
			opt = withResolvers(o.hub.Decorate(b.open, r.builders...)...)
		}
		out = append(out, opt)
	}
	out = append(out,
		withResolvers(o.hub.Decorate(b.open, follow.Standard()...)...), // last: the first that fits is taken
		grpc.WithChainUnaryInterceptor(b.unary),
		grpc.WithChainStreamInterceptor(b.stream),
		withoutRetry(),
	)
	return append(out, b.made.options()...)
}

// Interceptors returns the interceptors of one channel, for a chain of the caller's own. Add
// grpc.WithDisableRetry, or gRPC may retry each of our attempts once more. Of a document it follows the rules
// alone: balancing policies and settings for connections want [Outbound.DialOptions].
func (o *Outbound) Interceptors() (grpc.UnaryClientInterceptor, grpc.StreamClientInterceptor) {
	b := o.bind(nil)
	return b.unary, b.stream
}

// bind makes the binding of one use of DialOptions or Interceptors.
func (o *Outbound) bind(opts []grpc.DialOption) *binding {
	b := &binding{out: o}
	for _, opt := range opts {
		if n, ok := opt.(nameOption); ok {
			b.name = n.name
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bound() // so that the list stays short
	o.bindings = append(o.bindings, weak.Make(b))
	return b
}

// bound returns the bindings that are still in use; mu is held.
func (o *Outbound) bound() []*binding {
	var living []*binding
	o.bindings = slices.DeleteFunc(o.bindings, func(w weak.Pointer[binding]) bool {
		b := w.Value()
		if b != nil {
			living = append(living, b)
		}
		return b == nil
	})
	return living
}

// binding finds the channel of a call. Usually there is one; options that were reused for a second
// connection give that connection a channel of its own.
type binding struct {
	out   *Outbound
	name  string
	made  dialSettings // what the document said when it was made
	first atomic.Pointer[channel]

	pushed atomic.Int32 // links with a pushed document in force

	mu     sync.Mutex // guards what follows; Outbound.mu comes before it
	others map[*grpc.ClientConn]*channel
	links  []*link // in the order in which their connections came up
}

// setMode changes the mode of pushed documents in force; Outbound.mu is held.
func (b *binding) setMode(m Mode) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.links {
		if l.table.Load() == nil {
			continue
		}
		t, err := b.out.compile(l.pushed, m)
		if err != nil {
			panic("steady: the pushed rules were checked before: " + err.Error())
		}
		l.table.Store(t)
	}
}

// channel returns the channel of a connection.
func (b *binding) channel(cc *grpc.ClientConn) *channel {
	if ch := b.first.Load(); ch != nil && ch.cc == cc {
		return ch
	}
	return b.find(cc)
}

func (b *binding) find(cc *grpc.ClientConn) *channel {
	ch, fresh := b.look(cc)
	if fresh { // not under b.mu, which comes after Outbound.mu
		b.out.remember(ch)
	}
	return ch
}

// look returns the channel of a connection, and whether it was made just now.
func (b *binding) look(cc *grpc.ClientConn) (ch *channel, fresh bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := b.first.Load()
	if first != nil && first.cc == cc {
		return first, false
	}
	if ch, ok := b.others[cc]; ok {
		return ch, false
	}
	b.settle() // before channels are forgotten whose links would be nobody's
	for other := range b.others {
		if closed(other) {
			delete(b.others, other)
		}
	}
	ch = b.out.newChannel(b.name, cc)
	ch.of = b
	if first == nil || closed(first.cc) {
		b.first.Store(ch)
		return ch, true
	}
	if b.others == nil {
		b.others = make(map[*grpc.ClientConn]*channel)
	}
	b.others[cc] = ch
	return ch, true
}

// newChannel makes the channel of a connection.
func (o *Outbound) newChannel(name string, cc *grpc.ClientConn) *channel {
	if name == "" && cc != nil {
		name = cc.Target()
	}
	budget, err := retry.NewBudget(o.budget)
	if err != nil {
		panic("steady: the budget was checked by NewOutbound: " + err.Error())
	}
	return &channel{out: o, cc: cc, name: name, epoch: time.Now(), budget: budget, breakers: make(map[string]*breakerState)}
}

// remember keeps a channel for Snapshot as long as its connection lives.
func (o *Outbound) remember(ch *channel) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.channels = append(o.living(), weak.Make(ch))
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
