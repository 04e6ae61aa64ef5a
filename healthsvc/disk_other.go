//go:build !linux && !darwin && !freebsd

package healthsvc

import (
	"errors"
	"runtime"
)

var errUnsupported = errors.New("DiskFree: not supported on " + runtime.GOOS)

func space(string) (free, size uint64, err error) { return 0, 0, errUnsupported }

func supported() error { return errUnsupported }
