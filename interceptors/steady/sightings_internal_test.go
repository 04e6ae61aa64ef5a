package steady

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestSightingsAreBounded, however many addresses a service has, and forgotten after ten seconds.
func TestSightingsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sightings
		for i := range 10_000 {
			s.failure(time.Now(), time.Now(), fmt.Sprint("pod", i))
		}
		if n := len(s.last); n != maxSightings {
			t.Errorf("%d are remembered, want %d", n, maxSightings)
		}
		time.Sleep(sightingMemory + 1)
		if n, _ := s.failure(time.Now(), time.Now(), "another"); n != 2 || len(s.last) != 1 {
			// 2: the first failure of the only one that is known may be a crash of one of several.
			t.Errorf("%d endpoints seem to be there, %d are remembered", n, len(s.last))
		}
	})
}
