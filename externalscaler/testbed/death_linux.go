package testbed

import "syscall"

// dieWithParent lets a process not outlive the test bed, however that ends.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
