package unotify

import "golang.org/x/sys/unix"

const (
	nativeArch  = unix.AUDIT_ARCH_AARCH64
	foreignArch = unix.AUDIT_ARCH_ARM
	x32Bit      = 0
)

var foreignCalls = abi{socketcall: -1, socket: 281, leave: []int{283, 290, 296, 374}}
