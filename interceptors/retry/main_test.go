package retry_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/grpcsteady/steady/interceptors/retry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ms = time.Millisecond

func newBudget(t testing.TB, cfg retry.BudgetConfig) *retry.Budget {
	t.Helper()
	b, err := retry.NewBudget(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// always is a source of jitter that knows one number.
func always(x float64) func() float64 { return func() float64 { return x } }
