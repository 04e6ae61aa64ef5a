package steady

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/grpcsteady/steady/interceptors/breaker"
)

// admit asks the breaker.
func (t *try) admit() bool {
	b := t.c.m.breaker
	if b == nil {
		return true
	}
	token, err := b.AllowAt(t.start)
	if err != nil && !t.refuse("breaker", err, b.RetryAfter(t.start)) {
		return false
	}
	t.token = token
	return true
}

// ask asks the user's gates, with the context that the attempt will have.
func (t *try) ask() bool {
	for _, g := range t.c.ch.out.gates {
		done, err := g.gate.Admit(t.wire)
		if err != nil {
			if !t.refuse(g.name, err, 0) {
				return false
			}
			continue
		}
		if done != nil {
			t.gates = append(t.gates, done)
		}
	}
	return true
}

// refuse accounts for a refusal, and reports whether the attempt is made all the same.
func (t *try) refuse(gate string, err error, after time.Duration) bool {
	refusal := t.c.refusal(t.att.Number, gate, err, after, t.start)
	if t.c.rule.mode == ModeObserve {
		t.wouldRefuse = true
		return true
	}
	t.gate, t.err, t.ended = gate, refusal, t.start
	t.end.code = codeOf(refusal)
	return false
}

// conclude tells breaker, gates and memory how the attempt ended.
func (t *try) conclude(v Verdict, e ending, err error, at time.Time) {
	c := t.c
	t.teach(v, e, at) // what the endpoint did, whatever a rule that observes would have done
	if t.wouldRefuse {
		v = VerdictNothing // were the rule enforced, the attempt would not have been made
	}
	source := ""
	if v == VerdictFailure || v == VerdictSuspect {
		if source = t.att.Picked(); !e.would {
			source = t.endpoint()
		} else if source == "" { // gRPC may still be writing where the attempt went
			source = c.ch.seen.only(at)
		}
	}
	if len(t.gates) > 0 {
		defer t.finishGates(forGates(v, err, source)) // whatever an observer of the breaker does
	}
	if t.count() {
		t.token.End(at, t.outcome(v, e, source, at))
	}
	if e.code == codes.OK && v == VerdictSuccess && (c.rule.deadline || c.m.breaker != nil) && !t.att.Stream {
		c.m.memory.learned.Observe(at, at.Sub(t.start))
	}
}

// outcome translates a verdict into the words of the breaker.
func (t *try) outcome(v Verdict, e ending, source string, at time.Time) breaker.Outcome {
	c := t.c
	o := breaker.Outcome{Duration: at.Sub(t.start)}
	switch v {
	case VerdictSuccess:
		o.Result = breaker.Success
		if e.code == codes.OK && t.peer.Addr != nil && t.att.Endpoints() == 0 {
			c.ch.seen.success(at, t.peer.Addr)
		}
	case VerdictFailure, VerdictSuspect:
		o.Result, o.RatioOnly = breaker.Failure, v == VerdictSuspect
		o.Pushback = e.pushback.Wait
		o.Source, o.Sources, o.Everywhere = source, t.att.Endpoints(), source == "" && e.unsent
		if source != "" && o.Sources == 0 {
			var burst bool
			o.Sources, burst = c.ch.seen.failure(at, t.start, source)
			o.RatioOnly = o.RatioOnly || burst
		}
	default:
		o.Result = breaker.Nothing
	}
	return o
}

// finishGates ends the user's gates, in the opposite order of their admission.
func (t *try) finishGates(result error) {
	if len(t.gates) == 0 {
		return
	}
	last := len(t.gates) - 1
	done := t.gates[last]
	t.gates = t.gates[:last]
	defer t.finishGates(result) // the others too, even if this one panics
	done(result)
}

// release gives back what an attempt holds that did not come to its end in order: code below panicked or
// left the goroutine. After an orderly end nothing is left to give back.
func (t *try) release() {
	if !t.claim() {
		return
	}
	defer t.finishGates(context.Canceled)
	if t.count() {
		t.token.End(time.Now(), breaker.Outcome{Result: breaker.Nothing})
	}
}
