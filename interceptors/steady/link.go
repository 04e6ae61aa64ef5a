package steady

import (
	"slices"
	"sync/atomic"

	"github.com/grpcsteady/steady/proto/document"
	"github.com/grpcsteady/steady/resolver/endpoint"
	"github.com/grpcsteady/steady/resolver/follow"
)

// link is what belongs to one connection as its resolver sees it: the handle for balancing policies, and the
// document that the resolver pushed. gRPC tells a resolver nothing of its connection and a call nothing of the
// resolver, so a channel finds its link later: by the mark in its service config, or by its target where that
// is enough.
type link struct {
	of       *binding
	key      any // of the connection; nil: not known
	target   string
	disabled bool
	follow   *follow.Channel
	table    atomic.Pointer[table] // of the pushed document in force; nil: there is none

	pushed   ruleset  // what table was made of; Outbound.mu guards it
	owner    *channel // nil: not found yet; binding.mu guards it and the next
	reported bool     // that the document's balancing policies have no effect
}

// maxLinks bounds the links of one binding whose channel made no call yet.
const maxLinks = 1024

// open returns what belongs to a connection whose resolver is being built.
func (b *binding) open(c follow.Connection) *follow.Channel {
	b.mu.Lock()
	for _, l := range b.links {
		if c.Key != nil && l.key == c.Key {
			b.mu.Unlock()
			return l.follow
		}
	}
	b.prune()
	l := &link{of: b, key: c.Key, target: c.Target, disabled: c.Disabled}
	l.follow = &follow.Channel{Handle: endpoint.NewHandle(b.nameOf(c.Target), l.changed)}
	if b.out.pushed && !c.Disabled {
		l.follow.Mark = b.out.marks.Add(1) % maxMark
		l.follow.Pushed = l.take
	}
	b.links = append(b.links, l)
	b.mu.Unlock()
	if c.Disabled {
		b.out.reportDisabled(l)
	}
	return l.follow
}

// maxMark keeps marks in the range that follow demands. A channel would have to outlive a billion others of its
// outbound to share its mark with one of them.
const maxMark = 1 << 30

// prune forgets links of connections that are closed; mu is held.
func (b *binding) prune() {
	b.settle()
	strangers := 0
	for _, l := range b.links {
		if l.owner == nil {
			strangers++
		}
	}
	b.links = slices.DeleteFunc(b.links, func(l *link) bool {
		gone := l.owner != nil && closed(l.owner.cc)
		if !gone && l.owner == nil && strangers >= maxLinks {
			strangers--
			gone = true
		}
		if gone && l.table.Swap(nil) != nil {
			b.pushed.Add(-1)
		}
		return gone
	})
}

// settle gives the channels that have no link yet theirs; mu is held.
func (b *binding) settle() {
	for _, ch := range b.channels() {
		if ch.link.Load() != nil || ch.cc == nil {
			continue
		}
		if b.marked(ch, follow.MarkOf(ch.cc)) != nil {
			continue
		}
		if l := b.guess(ch); l != nil && closed(ch.cc) { // it will not be known better
			l.belongs(ch)
		}
	}
}

// channels returns the channels of the binding; mu is held.
func (b *binding) channels() []*channel {
	var out []*channel
	if ch := b.first.Load(); ch != nil {
		out = append(out, ch)
	}
	for _, ch := range b.others {
		out = append(out, ch)
	}
	return out
}

// linkOf returns the link of a channel, if that is certain by now.
func (b *binding) linkOf(ch *channel) *link {
	if l := ch.link.Load(); l != nil || ch.cc == nil {
		return l
	}
	m := follow.MarkOf(ch.cc)
	if m == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.marked(ch, m)
}

// marked returns the link with a mark and gives it to the channel; mu is held.
func (b *binding) marked(ch *channel, m uint32) *link {
	for _, l := range b.links {
		if m != 0 && l.follow.Mark == m {
			l.belongs(ch)
			return l
		}
	}
	return nil
}

// belongs gives a link to a channel; binding.mu is held.
func (l *link) belongs(ch *channel) {
	l.owner = ch
	ch.link.Store(l)
}

// guess returns the link of a channel, by its target if there is no mark; mu is held. Of several connections
// with the same options to the same target the first without a link gets the first: they have the same name too,
// and rules never go by a guess.
func (b *binding) guess(ch *channel) *link {
	if l := ch.link.Load(); l != nil || ch.cc == nil {
		return l
	}
	target := ch.cc.CanonicalTarget()
	for _, l := range b.links {
		if l.owner == nil && l.target == target {
			if l.follow.Mark == 0 { // it will never be known better
				l.belongs(ch)
			}
			return l
		}
	}
	return nil
}

// rules returns the table in force for a channel: of the newest document that its resolver pushed, or the
// outbound's.
func (ch *channel) rules() *table {
	if b := ch.of; b != nil && b.pushed.Load() > 0 {
		if t := ch.pushedTable(); t != nil {
			return t
		}
	}
	return ch.out.table.Load()
}

// pushedTable returns the table of the document that the channel's resolver pushed; nil: there is none.
func (ch *channel) pushedTable() *table {
	if l := ch.of.linkOf(ch); l != nil {
		return l.table.Load()
	}
	return nil
}

// name returns the name of the link's channel.
func (l *link) name() string {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	if l.owner != nil {
		return l.owner.name
	}
	for _, ch := range l.of.channels() {
		if ch.cc != nil && ch.cc.CanonicalTarget() == l.target {
			return ch.name
		}
	}
	return l.of.nameOf(l.target)
}

// nameOf returns the name of a channel to a target.
func (b *binding) nameOf(target string) string {
	if b.name != "" {
		return b.name
	}
	return target
}

// changed tells observers what a balancing policy decided about an endpoint.
func (l *link) changed(c endpoint.Change) {
	if o := l.of.out.observers; o.on() {
		o.tell(&EndpointChanged{Channel: l.name(), Change: c, WouldHave: c.Observed})
	}
}

// take takes a pushed document: a new one, the reason why one is none, or (nil and nil) that there is none any
// more.
func (l *link) take(d *document.Document, err error) {
	o := l.of.out
	var t *table
	source := "service config of " + l.target
	o.mu.Lock()
	switch {
	case err != nil:
	case d == nil:
		l.set(nil)
	default:
		source = d.Name()
		set := rulesOf(d)
		for i := range set.where { // one long line, of which the number says nothing
			set.where[i] = set.rules[i].Name + " of the " + d.Name()
		}
		if t, err = o.compile(set, o.wanted); err == nil {
			l.pushed = set
			l.set(t)
		}
	}
	if t == nil {
		if t = l.table.Load(); t == nil {
			t = o.table.Load()
		}
		if err == nil {
			source = t.source
		}
	}
	o.mu.Unlock()
	o.announce(t, l.name(), source, err)
	if d != nil && err == nil && dialSettingsOf(d) != (dialSettings{}) {
		o.ignored(l.name(), source, "channel", "it is read when a channel is made, and not from a pushed document: write it in the file")
	}
}

// set puts a pushed table in force, or none; Outbound.mu is held.
func (l *link) set(t *table) {
	switch old := l.table.Swap(t); {
	case old == nil && t != nil:
		l.of.pushed.Add(1)
	case old != nil && t == nil:
		l.of.pushed.Add(-1)
		l.pushed = ruleset{}
	}
}
