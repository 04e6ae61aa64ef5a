package steady

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Timeout gives one call this long in all, in place of the rule's deadline; the caller's own deadline stays
// if it is tighter. It works without a rule and for streams as well, for which it is the time of the whole
// stream. A timeout of zero or less is ignored.
func Timeout(d time.Duration) grpc.CallOption { return timeoutOption{d: d} }

// MaxAttempts lets one call make at most n attempts (1 to 5; a value outside is moved to the nearest end).
// Under a rule without Retry it switches retries on with their defaults.
func MaxAttempts(n int) grpc.CallOption { return attemptsOption{n: min(max(n, 1), 5)} }

// Idempotent says that this call may safely be made twice, whatever its descriptor says.
func Idempotent() grpc.CallOption { return idempotentOption{} }

// NoRetry makes one attempt only.
func NoRetry() grpc.CallOption { return attemptsOption{n: 1} }

// ReportTo writes the story of the call to r when the call has ended, before it returns; for a stream, when
// the stream has ended. r must not be read before.
func ReportTo(r *Report) grpc.CallOption { return reportOption{r: r} }

// The options embed gRPC's EmptyCallOption: without our interceptor gRPC takes them and does nothing.
type (
	timeoutOption struct {
		grpc.EmptyCallOption
		d time.Duration
	}
	attemptsOption struct {
		grpc.EmptyCallOption
		n int
	}
	idempotentOption struct{ grpc.EmptyCallOption }
	reportOption     struct {
		grpc.EmptyCallOption
		r *Report
	}
)

// asked is what the options of one call ask for.
type asked struct {
	timeout    time.Duration // 0: nothing asked
	attempts   int           // 0: nothing asked
	idempotent bool
	report     *Report

	// What attempts must not write to directly: the final attempt's values are handed over at the end.
	header  []grpc.HeaderCallOption
	trailer []grpc.TrailerCallOption
	peer    []grpc.PeerCallOption
	finish  []finishOption

	rest []grpc.CallOption // for attempts
}

// ours reports whether an option is meant for the driver.
func ours(o grpc.CallOption) bool {
	switch o.(type) {
	case timeoutOption, attemptsOption, idempotentOption, reportOption:
		return true
	}
	return false
}

// read sorts the options of a call. The slice it is given is not changed; when nothing has to be taken out,
// rest is that slice.
func (a *asked) read(opts []grpc.CallOption, own bool) {
	taken := 0
	for i, o := range opts {
		if !a.take(o, own) {
			if taken > 0 {
				a.rest = append(a.rest, o)
			}
			continue
		}
		if taken == 0 {
			a.rest = append(make([]grpc.CallOption, 0, len(opts)), opts[:i]...)
		}
		taken++
	}
	if taken == 0 {
		a.rest = opts
	}
}

// take reads one option and reports whether it must not be passed on. With own, the options that an attempt
// writes to are the driver's; otherwise they stay with gRPC.
func (a *asked) take(o grpc.CallOption, own bool) bool {
	switch o := o.(type) {
	case timeoutOption:
		a.timeout = max(o.d, 0)
		return true
	case attemptsOption:
		a.attempts = o.n
		return true
	case idempotentOption:
		a.idempotent = true
		return true
	case reportOption:
		a.report = o.r
		return true
	case grpc.HeaderCallOption:
		if own {
			a.header = append(a.header, o)
		}
		return own
	case grpc.TrailerCallOption:
		if own {
			a.trailer = append(a.trailer, o)
		}
		return own
	case grpc.PeerCallOption:
		if own {
			a.peer = append(a.peer, o)
		}
		return own
	case finishOption:
		if own {
			a.finish = append(a.finish, o)
		}
		return own
	}
	return false
}

// special reports whether some option of a call must not simply be passed on.
func special(opts []grpc.CallOption, own bool) bool {
	for _, o := range opts {
		if ours(o) {
			return true
		}
		switch o.(type) {
		case grpc.HeaderCallOption, grpc.TrailerCallOption, grpc.PeerCallOption, finishOption:
			if own {
				return true
			}
		}
	}
	return false
}

// within returns the time asked for; 0 if none was.
func (a *asked) within() time.Duration {
	if a == nil {
		return 0
	}
	return a.timeout
}

// most returns the number of attempts asked for; 0 if none was.
func (a *asked) most() int {
	if a == nil {
		return 0
	}
	return a.attempts
}

// safe reports whether the caller said that the call may be repeated.
func (a *asked) safe() bool { return a != nil && a.idempotent }

// own appends the call's options and those that tell the attempt what it received.
func (t *try) own(opts []grpc.CallOption) []grpc.CallOption {
	c := t.c
	opts = append(opts, c.opts...)
	opts = append(opts, grpc.Trailer(&t.trailer), grpc.Peer(&t.peer))
	if c.asked != nil && len(c.asked.header) > 0 {
		t.header = new(metadata.MD)
		opts = append(opts, grpc.Header(t.header))
	}
	return opts
}
