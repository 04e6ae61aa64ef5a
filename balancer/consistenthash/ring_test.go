package consistenthash

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// spots are n endpoints of some weights.
func spots(n int, weight func(i int) float64) []spot {
	out := make([]spot, n)
	for i := range out {
		out[i] = spot{key: fmt.Sprintf("10.%d.%d.%d:50051", i>>16, i>>8&255, i&255), weight: weight(i)}
	}
	return out
}

func one(int) float64 { return 1 }

// keysOf are the hashes of some keys.
func keysOf(n int) []uint64 {
	random := rand.New(rand.NewPCG(1, 2))
	keys := make([]uint64, n)
	for i := range keys {
		keys[i] = random.Uint64()
	}
	return keys
}

func (r *ring) owner(key uint64) string { return r.members[r.points[r.find(key)].member].key }

// moves counts the keys that change hands from one ring to another, and fails for one that moves between two
// endpoints that are in both.
func moves(t *testing.T, from, to *ring, keys []uint64, changed string) (moved int) {
	t.Helper()
	for _, k := range keys {
		before, after := from.owner(k), to.owner(k)
		if before == after {
			continue
		}
		moved++
		if before != changed && after != changed {
			t.Fatalf("a key moved from %s to %s, and only %s has changed", before, after, changed)
		}
	}
	return moved
}

// TestMovement: of n endpoints one goes or comes, and on average no more than 1.2/n of the keys move, all of them from
// or to that one.
func TestMovement(t *testing.T) {
	for _, n := range []int{3, 10, 100, 1000} {
		keys := keysOf(10_000)
		all := spots(n, one)
		whole := newRing(all, nil)
		changes, moved := min(n, 20), 0
		for c := range changes {
			i := c * n / changes
			less := newRing(slices.Delete(slices.Clone(all), i, i+1), whole)
			moved += moves(t, whole, less, keys, all[i].key)                 // it goes
			moves(t, less, newRing(all, less), keys, all[i].key)             // and comes back
			moves(t, less, newRing(rotated(all, i), less), keys, all[i].key) // elsewhere in the list
		}
		share := float64(moved) / float64(changes*len(keys))
		t.Logf("%d endpoints: %.3f/n of the keys move on average", n, share*float64(n))
		if share > 1.2/float64(n) {
			t.Errorf("%d endpoints: %.3f/n of the keys move on average, want at most 1.2/n", n, share*float64(n))
		}
	}
}

func rotated(s []spot, by int) []spot { return append(slices.Clone(s[by:]), s[:by]...) }

// TestMovementWithWeights: the weights that people write are no reason for other keys to move.
func TestMovementWithWeights(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	keys := keysOf(5000)
	for _, weights := range [][]float64{
		{3, 2, 1}, {5, 3, 2}, {1, 1, 2}, {10, 1}, {1, 1, 1, 100}, {50, 30, 20}, {256, 128, 64, 32}, nil, nil, nil,
	} {
		if weights == nil {
			weights = make([]float64, 3+random.IntN(40))
			for i := range weights {
				weights[i] = float64(1 + random.IntN(10))
			}
		}
		all := spots(len(weights), func(i int) float64 { return weights[i] })
		whole := newRing(all, nil)
		for i := range all {
			moves(t, whole, newRing(slices.Delete(slices.Clone(all), i, i+1), whole), keys, all[i].key)
			for _, w := range []float64{1, 2, 7} {
				changed := slices.Clone(all)
				changed[i].weight = w
				moves(t, whole, newRing(changed, whole), keys, all[i].key)
			}
		}
	}
}

// TestThinning: where the sum of the weights passes the limit, and there alone, about half of the keys move once.
func TestThinning(t *testing.T) {
	keys := keysOf(5000)
	moved := func(from, to float64) int {
		weights := func(last float64) []spot {
			return spots(3, func(i int) float64 { return []float64{300, 300, last}[i] })
		}
		a, b := newRing(weights(from), nil), newRing(weights(to), nil)
		n := 0
		for _, k := range keys {
			if a.owner(k) != b.owner(k) {
				n++
			}
		}
		return n
	}
	if n := moved(54, 55); n > 50 {
		t.Errorf("%d of 5000 keys move below the limit", n)
	}
	if n := moved(55, 56); n < 1000 || n > 2600 {
		t.Errorf("%d of 5000 keys move at the limit, want up to a half", n)
	}
	if n := moved(56, 57); n > 50 {
		t.Errorf("%d of 5000 keys move above the limit", n)
	}
}

// TestShares: the share of the keys that an endpoint has is in proportion to its weight, but for a tenth or so:
// 1 / sqrt(points).
func TestShares(t *testing.T) {
	for _, tt := range []struct {
		name    string
		weights []float64
		most    float64 // relative standard deviation of the lightest one
	}{
		{"3:2:1", []float64{3, 2, 1}, 0.12},
		{"ten alike", []float64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 0.12},
		{"80:40:40", []float64{80, 40, 40}, 0.12},
	} {
		sum := 0.0
		for _, w := range tt.weights {
			sum += w
		}
		const fleets = 100
		total, square := make([]float64, len(tt.weights)), make([]float64, len(tt.weights))
		for fleet := range fleets {
			all := spots(len(tt.weights), func(i int) float64 { return tt.weights[i] })
			for i := range all {
				all[i].key = fmt.Sprintf("%d.%s", fleet, all[i].key)
			}
			for i, share := range shares(newRing(all, nil)) {
				relative := share / (tt.weights[i] / sum)
				total[i] += relative
				square[i] += relative * relative
			}
		}
		for i := range total {
			mean := total[i] / fleets
			deviation := math.Sqrt(square[i]/fleets - mean*mean)
			t.Logf("%s: weight %g has %.3f of its share, standard deviation %.3f", tt.name, tt.weights[i], mean, deviation)
			// The mean of 100 is within four of its own standard deviations, each a tenth of theirs.
			if math.Abs(mean-1) > 4*tt.most/10 || deviation > tt.most {
				t.Errorf("%s: weight %g has %.3f of its share, standard deviation %.3f, want 1 and at most %.2f", tt.name, tt.weights[i], mean, deviation, tt.most)
			}
		}
	}
}

