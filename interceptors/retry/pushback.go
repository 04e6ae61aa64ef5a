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
	Wait time.Duration // come back after exactly this, if not Stop
}

// maxDigits bounds what is read of a number that comes from outside: 15 digits of milliseconds are more than
// thirty thousand years, and fit a Duration only if they are far fewer.
const maxDigits = 15

// ParsePushback reads the values of grpc-retry-pushback-ms as gRFC A6 says: one natural number of
// milliseconds is a wait; anything else, a negative number, garbage, several values, means stop. No value is
// the zero Pushback.
func ParsePushback(values []string) Pushback {
	if len(values) == 0 {
		return Pushback{}
	}
	stop := Pushback{Set: true, Stop: true}
	if len(values) > 1 || values[0] == "" || len(values[0]) > maxDigits {
		return stop
	}
	for _, r := range values[0] {
		if r < '0' || r > '9' {
			return stop
		}
	}
	ms, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil || ms > int64(maxWait/time.Millisecond) {
		return stop
	}
	return Pushback{Set: true, Wait: time.Duration(ms) * time.Millisecond}
}

// maxWait is the longest wait that is taken for one. Longer ones mean: do not come back.
const maxWait = 24 * time.Hour
