package testbed

import "syscall"

// dieWithParent ends a process when the test bed ends, even if the test bed is killed.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
