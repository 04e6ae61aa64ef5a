package healthsvc

import (
	"context"
	"errors"
	"fmt"
)

// Amount is how much of a disk must be free: see [Bytes] and [Percent].
type Amount struct {
	bytes   uint64
	percent float64
	err     error
}

// Bytes is an absolute amount, above 0.
func Bytes(n uint64) Amount {
	a := Amount{bytes: n}
	if n == 0 {
		a.err = errors.New("DiskFree: Bytes is 0, want more")
	}
	return a
}

// Percent is a share of the file system's size, above 0 up to 100.
func Percent(p float64) Amount {
	a := Amount{percent: p}
	if !(p > 0 && p <= 100) {
		a.err = fmt.Errorf("DiskFree: Percent is %v, want above 0 up to 100", p)
	}
	return a
}

// DiskFree checks that the file system of a path has at least so much space for a program without privileges.
// It is there on Linux, macOS and FreeBSD; elsewhere [New] says that it is not supported. A network file system
// whose server is gone may hang; then the check hangs, and is down, and no second one is begun.
func DiskFree(path string, least Amount) Checker { return diskCheck{path, least} }

type diskCheck struct {
	path  string
	least Amount
}

func (c diskCheck) Check(context.Context) error {
	free, size, err := space(c.path)
	if err != nil {
		return err
	}
	return c.least.enough(free, size)
}

func (a Amount) enough(free, size uint64) error {
	if a.bytes > 0 {
		if free < a.bytes {
			return fmt.Errorf("%d bytes are free, %d are needed", free, a.bytes)
		}
		return nil
	}
	if size == 0 {
		return errors.New("the file system has no size")
	}
	if share := float64(free) / float64(size) * 100; share < a.percent {
		return fmt.Errorf("%.1f %% are free, %v %% are needed", share, a.percent)
	}
	return nil
}

func (c diskCheck) Validate() error {
	switch {
	case c.path == "":
		return errors.New("DiskFree: path is empty, want a path")
	case c.least.err != nil:
		return c.least.err
	case c.least.bytes == 0 && c.least.percent == 0:
		return errors.New("DiskFree: amount is zero, want Bytes or Percent")
	}
	return supported()
}
