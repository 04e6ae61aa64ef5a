package consistenthash

import (
	"testing"

	"github.com/grpcsteady/steady/interceptors/steadytest"
)

func TestMain(m *testing.M) { steadytest.Main(m) }
