//go:build !linux

package testbed

import "syscall"

// dieWithParent does nothing, because only Linux can end a process with its parent. On
// other systems the processes remain if the test bed is killed.
func dieWithParent() *syscall.SysProcAttr { return nil }