// shares returns, exactly, what part of the circle each member has.
func shares(r *ring) []float64 {
	out := make([]float64, len(r.members))
	for i, p := range r.points {
		before := r.points[(i+len(r.points)-1)%len(r.points)].hash
		out[p.member] += float64(p.hash-before) / (1 << 64)
	}
	return out
}

// TestIncrementalIsFresh: a ring that was made of the one before is the ring that one would make anew, so that clients
// agree whatever they have been through.
func TestIncrementalIsFresh(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	all := spots(300, one)
	var old *ring
	for round := range 30 {
		n := 1 + random.IntN(len(all))
		if random.IntN(2) == 0 {
			n = 1 + random.IntN(20)
		}
		list := make([]spot, n)
		for i, k := range random.Perm(len(all))[:n] {
			list[i] = spot{all[k].key, float64(1 + random.IntN(3))}
			if random.IntN(20) == 0 {
				list[i].weight = float64(random.Uint32())
			}
		}
		fresh := newRing(list, nil)
		old = newRing(list, old)
		if !slices.Equal(old.points, fresh.points) || !slices.Equal(old.members, fresh.members) {
			t.Fatalf("round %d: the ring of %d that was carried over differs from a fresh one", round, n)
		}
		if again := newRing(slices.Clone(list), old); again != old {
			t.Fatalf("round %d: the same list makes another ring", round)
		}
		if !slices.IsSortedFunc(old.points, old.compare) {
			t.Fatalf("round %d: the points are not in order", round)
		}
	}
}

// TestOrderOfTheListIsNoMatter: two clients agree.
func TestOrderOfTheListIsNoMatter(t *testing.T) {
	all := spots(50, func(i int) float64 { return float64(1 + i%4) })
	turned := rotated(all, 17)
	slices.Reverse(turned[5:30])
	a, b := newRing(all, nil), newRing(turned, nil)
	for _, k := range keysOf(20_000) {
		if a.owner(k) != b.owner(k) {
			t.Fatalf("one says %s, the other %s", a.owner(k), b.owner(k))
		}
	}
}

// TestRingIsBounded: no weights and no number of endpoints make it larger than is documented, and everybody is on it.
func TestRingIsBounded(t *testing.T) {
	for _, tt := range []struct {
		n      int
		weight func(i int) float64
		most   int
	}{
		{1, one, pointsEach},
		{1, func(int) float64 { return math.MaxUint32 }, smallRing},
		{3, func(i int) float64 { return math.Pow(1e4, float64(i)) }, smallRing + 3},
		{100, func(int) float64 { return math.MaxUint32 }, smallRing + 100},
		{1000, func(i int) float64 { return float64(1 + i%100) }, largeRing + 1000},
		{20_000, one, largeRing + 20_000},
	} {
		r := newRing(spots(tt.n, tt.weight), nil)
		on := make(map[uint32]bool)
		for _, p := range r.points {
			on[p.member] = true
		}
		if len(r.points) > tt.most || len(on) != tt.n {
			t.Errorf("%d endpoints: %d points, want at most %d; %d have one", tt.n, len(r.points), tt.most, len(on))
		}
	}
}

func TestFindIsTheNextPoint(t *testing.T) {
	r := newRing(spots(7, one), nil)
	for _, p := range []int{0, 1, len(r.points) / 2, len(r.points) - 1} {
		h := r.points[p].hash
		if got := r.find(h); got != p {
			t.Errorf("the hash of point %d is found at %d", p, got)
		}
		if got, want := r.find(h+1), (p+1)%len(r.points); got != want {
			t.Errorf("one after point %d: %d, want %d", p, got, want)
		}
	}
	if r.find(0) != 0 || r.find(math.MaxUint64) != 0 {
		t.Error("the circle does not close")
	}
}

func BenchmarkFind(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10_000} {
		r := newRing(spots(n, one), nil)
		keys := keysOf(1 << 12)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			i := 0
			for b.Loop() {
				r.find(keys[i&(1<<12-1)])
				i++
			}
		})
	}
}

func BenchmarkNewRing(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		all := spots(n, one)
		whole := newRing(all, nil)
		b.Run(fmt.Sprintf("fresh/%d", n), func(b *testing.B) {
			for b.Loop() {
				newRing(all, nil)
			}
		})
		b.Run(fmt.Sprintf("1%%/%d", n), func(b *testing.B) {
			less := newRing(all[:n-max(n/100, 1)], whole)
			for b.Loop() {
				newRing(all, less)
			}
		})
		b.Run(fmt.Sprintf("same/%d", n), func(b *testing.B) {
			for b.Loop() {
				newRing(all, whole)
			}
		})
	}
}
