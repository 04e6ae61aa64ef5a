package attempt

import "time"

// Result is what the end of an attempt says about the endpoint it was sent to.
type Result uint8

const (
	Nothing Result = iota // it says nothing
	Success               // the endpoint did its work
	Failure               // it is not able to
	Suspect               // it may not be able to: feeds ratios, no count of failures in a row
)

// Outcome is the driver's account of an attempt, for the picker that chose its endpoint.
type Outcome struct {
	Result   Result
	At       time.Time     // when the attempt ended
	Pushback time.Duration // how long the server asked to be left alone; 0: it did not
}

// Learner is told how attempts ended. Pickers implement it for each endpoint.
type Learner interface {
	// Learn must be safe for concurrent use, and quick.
	Learn(Outcome)
}

// SetLearner tells who wants to know how the attempt ends: the picker, for the endpoint it picked. A repeated
// pick overwrites the one before. As with SetPicked the pointer is kept.
func (a *Attempt) SetLearner(l *Learner) {
	if a != nil {
		a.learner.Store(l)
	}
}

// Driven reports whether a driver will tell how the attempt ended, so that the picker need not judge it.
func (a *Attempt) Driven() bool { return a != nil && a.Judged }

// Tell tells the picker how the attempt ended. The driver calls it once.
func (a *Attempt) Tell(o Outcome) {
	if a == nil {
		return
	}
	if l := a.learner.Load(); l != nil {
		(*l).Learn(o)
	}
}
