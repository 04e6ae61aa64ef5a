package consistenthash

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/grpcsteady/steady/balancer/internal/pool"
)

// ring is the circle of hashes. Each endpoint has points on it in proportion to its weight, and a key belongs to the
// endpoint of the first point from its own hash on. All endpoints that the resolver lists are on it, whatever
// their state, so that one which is away for a while gets its keys back and no others move.
type ring struct {
	members []member
	points  []point // by hash
	scale   scale
}

type member struct {
	*pool.Endpoint
	n int // of its points
}

type point struct {
	hash   uint64
	member uint32
}

// scale is how many points a weight makes. It changes only when the number or the mean weight of endpoints passes a
// power of two, for a change of it moves keys.
type scale struct {
	points float64 // for each weight of unit
	unit   float64
}

const (
	// pointsEach points for each endpoint make their shares differ by a tenth (1 / sqrt(points)).
	pointsEach = 100
	// maxPoints bounds a ring: from 4,097 endpoints on each has fewer.
	maxPoints = 1 << 19
	// maxShare bounds the points of one endpoint, as a multiple of pointsEach.
	maxShare = 100
)

func scaleOf(listed []pool.Listed) scale {
	sum := 0.0
	for _, l := range listed {
		sum += l.Weight
	}
	unit := 1.0
	for mean := sum / float64(len(listed)); unit*2 <= mean; {
		unit *= 2
	}
	most := maxPoints >> bits.Len(uint(len(listed)-1)) //nolint:gosec // at least 0
	return scale{points: float64(min(pointsEach, max(most, 1))), unit: unit}
}

func (s scale) of(weight float64) int {
	return int(min(max(s.points*weight/s.unit+0.5, 1), s.points*maxShare))
}

// newRing makes the ring of some endpoints, at least one, from the one before if there is one: an update of a few
// among thousands is a merge and no sort.
func newRing(listed []pool.Listed, old *ring) *ring {
	r := &ring{scale: scaleOf(listed), members: make([]member, len(listed))}
	for i, l := range listed {
		r.members[i] = member{l.Endpoint, r.scale.of(l.Weight)}
	}
	if old == nil {
		old = new(ring)
	}
	if slices.Equal(old.members, r.members) {
		return old
	}
	now := make(map[member]uint32, len(r.members))
	for i, m := range r.members {
		now[m] = uint32(i) //nolint:gosec // an index
	}
	// Where the members of the old ring are in the new one, if they are there with as many points.
	moved := make([]int64, len(old.members))
	for i, m := range old.members {
		if at, ok := now[m]; ok {
			moved[i] = int64(at)
			delete(now, m)
		} else {
			moved[i] = -1
		}
	}
	var fresh []point
	for m, i := range now {
		h := xxhash.Sum64String(m.Name())
		for k := range m.n {
			fresh = append(fresh, point{mix(h + uint64(k)*golden), i}) //nolint:gosec // below 10,000
		}
	}
	slices.SortFunc(fresh, r.compare)
	r.points = make([]point, 0, len(old.points)+len(fresh))
	for _, p := range old.points {
		at := moved[p.member]
		if at < 0 {
			continue
		}
		p.member = uint32(at) //nolint:gosec // an index
		for len(fresh) > 0 && r.compare(fresh[0], p) < 0 {
			r.points, fresh = append(r.points, fresh[0]), fresh[1:]
		}
		r.points = append(r.points, p)
	}
	r.points = append(r.points, fresh...)
	return r
}

// compare orders points; two of the same hash by name, so that all clients agree.
func (r *ring) compare(a, b point) int {
	return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(r.members[a.member].Name(), r.members[b.member].Name()))
}

// find returns the index of the point that a key belongs to.
func (r *ring) find(key uint64) int {
	low, high := 0, len(r.points)
	for low < high {
		if mid := int(uint(low+high) >> 1); r.points[mid].hash < key { //nolint:gosec // indexes
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low == len(r.points) {
		return 0
	}
	return low
}

// golden is 2^64 divided by the golden ratio.
const golden = 0x9E3779B97F4A7C15

// mix spreads a number over all bits. Source: SplitMix64 (Steele, Lea, Flood, 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}
