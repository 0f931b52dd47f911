package agent

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kept is what an agent in its place still needs: older kernels ask for it at each change of a BPF map.
const kept = 1 << unix.CAP_BPF

// A Right is one that an agent keeps for what a session may ask for later.
type Right uint

// ToFlush is the right to close connections that are older than a claim.
const ToFlush Right = unix.CAP_NET_ADMIN

// ErrNotConfined says that this program cannot change the rights of all its threads, because it was built with cgo.
var ErrNotConfined = errors.New("built with cgo: threads keep their rights")

// Confine gives up, for the whole process and for good, the capabilities that New needed and an agent in its place does not: to enter namespaces, to look
// into other processes, to attach programs. What a session may ask for later was looked at by New; what needs a right even then is named in also. A right
// that was never there is not missed here, but by the session that asks.
func Confine(also ...Right) error {
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno == syscall.ENOTSUP {
		return ErrNotConfined
	} else if errno != 0 {
		return fmt.Errorf("give up rights: %w", os.NewSyscallError("prctl", errno))
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var rights [2]unix.CapUserData
	if err := unix.Capget(&header, &rights[0]); err != nil {
		return fmt.Errorf("give up rights: %w", os.NewSyscallError("capget", err))
	}
	mask := uint64(kept)
	for _, r := range also {
		mask |= 1 << r
	}
	for i := range rights {
		have := rights[i].Permitted & uint32(mask>>(32*i))
		rights[i] = unix.CapUserData{Effective: have, Permitted: have}
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&rights)), 0)
	if errno != 0 {
		return fmt.Errorf("give up rights: %w", os.NewSyscallError("capset", errno))
	}
	return nil
}
