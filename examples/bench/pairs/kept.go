package pairs

import (
	"context"
	"fmt"
	"runtime"
	"time"
)

// measureKept runs both arms of a row about memory in turns. What stays in memory hardly varies, so the least
// number of pairs tells.
func measureKept(ctx context.Context, row Row, ours, peer Arm) (Result, error) {
	result := Result{Row: row}
	for i := range 1 + MinPairs {
		if err := ctx.Err(); err != nil {
			return Result{}, err
		}
		x, err := keep(ours.Keep, row.Keeps)
		if err != nil {
			return Result{}, fmt.Errorf("ours: %w", err)
		}
		y, err := keep(peer.Keep, row.Keeps)
		if err != nil {
			return Result{}, fmt.Errorf("peer: %w", err)
		}
		if i > 0 { // the first one pays for connections and pools
			result.Ours, result.Peer = append(result.Ours, x), append(result.Peer, y)
		}
	}
	return result, nil
}

// keep makes n things and measures the heap with them and without.
func keep(k Keep, n int) (Cost, error) {
	before := settled()
	began := time.Now()
	release, err := k(n)
	if err != nil {
		return Cost{}, err
	}
	defer release()
	took := time.Since(began)
	var made runtime.MemStats
	runtime.ReadMemStats(&made)
	after := settled()
	things := float64(n)
	return Cost{
		NS:     float64(took) / things,
		Allocs: float64(made.Mallocs-before.Mallocs) / things,
		Bytes:  float64(made.TotalAlloc-before.TotalAlloc) / things,
		Held:   (float64(after.HeapAlloc) - float64(before.HeapAlloc)) / things,
	}, nil
}

// settled returns the heap without garbage. What lies in a pool survives one collection and not two.
func settled() runtime.MemStats {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m
}
