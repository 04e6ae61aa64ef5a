package breaker_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/grpcsteady/steady/interceptors/breaker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func noJitter(c breaker.Config) breaker.Config {
	c.OpenJitter = -1
	return c
}

func newBreaker(t testing.TB, cfg breaker.Config, opts ...breaker.Option) *breaker.Breaker {
	t.Helper()
	b, err := breaker.New(cfg, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func allow(t testing.TB, b *breaker.Breaker) breaker.Token {
	t.Helper()
	token, err := b.Allow()
	if err != nil {
		t.Fatalf("refused while %v: %v", b.State(), err)
	}
	return token
}

func refused(t testing.TB, b *breaker.Breaker) {
	t.Helper()
	if _, err := b.Allow(); err != breaker.ErrOpen { //nolint:errorlint // the bare sentinel is promised
		t.Fatalf("while %v: got %v, want ErrOpen", b.State(), err)
	}
}

func wantState(t testing.TB, b *breaker.Breaker, want breaker.State) {
	t.Helper()
	if got := b.State(); got != want {
		t.Fatalf("state %v, want %v", got, want)
	}
}

// end makes n calls that all end as o says, at once.
func end(t testing.TB, b *breaker.Breaker, n int, o breaker.Outcome) {
	t.Helper()
	for range n {
		token := allow(t, b)
		token.End(time.Now(), o)
	}
}

var failure = breaker.Outcome{Result: breaker.Failure}
