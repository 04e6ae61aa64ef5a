package pool

import (
	"math"
	"sync/atomic"
	"time"
)

// decaying is a number that falls by itself: it is v at an instant and v * exp(-t/tau) at t after it. Both
// halves stand in one word, so that it can be read and replaced without a lock: the number as float32, the
// instant in ticks of 8 ms since the pool began. An instant may lie ahead; until then the number does not fall.
//
// Ticks wrap around after 417 days. An age is right below that: no instant lies ahead by more than maxAhead, so a
// number that nobody has looked at for most of a year is old and not ahead of its time.
type decaying struct{ bits atomic.Uint64 }

const (
	tickShift = 23                                   // makes ticks of nanoseconds
	maxAhead  = uint32(2*maxPushback>>tickShift) + 1 // in ticks
)

func ticks(now int64) uint32 { return uint32(now >> tickShift) } //nolint:gosec // wraps on purpose

func packed(v float64, at uint32) uint64 {
	return uint64(math.Float32bits(float32(v)))<<32 | uint64(at)
}

func unpacked(bits uint64, now int64) (v float64, age time.Duration) {
	v = float64(math.Float32frombits(uint32(bits >> 32)))
	n := ticks(now) - uint32(bits&math.MaxUint32)
	if ahead := -n; ahead > 0 && ahead <= maxAhead {
		return v, -time.Duration(ahead) << tickShift
	}
	return v, time.Duration(n) << tickShift
}

// at returns the number as it has fallen by now.
func (d *decaying) at(now int64, tau time.Duration) float64 {
	bits := d.bits.Load()
	if bits == 0 {
		return 0
	}
	v, age := unpacked(bits, now)
	return v * fallen(age, tau)
}

// change replaces the number by what f makes of it. held is now, or when it begins to fall if that lies ahead. f
// may be called more than once.
func (d *decaying) change(now int64, tau time.Duration, f func(v float64, held int64) (next float64, from int64)) {
	for {
		old := d.bits.Load()
		v, age := 0.0, time.Duration(0)
		if old != 0 {
			v, age = unpacked(old, now)
		}
		next, from := f(v*fallen(age, tau), now-int64(min(age, 0)))
		from = min(from, now+int64(maxPushback))
		bits := packed(next, ticks(from))
		if next == 0 {
			bits = 0
		}
		if d.bits.CompareAndSwap(old, bits) {
			return
		}
	}
}

// peak makes an observation: a rise counts at once, and a fall as slowly as the number falls by itself.
// Source: Finagle's peak EWMA.
func (d *decaying) peak(now int64, tau time.Duration, v float64) {
	for {
		old := d.bits.Load()
		next := v
		if old != 0 {
			was, age := unpacked(old, now)
			if age < 0 {
				return // a penalty that lasts for a while yet
			}
			if was > v {
				w := fallen(age, tau)
				next = was*w + v*(1-w)
			}
		}
		if d.bits.CompareAndSwap(old, packed(max(next, 1), ticks(now))) {
			return
		}
	}
}

// fallen returns exp(-age/tau), and 1 for an age below 0. It is read at every pick, and so interpolated in a
// table: the error is below 0.1 %. For small ages, of which a busy endpoint's fall is made, it is far less.
func fallen(age, tau time.Duration) float64 {
	if age <= 0 {
		return 1
	}
	x := float64(age) / float64(tau) * tableSteps
	if x >= tableSize {
		return 0
	}
	if x < 1 {
		x /= tableSteps
		return 1 - x + x*x/2
	}
	i := int(x)
	return table[i] + (x-float64(i))*(table[i+1]-table[i])
}

const (
	tableSteps = 16 // in each tau
	tableSize  = 16 * tableSteps
)

var table = func() (t [tableSize + 1]float64) {
	for i := range t {
		t[i] = math.Exp(-float64(i) / tableSteps)
	}
	return t
}()
