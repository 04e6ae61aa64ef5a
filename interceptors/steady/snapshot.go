package steady

import (
	"cmp"
	"slices"
	"time"

	"github.com/grpcsteady/steady/interceptors/breaker"
	"github.com/grpcsteady/steady/interceptors/retry"
	"github.com/grpcsteady/steady/resolver/endpoint"
)

// Snapshot is the state of an [Outbound] at one moment: plain data, for gauges and for people.
type Snapshot struct {
	Mode     Mode
	Rules    []RuleSnapshot
	Channels []ChannelSnapshot // open channels that have made a call, by name
	Faults   bool              // faults are being injected
}

// RuleSnapshot is a rule in force.
type RuleSnapshot struct {
	Name        string
	Methods     []string
	Mode        Mode     // in force, weakened by the outbound's
	Limited     []string // methods retried only if an attempt never left the client
	Undescribed bool     // and those that no registered descriptor describes
}

// ChannelSnapshot is the state of a channel.
type ChannelSnapshot struct {
	Name     string
	Target   string
	Source   string         // name of the document in force there; "": rules in Go
	Rules    []RuleSnapshot // in force there if its resolver pushed them; nil: those of the Outbound
	Budget   retry.BudgetSnapshot
	Breakers []BreakerSnapshot // by rule and method
	Methods  []MethodSnapshot  // called under the rules in force, by name

	// Endpoints are those of the channel, by name, if its resolver is decorated, see [Outbound.DialOptions], and
	// its balancing policy one of ours.
	Endpoints []endpoint.Snapshot
}

// BreakerSnapshot is the state of a breaker.
type BreakerSnapshot struct {
	Rule   string
	Method string // full method, "" for the breaker of a whole rule
	Mode   Mode   // of the rule
	breaker.Snapshot
}

// MethodSnapshot is what a channel has learned of a method.
type MethodSnapshot struct {
	Method  string
	Rule    string
	Samples int           // durations learned in the last 30 s
	Median  time.Duration // 0 with too few samples
	P99     time.Duration // 0 with too few samples
}

// Snapshot returns the state of the outbound. It is made for a scrape every few seconds.
func (o *Outbound) Snapshot() Snapshot {
	t := o.table.Load()
	s := Snapshot{Mode: t.mode, Faults: o.faults != nil && o.faults.Enabled()}
	s.Rules = t.snapshot()
	o.mu.Lock()
	o.channels = o.living()
	channels := make([]*channel, 0, len(o.channels))
	for _, w := range o.channels {
		if ch := w.Value(); ch != nil {
			channels = append(channels, ch)
		}
	}
	o.mu.Unlock()
	now := time.Now()
	for _, ch := range channels {
		s.Channels = append(s.Channels, ch.snapshot(now))
	}
	slices.SortStableFunc(s.Channels, func(a, b ChannelSnapshot) int { return cmp.Compare(a.Name, b.Name) })
	return s
}

func (t *table) snapshot() []RuleSnapshot {
	var rules []RuleSnapshot
	for _, c := range t.rules {
		rules = append(rules, RuleSnapshot{
			Name: c.Name, Methods: slices.Clone(c.Methods), Mode: c.mode, Limited: slices.Clone(c.limited), Undescribed: c.undescribed,
		})
	}
	return rules
}

func (ch *channel) snapshot(now time.Time) ChannelSnapshot {
	v := ch.renew() // first: it is what hands the budget its newest config
	s := ChannelSnapshot{Name: ch.name, Source: v.table.source, Budget: ch.budget.Snapshot(now)}
	if ch.cc != nil {
		s.Target = ch.cc.Target()
	}
	if b := ch.of; b != nil {
		b.mu.Lock()
		l := b.guess(ch)
		b.mu.Unlock()
		if l != nil {
			s.Endpoints = l.follow.Handle.Endpoints()
		}
		if v.table == ch.pushedTable() {
			s.Rules = v.table.snapshot()
		}
	}
	v.methods.Range(func(_, value any) bool {
		m := value.(*method)
		row := MethodSnapshot{Method: m.about.Method, Rule: m.about.Rule}
		row.Median, row.Samples = m.memory.learned.Quantile(now, 0.5)
		row.P99, _ = m.memory.learned.Quantile(now, 0.99)
		s.Methods = append(s.Methods, row)
		return true
	})
	slices.SortFunc(s.Methods, func(a, b MethodSnapshot) int { return cmp.Compare(a.Method, b.Method) })
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for _, b := range ch.breakers {
		row := BreakerSnapshot{Rule: b.rule, Method: b.method, Snapshot: b.Breaker.Snapshot()}
		if c := v.table.byName[b.rule]; c != nil {
			row.Mode = c.mode
		}
		s.Breakers = append(s.Breakers, row)
	}
	slices.SortFunc(s.Breakers, func(a, b BreakerSnapshot) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Method, b.Method))
	})
	return s
}
