package healthsvc

import (
	"math/rand/v2"
	"testing"
	"time"
)

// reference decides by the whole history what the machine decides step by step.
func reference(history []bool, at []time.Duration, rise, fall int, grace time.Duration) State {
	state, from := Starting, 0 // from: the first probe that counts for the state
	for i := range history {
		good, bad := 0, 0
		for j := i; j >= from && history[j] == history[i]; j-- {
			switch {
			case history[j]:
				good++
			case state != Starting || at[j] >= grace:
				bad++
			}
		}
		switch {
		case state == Starting && history[i], state == Down && good >= rise:
			state = Up
		case state != Down && bad >= fall:
			state = Down
		}
	}
	return state
}

func TestMachineAgreesWithHistory(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		rise, fall, grace := 1+r.IntN(4), 1+r.IntN(4), time.Duration(r.IntN(20))*time.Second
		begin := time.Unix(0, 0)
		m := newMachine(rise, fall, grace, begin)
		var history []bool
		var at []time.Duration
		now, lean := time.Duration(0), r.Float64()
		for range 60 {
			now += time.Duration(r.IntN(3000)) * time.Millisecond
			ok := r.Float64() < lean
			history, at = append(history, ok), append(at, now)
			before := m
			changed := m.record(begin.Add(now), ok)
			if want := reference(history, at, rise, fall, grace); m.state != want {
				t.Fatalf("seed %d, rise %d, fall %d, grace %v: after %v at %v: %v, want %v", seed, rise, fall, grace, history, at, m.state, want)
			}
			if changed != (m.state != before.state) || changed && !m.since.Equal(begin.Add(now)) || !changed && !m.since.Equal(before.since) {
				t.Fatalf("seed %d: changed %v, since %v: %+v -> %+v", seed, changed, m.since, before, m)
			}
			if m.state == Starting != (before.state == Starting && !ok && m.bad < fall) {
				t.Fatalf("seed %d: starting is left by the first good probe or by failures, and never entered: %+v -> %+v", seed, before, m)
			}
			if want := m.state == Starting || ok != (m.state == Up); m.doubt != want {
				t.Fatalf("seed %d: doubt %v after %+v", seed, m.doubt, m)
			}
		}
	}
}

func TestMachineNeverFlapsOnOneProbe(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		m := newMachine(2, 2, 0, time.Time{})
		m.record(time.Time{}, true)
		for range 100 { // single failures among good probes
			for range 1 + r.IntN(3) {
				if m.record(time.Time{}, true) {
					t.Fatal("changed by a good probe")
				}
			}
			if m.record(time.Time{}, false) {
				t.Fatal("changed by one failure")
			}
		}
	}
}

func TestRest(t *testing.T) {
	c := newCheckConfig("x", Func(nil)).withDefaults()
	for _, tt := range []struct {
		doubt bool
		u     float64
		want  time.Duration
	}{
		{false, 0, 4500 * time.Millisecond},
		{false, 0.5, 5 * time.Second},
		{false, 0.75, 5250 * time.Millisecond},
		{true, 0.5, time.Second},
		{true, 0, 900 * time.Millisecond},
		{true, 7, time.Second}, // a random source that is not one
	} {
		if got := c.rest(tt.doubt, tt.u); got != tt.want {
			t.Errorf("doubt %v, u %v: %v, want %v", tt.doubt, tt.u, got, tt.want)
		}
	}
}
