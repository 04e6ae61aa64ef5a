package document_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/grpcsteady/steady/proto/document"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// read reads a good document.
func read(t testing.TB, name, text string, opts ...document.Option) *document.Document {
	t.Helper()
	d, err := document.Read(name, []byte(text), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
