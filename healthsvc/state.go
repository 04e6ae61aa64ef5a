package healthsvc

import (
	"strconv"
	"time"
)

// State is what is known of a dependency.
type State uint8

// The states of a check.
const (
	Starting State = iota // no probe has been good yet, and it has not failed often enough after its grace
	Up
	Down
)

// String returns "starting", "up" or "down".
func (s State) String() string {
	switch s {
	case Starting:
		return "starting"
	case Up:
		return "up"
	case Down:
		return "down"
	}
	return "State(" + strconv.Itoa(int(s)) + ")"
}

// Class says what a check that is not up means for names that declare no dependencies of their own.
type Class uint8

// The classes of checks.
const (
	ClassCritical  Class = iota // takes readiness down
	ClassDegrading              // is reported, and takes nothing down but the names that declare it
)

// String returns "critical" or "degrading".
func (c Class) String() string {
	switch c {
	case ClassCritical:
		return "critical"
	case ClassDegrading:
		return "degrading"
	}
	return "Class(" + strconv.Itoa(int(c)) + ")"
}

// A machine turns the ends of probes into a state. It is pure: it reads no clock. The goroutine of its check
// owns it.
type machine struct {
	rise, fall int
	graceEnds  time.Time // failures before it do not count, until a probe was good once

	state State
	since time.Time // of the state
	good  int       // probes in a row, at most rise
	bad   int       // failed probes in a row that count, at most fall
	doubt bool      // the last probe spoke against the state
}

func newMachine(rise, fall int, grace time.Duration, now time.Time) machine {
	return machine{rise: rise, fall: fall, graceEnds: now.Add(grace), since: now}
}

// record takes the end of a probe and tells whether the state changed.
//
// The first good probe ends the start at once, whatever rise is: there was no failure yet that a row of good
// probes would have to outweigh, and every server waits for it. Grace ends with it.
func (m *machine) record(now time.Time, ok bool) (changed bool) {
	before := m.state
	if ok {
		m.good, m.bad = min(m.good+1, m.rise), 0
		if m.state == Starting || m.state == Down && m.good >= m.rise {
			m.state = Up
		}
	} else {
		m.good = 0
		if m.state != Starting || !now.Before(m.graceEnds) {
			m.bad = min(m.bad+1, m.fall)
		}
		if m.state != Down && m.bad >= m.fall {
			m.state = Down
		}
	}
	m.doubt = m.state == Starting || ok != (m.state == Up)
	if m.state == before {
		return false
	}
	m.since = now
	return true
}
