//go:build !linux

package testbed

import "syscall"

// dieWithParent: only Linux can end a process with its parent; elsewhere the
// test bed ends its processes itself, unless it is killed.
func dieWithParent() *syscall.SysProcAttr { return nil }
