//go:build linux || darwin || freebsd

package healthsvc

import (
	"os"
	"syscall"
)

// space returns what is free for a program without privileges, and the size, of a path's file system.
func space(path string) (free, size uint64, err error) {
	var s syscall.Statfs_t
	for {
		err = syscall.Statfs(path, &s)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return 0, 0, os.NewSyscallError("statfs "+path, err)
	}
	// The fields' types differ by system, and FreeBSD tells of space that only root may use as below 0.
	block := uint64(s.Bsize) //nolint:gosec // not negative
	free = uint64(s.Bavail)  //nolint:unconvert // signed on FreeBSD
	if int64(free) < 0 {     //nolint:gosec // no disk has 2^63 blocks
		free = 0
	}
	return free * block, s.Blocks * block, nil
}

func supported() error { return nil }
