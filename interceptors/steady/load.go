package steady

import (
	"context"
	"errors"
	"fmt"

	"github.com/grpcsteady/steady/proto/document"
	"github.com/grpcsteady/steady/resolver/follow"
)

// Load reads the document at path and returns an outbound that follows it: its rules for calls, its balancing
// policies for the channels made with [Outbound.DialOptions], its settings for their connections. What can be
// written is said by the schema, proto/steady/v1/config.proto.
//
// The error has file, line, column and path of each finding. A document whose balancing policies are not linked
// into the program is refused too, and the error names the package to import.
//
// The file is not looked at again before [Outbound.Watch].
func Load(path string, opts ...Option) (*Outbound, error) {
	d, err := document.Load(path)
	if err != nil {
		return nil, err
	}
	o, err := FromDocument(d, opts...)
	if err != nil {
		return nil, err
	}
	o.path = path
	return o, nil
}

// FromDocument is [Load] for a document that comes from elsewhere than a file. [Outbound.UpdateDocument]
// exchanges it.
func FromDocument(d *document.Document, opts ...Option) (*Outbound, error) {
	if d == nil {
		return nil, errors.New("steady: FromDocument: nil, want a document")
	}
	o, err := newOutbound(opts)
	if err != nil {
		return nil, err
	}
	if err := o.UpdateDocument(d); err != nil {
		return nil, err
	}
	o.attach()
	return o, nil
}

// UpdateDocument exchanges the document, or the rules in Go, while calls are under way: as [Outbound.Update]
// does for rules, and for balancing policies on every channel whose resolver is decorated, see
// [Outbound.DialOptions]. Rules and policies come from the same document or, with an error, stay as they were.
func (o *Outbound) UpdateDocument(d *document.Document) error {
	if d == nil {
		return errors.New("steady: UpdateDocument: nil, want a document")
	}
	if err := follow.Check(d); err != nil {
		o.refuse(d.Name(), err)
		return err
	}
	set, config := rulesOf(d), d.ForSteady()
	o.mu.Lock()
	t, err := o.swap(set, o.wanted)
	var changed, settings bool
	if err == nil {
		changed = o.doc != nil && o.config != config
		settings = o.doc != nil && dialSettingsOf(o.doc) != dialSettingsOf(d)
		o.doc, o.config = d, config
		o.hub.Set(config)
	}
	o.mu.Unlock()
	if err == nil {
		o.hub.Push()
	}
	o.announce(t, "", d.Name(), err)
	if err == nil {
		o.reportChanges(changed, settings)
	}
	return err
}

// Watch follows the file that [Load] read until ctx ends, and then returns nil: a changed document is put in
// force as by [Outbound.UpdateDocument]; of a bad one, [Reloaded] tells observers with file, line and path, and
// the last good one stays. Every way to change a file is noticed: written in place, renamed over, deleted and
// made anew, and the swapped links of a Kubernetes ConfigMap.
//
// It looks about once a second; opts change that, and let a signal ask for a look at once. It is an error, at
// once, if the rules are from no file or an option is out of range.
func (o *Outbound) Watch(ctx context.Context, opts ...document.WatchOption) error {
	if o.path == "" {
		return errors.New("steady: Watch: the rules are from no file, want an Outbound of Load")
	}
	o.mu.Lock()
	d := o.doc
	o.mu.Unlock()
	return document.Watch(ctx, o.path, func(d *document.Document, err error) {
		if err != nil {
			o.refuse(o.path, err)
			return
		}
		_ = o.UpdateDocument(d) // which has told observers
	}, append([]document.WatchOption{document.Since(d)}, opts...)...)
}

// refuse tells observers of a document that changes nothing.
func (o *Outbound) refuse(source string, err error) { o.announce(o.table.Load(), "", source, err) }

// ignored tells observers of what has no effect on a channel.
func (o *Outbound) ignored(channel, source, key, reason string) {
	if o.observers.on() {
		o.observers.tell(&Ignored{Channel: channel, Source: source, Key: key, Reason: reason})
	}
}

const policiesKey = "loadBalancingConfig"

// reportDisabled tells, once for each connection, that gRPC was told to ignore what resolvers say.
func (o *Outbound) reportDisabled(l *link) {
	o.mu.Lock()
	source := ""
	if o.doc != nil {
		source = o.doc.Name()
	}
	has := o.doc != nil || o.settings.pushed
	o.mu.Unlock()
	l.of.mu.Lock()
	told := l.reported
	l.reported = told || has
	l.of.mu.Unlock()
	if has && !told {
		o.ignored(l.name(), source, policiesKey,
			"grpc.WithDisableServiceConfig: what the document says when the channel is made stays, and no pushed document is followed")
	}
}

// reportChanges tells what a new document does not change for channels that are there already.
func (o *Outbound) reportChanges(config, settings bool) {
	if !o.observers.on() {
		return
	}
	o.mu.Lock()
	source, now, bindings := o.doc.Name(), dialSettingsOf(o.doc), o.bound()
	o.mu.Unlock()
	for _, b := range bindings {
		for name, deaf := range b.deaf() {
			if settings && b.made != now {
				o.ignored(name, source, "channel", "it is read when a channel is made: make a new one")
			}
			if config && deaf != "" {
				o.ignored(name, source, policiesKey, deaf)
			}
		}
	}
	for _, b := range bindings {
		b.mu.Lock()
		links := append([]*link(nil), b.links...)
		b.mu.Unlock()
		for _, l := range links {
			if l.disabled {
				o.reportDisabled(l)
			}
		}
	}
}

// deaf returns the names of the binding's open channels, each with why no document reaches its balancing
// policies; "": one does, or that it does not was told before.
func (b *binding) deaf() map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[string]string)
	for _, ch := range b.channels() {
		if ch.cc == nil || closed(ch.cc) {
			continue
		}
		why := ""
		if b.guess(ch) == nil {
			why = fmt.Sprintf("the resolver of %s is not decorated: name its builder with steady.Resolvers in DialOptions", ch.cc.Target())
		}
		out[ch.name] = why
	}
	return out
}
