package endpoint_test

import (
	"testing"

	"github.com/grpcsteady/steady/resolver/endpoint"
)

type keeper []endpoint.Snapshot

func (k keeper) Endpoints() []endpoint.Snapshot { return k }

func TestHandleKeepsWhatItWasGivenFirst(t *testing.T) {
	h := endpoint.NewHandle("orders", nil)
	first := h.Keep("pool", func() any { return keeper{{Endpoint: "b"}, {Endpoint: "a"}} })
	again := h.Keep("pool", func() any { t.Error("built twice"); return nil })
	if first.(keeper)[0] != again.(keeper)[0] {
		t.Error("another value came back")
	}
	h.Keep("other", func() any { return 1 })
	got := h.Endpoints()
	if len(got) != 2 || got[0].Endpoint != "a" || got[1].Endpoint != "b" {
		t.Errorf("endpoints are %v, want a and b", got)
	}
	if h.Channel() != "orders" {
		t.Errorf("channel is %q", h.Channel())
	}
}

func TestHandleTellsChanges(t *testing.T) {
	var told []endpoint.Change
	h := endpoint.NewHandle("orders", func(c endpoint.Change) { told = append(told, c) })
	h.Notify(endpoint.Change{Endpoint: "a", Out: true, Reason: "5 in a row"})
	if len(told) != 1 || told[0].Endpoint != "a" || !told[0].Out {
		t.Errorf("told %v", told)
	}
}

func TestNoHandleIsHarmless(t *testing.T) {
	var h *endpoint.Handle
	if v := h.Keep("pool", func() any { return 7 }); v != 7 {
		t.Errorf("got %v, want what was built", v)
	}
	h.Notify(endpoint.Change{})
	if h.Endpoints() != nil || h.Channel() != "" {
		t.Error("nil knows something")
	}
}
