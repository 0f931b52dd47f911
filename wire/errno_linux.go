package wire

import "syscall"

// The wire speaks the errnos of Linux on amd64 and arm64, which are the kernel's own here.

func errnoToWire(e syscall.Errno) int32   { return int32(e) }
func errnoFromWire(n int32) syscall.Errno { return syscall.Errno(max(n, 0)) }
