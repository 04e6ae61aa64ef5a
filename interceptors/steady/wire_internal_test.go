package steady

import (
	"testing"
	"unsafe"
)

// TestWireFillsItsSizeClass: it is the one object that every call allocates, and the next larger size of the
// runtime's is 208 bytes. A field more is paid by everybody.
func TestWireFillsItsSizeClass(t *testing.T) {
	if got := unsafe.Sizeof(wire{}); got > 192 {
		t.Errorf("a wire takes %d bytes, want at most 192", got)
	}
}
