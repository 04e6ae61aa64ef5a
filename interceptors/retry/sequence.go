package retry

import (
	"math/rand/v2"
	"time"
)

// Stop is why no further attempt is made.
type Stop uint8

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

// String returns the reason in a word or two, "" for Go.
func (s Stop) String() string {
	if int(s) < len(stopNames) {
		return stopNames[s]
	}
	return "unknown"
}

// Sequence is the state of one call's attempts. It is a value: copying it forks the call. One goroutine at a
// time may use it. Make one with [Config.Start].
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
	Now       time.Time
	Deadline  time.Time     // of the call; zero: none
	Retryable bool          // error and call allow another attempt
	Pushback  Pushback      // what the server said
	Need      time.Duration // how long another attempt is likely to take; 0: not known
	Budget    *Budget       // nil: no budget
	Random    func() float64
}

// Next decides what follows a failed attempt: with Go, another attempt after the wait; otherwise no further
// one, for the reason returned. The budget is asked last, so that nothing is spent on a retry that is not
// made.
func (s *Sequence) Next(f Failed) (time.Duration, Stop) {
	switch {
	case !f.Retryable:
		return 0, StopPermanent
	case s.attempts >= s.cfg.MaxAttempts:
		return 0, StopAttempts
	case f.Pushback.Set && f.Pushback.Stop:
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
