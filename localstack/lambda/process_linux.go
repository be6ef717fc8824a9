package lambda

import "syscall"

// processAttributes put a function into a group of its own, so that it is
// killed with its children, and let the kernel kill it if we are killed.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
