package pool

import (
	"runtime"
	"testing"
)

// TestMemoryOfAnEndpoint holds what docs/balancing.md says: about 1.5 KiB for each endpoint, most of it the window
// of its success ratio, without what gRPC itself keeps for a connection.
func TestMemoryOfAnEndpoint(t *testing.T) {
	const n = 10_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	p, candidates := set(n, windows, one)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapAlloc - before.HeapAlloc) / n
	runtime.KeepAlive(p)
	runtime.KeepAlive(candidates)
	t.Logf("%d bytes for each of %d endpoints", each, n)
	if each > 1536 {
		t.Errorf("an endpoint takes %d bytes, want at most 1,536", each)
	}
}
