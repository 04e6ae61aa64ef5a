package attempt_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/grpcsteady/steady/balancer/attempt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNilIsHarmless(t *testing.T) {
	a := attempt.From(context.Background())
	name := "a"
	a.SetPicked(&name)
	a.SetEndpoints(3)
	a.SetSent(true)
	if a != nil || a.Avoids("a") || a.AvoidsAny() || a.Picked() != "" || a.Endpoints() != 0 || a.Sent() != attempt.SentUnknown {
		t.Fatal("a nil attempt must know nothing and avoid nothing")
	}
	if got := (*attempt.Call)(nil).Tried(); got != nil {
		t.Fatalf("Tried of nil: %v", got)
	}
}

func TestAvoidsWhatOthersTried(t *testing.T) {
	call := &attempt.Call{}
	first := &attempt.Attempt{Call: call, Number: 1}
	second := &attempt.Attempt{Call: call, Number: 2}
	a, b := "a", "b"
	if first.AvoidsAny() {
		t.Fatal("nothing tried yet")
	}
	first.SetPicked(&a)
	if first.Avoids("a") {
		t.Fatal("an attempt must not avoid its own endpoint: a pick may repeat")
	}
	if !second.Avoids("a") || second.Avoids("b") || !second.AvoidsAny() {
		t.Fatal("the second attempt avoids what the first was sent to, and nothing else")
	}
	first.SetPicked(&b) // a repeated pick overwrites
	if second.Avoids("a") || !second.Avoids("b") {
		t.Fatal("only the last pick of an attempt counts")
	}
	if got := call.Tried(); !slices.Equal(got, []string{"b"}) {
		t.Fatalf("Tried %v", got)
	}
}

func TestNumbersOutsideTheTableAreHarmless(t *testing.T) {
	call := &attempt.Call{}
	name := "a"
	for _, n := range []int{-1, 0, attempt.Max + 1, 1 << 40} {
		a := &attempt.Attempt{Call: call, Number: n}
		a.SetPicked(&name)
		if a.Picked() != "a" || call.Tried() != nil {
			t.Fatalf("number %d: picked %q, tried %v", n, a.Picked(), call.Tried())
		}
	}
}

func TestAdopt(t *testing.T) {
	first := &attempt.Attempt{Number: 1}
	a := "a"
	first.SetPicked(&a)
	call := new(attempt.Call)
	call.Adopt(first)
	second := &attempt.Attempt{Call: call, Number: 2}
	if !second.Avoids("a") || first.Avoids("a") {
		t.Fatal("an adopted attempt counts as one of the call's")
	}
	call.Adopt(&attempt.Attempt{Number: 99}) // of a number that is not remembered
	if got := call.Tried(); !slices.Equal(got, []string{"a"}) {
		t.Fatalf("Tried %v", got)
	}
}

func TestSentIsSticky(t *testing.T) {
	for _, tt := range []struct {
		give []bool
		want attempt.Sent
	}{
		{nil, attempt.SentUnknown},
		{[]bool{false}, attempt.SentNo},
		{[]bool{true}, attempt.SentYes},
		{[]bool{false, true}, attempt.SentYes},
		{[]bool{true, false}, attempt.SentYes},
	} {
		a := &attempt.Attempt{}
		for _, s := range tt.give {
			a.SetSent(s)
		}
		if got := a.Sent(); got != tt.want {
			t.Errorf("%v: got %v, want %v", tt.give, got, tt.want)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	call := &attempt.Call{}
	names := []string{"a", "b", "c"}
	var wg sync.WaitGroup
	for n := 1; n <= attempt.Max; n++ {
		a := &attempt.Attempt{Call: call, Number: n}
		for i := range 2 {
			wg.Go(func() {
				for j := range 500 {
					a.SetPicked(&names[(i+j)%3])
					a.Avoids(names[j%3])
					a.SetSent(j%2 == 0)
					a.SetEndpoints(j)
					_, _, _ = a.Picked(), a.Sent(), a.Endpoints()
				}
			})
		}
	}
	wg.Wait()
	if got := len(call.Tried()); got != attempt.Max {
		t.Fatalf("%d attempts remembered, want %d", got, attempt.Max)
	}
}

func TestHotPathAllocatesNothing(t *testing.T) {
	a := &attempt.Attempt{Call: &attempt.Call{}, Number: 1}
	name := "a"
	ctx := attempt.NewContext(context.Background(), a)
	if n := testing.AllocsPerRun(1000, func() {
		got := attempt.From(ctx)
		if got.AvoidsAny() {
			t.Error("avoids")
		}
		got.SetPicked(&name)
		got.SetEndpoints(3)
		got.SetSent(true)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkPicker(b *testing.B) {
	call := &attempt.Call{}
	name := "a"
	ctx := attempt.NewContext(context.Background(), &attempt.Attempt{Call: call, Number: 1})
	b.ReportAllocs()
	for b.Loop() {
		a := attempt.From(ctx)
		if !a.AvoidsAny() {
			a.SetPicked(&name)
		}
		a.SetSent(true)
	}
}

func Example() {
	call := &attempt.Call{}
	endpoints := []string{"10.0.0.1:50051", "10.0.0.2:50051"}

	// The driver makes an attempt; the picker finds it in the context and chooses.
	pick := func(ctx context.Context) {
		a := attempt.From(ctx)
		for i := range endpoints {
			if !a.Avoids(endpoints[i]) {
				a.SetPicked(&endpoints[i])
				return
			}
		}
	}
	for n := 1; n <= 2; n++ {
		a := &attempt.Attempt{Call: call, Number: n}
		pick(attempt.NewContext(context.Background(), a))
		fmt.Println("attempt", a.Number, "to", a.Picked())
	}
	// Output:
	// attempt 1 to 10.0.0.1:50051
	// attempt 2 to 10.0.0.2:50051
}
