//go:build unix && !linux

package lambda

import "syscall"

// processAttributes put a function into a group of its own, so that it is
// killed with its children.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
