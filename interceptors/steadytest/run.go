package steadytest

import (
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// hangHint is how long a bubble may take in real time before Run says what usually keeps one spinning. The
// whole point of a bubble is milliseconds, so half a minute is no slow test but a stuck one.
const hangHint = 30 * time.Second

// Run runs f under virtual time: inside a bubble of testing/synctest, in which the clock starts at
// 2000-01-01 UTC and jumps ahead whenever everybody waits. A second costs nothing, and a timer fires at its
// exact instant.
//
// Make everything that f uses inside f: a connection, server, channel or timer from outside does not belong
// to the bubble. Give every call a deadline: a call that waits for ever keeps gRPC's own timers turning, so
// that the bubble spins instead of reporting a deadlock (Run says so on stderr after 30 s of real time).
// t.Run, t.Parallel and t.Deadline do not work inside; loop outside.
func Run(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	hint := time.AfterFunc(hangHint, func() {
		fmt.Fprintf(os.Stderr, "steadytest: %s has run for %v of real time inside a bubble; "+
			"look for a call without a deadline or a wait on something made outside\n", t.Name(), hangHint)
	})
	defer hint.Stop()
	synctest.Test(t, f)
}

// Main runs the tests of a package and fails it when they leave goroutines behind. It is all a TestMain
// needs, and it does not return:
//
//	func TestMain(m *testing.M) { steadytest.Main(m) }
//
// Options are goleak's own, to overlook goroutines of a library that cannot be stopped.
func Main(m *testing.M, opts ...goleak.Option) {
	goleak.VerifyTestMain(m, opts...)
}
