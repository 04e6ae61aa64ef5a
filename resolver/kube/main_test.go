package kube_test

import (
	"testing"

	"github.com/grpcsteady/steady/interceptors/steadytest"
)

func TestMain(m *testing.M) { steadytest.Main(m) }
