package retry

import (
	"strconv"
	"time"
)

// Pushback is a server's word about another attempt: gRPC's trailer grpc-retry-pushback-ms, or a RetryInfo
// among the details of a status.
type Pushback struct {
	Set  bool          // the server said something
	Stop bool          // do not come back
	Wait time.Duration // come back after exactly this, if not Stop; 0 to 24 h, anything else means Stop
}

// maxPushback is the longest wait that is believed: a longer one means "do not come back". Without it, a
// server could put a client without deadline to sleep for centuries.
const maxPushback = 24 * time.Hour

// maxDigits bounds how much is read of a number that comes from outside. No believable wait needs more.
const maxDigits = 15

// refuses reports whether the server does not want another attempt. A wait that [ParsePushback] would not
// have returned is judged here as well, since a Pushback may come from elsewhere.
func (p Pushback) refuses() bool {
	return p.Stop || p.Set && (p.Wait < 0 || p.Wait > maxPushback)
}

// ParsePushback reads the values of grpc-retry-pushback-ms as gRFC A6 says: one natural number of
// milliseconds, in digits only, is a wait; anything else, a negative number, garbage, several values, means
// stop. So does a wait above 24 h. No value is the zero Pushback.
func ParsePushback(values []string) Pushback {
	if len(values) == 0 {
		return Pushback{}
	}
	stop := Pushback{Set: true, Stop: true}
	if len(values) > 1 || len(values[0]) > maxDigits {
		return stop
	}
	// ParseUint takes neither a sign nor a space nor, with a base given, an underscore.
	ms, err := strconv.ParseUint(values[0], 10, 63)
	if err != nil || ms > uint64(maxPushback/time.Millisecond) {
		return stop
	}
	return Pushback{Set: true, Wait: time.Duration(ms) * time.Millisecond}
}
