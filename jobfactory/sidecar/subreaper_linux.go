package sidecar

import "golang.org/x/sys/unix"

// becomeSubreaper has orphaned descendants given to this process.
func becomeSubreaper() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }
