package attempt_test

import (
	"testing"

	"github.com/grpcsteady/steady/balancer/attempt"
)

type learner struct{ learned []attempt.Outcome }

func (l *learner) Learn(o attempt.Outcome) { l.learned = append(l.learned, o) }

func TestTheLastPickLearnsTheOutcome(t *testing.T) {
	var first, last learner
	one, two := attempt.Learner(&first), attempt.Learner(&last)
	a := &attempt.Attempt{Judged: true}
	if !a.Driven() {
		t.Error("a driver said that it will tell, and Driven does not say so")
	}
	a.SetLearner(&one)
	a.SetLearner(&two)
	a.Tell(attempt.Outcome{Result: attempt.Failure})
	if len(first.learned) != 0 || len(last.learned) != 1 || last.learned[0].Result != attempt.Failure {
		t.Errorf("the first pick learned %v, the last %v", first.learned, last.learned)
	}
}

func TestTellingNobodyIsHarmless(t *testing.T) {
	var none *attempt.Attempt
	none.SetLearner(nil)
	none.Tell(attempt.Outcome{})
	new(attempt.Attempt).Tell(attempt.Outcome{})
	if none.Driven() || new(attempt.Attempt).Driven() {
		t.Error("nobody said that it would tell")
	}
}
