package consistenthash

import (
	"cmp"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// ring is the circle of hashes. Each endpoint has points on it in proportion to its weight, and a key belongs to the
// endpoint of the first point from its own hash on. All endpoints that the resolver lists are on it, whatever
// their state, so that one which is away for a while gets its keys back and no others move.
type ring struct {
	members []member
	points  []point // by hash
}

type member struct {
	key string
	n   int // of its points
}

// spot is an endpoint that is to be on the ring.
type spot struct {
	key    string
	weight float64
}

type point struct {
	hash   uint64
	member uint32
}

const (
	// pointsEach points for each unit of weight make the share of an endpoint of weight 1 differ by a tenth
	// (1 / sqrt(points)).
	pointsEach = 100
	// A ring has at most smallRing points for up to manyEndpoints endpoints and largeRing for more, 16 bytes each, and
	// one more for each endpoint.
	smallRing, largeRing = 1 << 16, 1 << 19
	manyEndpoints        = 512
)

// perWeight returns how many points a weight of 1 makes: pointsEach, halved until all weights together fit. It
// depends on nothing that changes with every update, such as the mean: for a change of it moves keys that need not
// move, up to half of them. Weights below a sum of 655, or 5,242 with many endpoints, never see one.
func perWeight(spots []spot) float64 {
	sum := 0.0
	for _, s := range spots {
		sum += s.weight
	}
	most := float64(smallRing)
	if len(spots) > manyEndpoints {
		most = largeRing
	}
	n := float64(pointsEach)
	for n*sum > most {
		n /= 2
	}
	return n
}

// newRing makes the ring of some endpoints, at least one, from the one before if there is one: an update of a few
// among thousands is a merge and no sort.
func newRing(spots []spot, old *ring) *ring {
	r := &ring{members: make([]member, len(spots))}
	each := perWeight(spots)
	for i, s := range spots {
		r.members[i] = member{s.key, max(int(each*s.weight+0.5), 1)}
	}
	if old == nil {
		old = new(ring)
	}
	if slices.Equal(old.members, r.members) {
		return old
	}
	now := make(map[member]uint32, len(r.members))
	for i, m := range r.members {
		now[m] = uint32(i)
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
		h := xxhash.Sum64String(m.key)
		for k := range m.n {
			fresh = append(fresh, point{mix(h + uint64(k)*golden), i})
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

// compare orders points; two of the same hash by key, so that all clients agree.
func (r *ring) compare(a, b point) int {
	if a.hash != b.hash {
		return cmp.Compare(a.hash, b.hash)
	}
	return cmp.Compare(r.members[a.member].key, r.members[b.member].key)
}

// find returns the index of the point that a key belongs to.
func (r *ring) find(key uint64) int {
	low, high := 0, len(r.points)
	for low < high {
		if mid := int(uint(low+high) >> 1); r.points[mid].hash < key {
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
