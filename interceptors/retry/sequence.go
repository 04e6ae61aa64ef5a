package retry

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Stop is why no further attempt is made.
type Stop uint8

// [Sequence.Next] returns all but the last two, which are for those who drive a sequence.
const (
	Go            Stop = iota // carry on: there is, or was, no reason to stop
	StopPermanent             // the error is not one to retry on, or the call must not be repeated
	StopAttempts              // all attempts are used up
	StopElapsed               // the next attempt would start after MaxElapsed
	StopBudget                // the budget is spent
	StopPushback              // the server said not to come back
	StopDeadline              // the next attempt could not end before the deadline
	StopCanceled              // the caller went away
	StopRefused               // a gate did not admit the next attempt
)

var stopNames = [...]string{
	"", "not retryable", "attempts", "max elapsed", "budget", "pushback", "deadline", "canceled", "refused",
}

// String returns the reason in a word or two, as the story of a call tells it, and "" for Go.
func (s Stop) String() string {
	if int(s) < len(stopNames) {
		return stopNames[s]
	}
	return fmt.Sprintf("Stop(%d)", uint8(s))
}

// Sequence is the state of one call's attempts. It is a value: copying it forks the call. One goroutine at a
// time may use it, and using it allocates nothing. Make one with [Config.Start]; the zero Sequence allows no
// attempt.
type Sequence struct {
	cfg      *Config
	start    time.Time
	previous time.Duration
	attempts int
	retries  int // since the last pushback, which resets the exponent
}

// Start begins a call with its first attempt. The config must have its defaults filled in, and must not
// change while the sequence is in use.
func (c *Config) Start(now time.Time) Sequence { return Sequence{cfg: c, start: now, attempts: 1} }

// Attempts returns how many attempts have been started.
func (s *Sequence) Attempts() int { return s.attempts }

// Failed describes the end of an attempt that failed.
type Failed struct {
	Now       time.Time      // when it ended
	Deadline  time.Time      // of the call; zero: none
	Retryable bool           // error and call allow another attempt
	Pushback  Pushback       // what the server said
	Need      time.Duration  // how long another attempt is likely to take; 0: not known
	Budget    *Budget        // asked last for this retry; nil: none
	Random    func() float64 // for the jitter, in [0, 1); nil: math/rand/v2
}

// Next decides what follows a failed attempt: with [Go], another attempt after the wait, which counts as made
// from now on; otherwise none, for the reason returned, and the sequence stays as it was. The reasons are
// looked at in this order:
//
//   - Failed.Retryable, then MaxAttempts;
//   - a pushback that says stop. One that says when is taken as it is, without jitter and not bounded by
//     MaxBackoff, and the backoff after it begins at InitialBackoff again (gRFC A6);
//   - the deadline: the attempt would start after the wait and take Need, and must end before it;
//   - MaxElapsed: a retry may start at that instant, not after it;
//   - the budget, last, so that nothing is spent on a retry that is not made.
func (s *Sequence) Next(f Failed) (time.Duration, Stop) {
	switch {
	case !f.Retryable:
		return 0, StopPermanent
	case s.cfg == nil || s.attempts >= s.cfg.MaxAttempts:
		return 0, StopAttempts
	case f.Pushback.refuses():
		return 0, StopPushback
	}
	wait := f.Pushback.Wait
	if !f.Pushback.Set {
		random := f.Random
		if random == nil {
			random = rand.Float64
		}
		wait = s.cfg.Backoff(s.retries, s.previous, random())
	}
	start := f.Now.Add(wait)
	if !f.Deadline.IsZero() && !start.Add(f.Need).Before(f.Deadline) {
		return 0, StopDeadline
	}
	if s.cfg.MaxElapsed > 0 && start.Sub(s.start) > s.cfg.MaxElapsed {
		return 0, StopElapsed
	}
	if f.Budget != nil && !f.Budget.Withdraw(f.Now) {
		return 0, StopBudget
	}
	s.attempts++
	s.previous = wait
	s.retries++
	if f.Pushback.Set {
		s.retries, s.previous = 0, 0
	}
	return wait, Go
}
