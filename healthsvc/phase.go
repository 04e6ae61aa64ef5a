package healthsvc

import "strconv"

// Phase is how far the life of a server is. It goes forward only, but between Starting, Serving and
// Suspended, and back from Draining by Resume.
type Phase uint8

// The phases, in the order of a life.
const (
	PhaseStarting  Phase = iota // not every check that readiness needs has been found up or down yet
	PhaseServing                // each name is answered by its dependencies
	PhaseSuspended              // nothing serves, until Resume
	PhaseDraining               // nothing serves, Watches are open, and connections are still taken
	PhaseStopping               // Watches have ended, calls in flight may end
	PhaseStopped                // over
)

// String returns the phase in lower case.
func (p Phase) String() string {
	switch p {
	case PhaseStarting:
		return "starting"
	case PhaseServing:
		return "serving"
	case PhaseSuspended:
		return "suspended"
	case PhaseDraining:
		return "draining"
	case PhaseStopping:
		return "stopping"
	case PhaseStopped:
		return "stopped"
	}
	return "Phase(" + strconv.Itoa(int(p)) + ")"
}

// Status is what a name is answered with.
type Status bool

// The two answers for a name that exists.
const (
	Serving    Status = true
	NotServing Status = false
)

// String returns "SERVING" or "NOT_SERVING".
func (s Status) String() string {
	if s {
		return "SERVING"
	}
	return "NOT_SERVING"
}
