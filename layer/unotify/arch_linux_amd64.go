package unotify

import "golang.org/x/sys/unix"

const (
	nativeArch  = unix.AUDIT_ARCH_X86_64
	foreignArch = unix.AUDIT_ARCH_I386
	x32Bit      = 0x40000000 // __X32_SYSCALL_BIT: same architecture value, other layouts
)

var foreignCalls = abi{socketcall: 102, socket: 359, leave: []int{362, 369, 370, 345}}
