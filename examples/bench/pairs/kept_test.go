package pairs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/grpcsteady/steady/examples/bench/pairs"
)

// held is what the arms of a test hold.
var held [][]byte

// hoard holds so many bytes a thing, and throws as many away.
func hoard(size int, err error) pairs.Keep {
	return func(n int) (func(), error) {
		for range n {
			held = append(held, make([]byte, size))
			held[0] = append([]byte(nil), make([]byte, size)...)
		}
		return func() { held = nil }, err
	}
}

func kept(ours, peer pairs.Keep) pairs.Row {
	return pairs.Row{Name: "things", Peer: "peer", Keeps: 16, Open: opened(pairs.Arm{Keep: ours}, pairs.Arm{Keep: peer})}
}

// What stays is told apart from what was only made.
func TestWhatIsHeld(t *testing.T) {
	r, err := pairs.Measure(t.Context(), kept(hoard(64<<10, nil), hoard(128<<10, nil)), tiny)
	if err != nil {
		t.Fatal(err)
	}
	v := pairs.Judge(r)
	for _, c := range []struct {
		name string
		got  pairs.Cost
		want float64
	}{{"ours", v.Ours, 64 << 10}, {"peer", v.Peer, 128 << 10}} {
		if c.got.Held < c.want || c.got.Held > 1.1*c.want || c.got.Bytes < 2*c.want || c.got.NS <= 0 {
			t.Errorf("%s: %+v, want %v bytes held of twice as many made", c.name, c.got, c.want)
		}
	}
	if v.Ratio < 0.45 || v.Ratio > 0.55 {
		t.Errorf("ratio %v, want that of the bytes held", v.Ratio)
	}

	var line, object bytes.Buffer
	if err := errors.Join(pairs.WriteLine(&line, r, v), pairs.WriteJSON(&object, r, v)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(line.String(), "held 6") || !strings.Contains(line.String(), "ours, 2.0 times less held") {
		t.Errorf("line %q, want what is held and who holds less", &line)
	}
	var got struct {
		Ours float64 `json:"ours_held"`
		Peer float64 `json:"peer_held"`
		NS   float64 `json:"ours_ns"`
	}
	if err := json.Unmarshal(object.Bytes(), &got); err != nil || got.Ours < 64<<10 || got.Peer < 128<<10 || got.NS <= 0 {
		t.Errorf("%s: %v, want what is held beside the times", &object, err)
	}
}

func TestKeepingFails(t *testing.T) {
	good, bad := hoard(1, nil), func(int) (func(), error) { return nil, errArm }
	for name, row := range map[string]pairs.Row{"ours": kept(bad, good), "peer": kept(good, bad)} {
		if _, err := pairs.Measure(t.Context(), row, tiny); !errors.Is(err, errArm) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v, want the arm's", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pairs.Measure(ctx, kept(good, good), tiny); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}
