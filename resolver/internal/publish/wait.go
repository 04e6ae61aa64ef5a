package publish

import (
	"math"
	"math/rand/v2"
	"time"
)

// Random draws from 0 up to, but not including, 1. Tests inject their own.
type Random func() float64

// Or returns r, or the process's own source if it is nil.
func (r Random) Or() Random {
	if r == nil {
		return rand.Float64
	}
	return r
}

// The backoff after failures: gRPC's own for connections (doc/connection-backoff.md in its repository).
const (
	backoffBase   = time.Second
	backoffFactor = 1.6
	backoffJitter = 0.2
	backoffMax    = 2 * time.Minute
)

// Backoff returns how long to wait after the nth failure in a row, from 1: 1 s, growing by 1.6 up to most, each
// up to a fifth longer or shorter at random.
func (r Random) Backoff(n int, most time.Duration) time.Duration {
	d := math.Min(float64(backoffBase)*math.Pow(backoffFactor, float64(min(n, 64)-1)), float64(most))
	return time.Duration(d * (1 + backoffJitter*(2*r()-1)))
}

// Period returns how long to wait until the next look: up to a fifth shorter than d at random, and never longer,
// so that what changes is seen within d.
func (r Random) Period(d time.Duration) time.Duration {
	return d - time.Duration(r()*float64(d)/5)
}

// Grace is how long the last list is held by default while somebody says that there is none, and MaxGrace the most
// that may be asked for.
const (
	Grace    = 5 * time.Minute
	MaxGrace = 24 * time.Hour
)
