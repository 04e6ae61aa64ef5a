package steadytest

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"testing/synctest"
)

var leakRuns atomic.Int64

// withoutLeak runs f in a bubble and returns an error with their stacks if goroutines that f started, or
// that those started, are still there when all is still.
//
// It knows them by a profiler label, which goroutines inherit. Comparing all goroutines before and after, as
// goleak does, would blame tests that run in parallel.
func withoutLeak(f func() error) (err error) {
	const key = "steadytest-leak"
	value := strconv.FormatInt(leakRuns.Add(1), 10)
	pprof.Do(context.Background(), pprof.Labels(key, value), func(context.Context) { err = f() })
	synctest.Wait()
	var profile bytes.Buffer
	if e := pprof.Lookup("goroutine").WriteTo(&profile, 1); e != nil {
		return e
	}
	label := fmt.Sprintf("%q:%q", key, value)
	for stack := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(stack, label) {
			return fmt.Errorf("goroutines left behind (earlier error: %v):\n%s", err, stack) //nolint:errorlint // two stories, one of them a stack
		}
	}
	return err
}
