//go:build linux && (amd64 || arm64)

package unotify

import (
	"bytes"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Call is a system call that waits for its verdict. The thread that made it stands still meanwhile, but a signal may
// take it away at any moment: then what was done for it has been done for nobody, which Answer tells.
//
// A Call is safe for concurrent use, except that it takes one verdict only.
type Call struct {
	Nr   int
	Args [6]uint64
	TID  int // of the calling thread; 0 when it lives in a pid namespace that we cannot see

	id, ip uint64
	p      *Process
	again  bool

	mu       sync.Mutex // held while the call is answered and its memory written: leave comes before or after
	answered bool
	gone     bool
	onGone   func()
}

// Verdict is the answer to a call.
type Verdict struct {
	kind  verdictKind
	value int64
	errno syscall.Errno
	flags uint32
}

type verdictKind uint8

const (
	verdictLater verdictKind = iota
	verdictReturn
	verdictContinue
	verdictFD
)

// Return makes the call succeed with v.
func Return(v int) Verdict { return Verdict{kind: verdictReturn, value: int64(v)} }

// Fail makes the call fail with errno.
func Fail(errno syscall.Errno) Verdict { return Verdict{kind: verdictReturn, errno: errno} }

// Continue lets the kernel run the call. The kernel reads memory anew, so what was judged may not be what runs: never
// an answer to a call that must not run.
func Continue() Verdict { return Verdict{kind: verdictContinue} }

// AddFD moves our descriptor fd into the process and makes the call return its number there, in one step: a call that
// was interrupted leaves none behind. If the handler returns the verdict, fd is closed here in any case; if Answer is
// called with it and returns false, fd is still the caller's.
func AddFD(fd int, closeOnExec bool) Verdict {
	v := Verdict{kind: verdictFD, value: int64(fd)}
	if closeOnExec {
		v.flags = unix.O_CLOEXEC
	}
	return v
}

// Later says that the handler has taken the call over, or answered it already.
func Later() Verdict { return Verdict{} }

// Answer gives the verdict and reports whether the call got it. False means that a signal or death took the call away;
// it may be made again, by the same thread with the same arguments. If a descriptor did not fit into the process, the
// call fails with that errno and Answer returns false too.
//
// True is certain for AddFD alone. A thread that a signal has just woken lets the kernel accept any other verdict for a
// fraction of a microsecond, and then leaves without it; nothing tells. Under a timer of some kHz that is one call in
// 20000: what hangs on an answer must survive it, as a protocol over UDP does.
func (c *Call) Answer(v Verdict) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.gone && c.lockedAnswer(v)
}

func (c *Call) lockedAnswer(v Verdict) bool {
	switch v.kind {
	case verdictReturn:
		return c.lockedSend(response{id: c.id, val: v.value, err: -int32(v.errno)})
	case verdictContinue:
		return c.lockedSend(response{id: c.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE})
	case verdictFD:
		a := addition{id: c.id, flags: unix.SECCOMP_ADDFD_FLAG_SEND, fd: uint32(v.value), fdFlags: v.flags}
		errno := c.add(&a)
		if errno != 0 && errno != unix.ENOENT && errno != unix.EINPROGRESS {
			c.lockedAnswer(Fail(errno))
		}
		if errno != 0 {
			return false
		}
		c.answered = true
		unix.Close(int(v.value))
		return true
	default:
		panic("unotify: answer a call with Later")
	}
}

// Valid reports whether the call still waits. What FD and ReadMem gave belongs to the caller only if it does.
func (c *Call) Valid() bool {
	id := c.id
	return c.p.ioctl(unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id)) == 0
}

// OnGone has f called when the thread makes another call, so that this one cannot be answered any more: f should end the
// wait of whoever took the call over, who could else take what the next call is there for. It must not block. If the
// thread dies instead, f is never called: see Valid.
func (c *Call) OnGone(f func()) {
	c.mu.Lock()
	c.onGone = f
	gone := c.gone
	c.mu.Unlock()
	if gone {
		f()
	}
}

// leave notes that the thread has made the next call. Nothing is written for this one any more.
func (c *Call) leave(next *Call) {
	c.mu.Lock()
	c.gone = true
	next.again = !c.answered && c.Nr == next.Nr && c.Args == next.Args && c.ip == next.ip
	f := c.onGone
	c.mu.Unlock()
	if f != nil {
		f()
	}
}

// Again reports whether a signal took this very call away from its thread before, while a handler had taken it over: the
// kernel has restarted it, or the program has had EINTR and tries again; nothing tells which.
func (c *Call) Again() bool { return c.again }

// FD duplicates the descriptor n of the calling process; the caller closes it. EBADF means that it has none of that
// number; any other error that we may not look.
func (c *Call) FD(n int) (int, error) {
	fd, err := c.p.pids.getfd(c.TID, n)
	if err != nil {
		return -1, err
	}
	if !c.Valid() { // the thread is gone, and its number may be another's by now
		unix.Close(fd)
		return -1, unix.ESRCH
	}
	return fd, nil
}

// ReadMem fills b from the memory of the caller: all of it, or EFAULT; EPERM if the process is closed to us.
func (c *Call) ReadMem(addr uint64, b []byte) error {
	return c.transfer(unix.SYS_PROCESS_VM_READV, addr, b)
}

// WriteMem copies b into the memory of the caller: all of it, or EFAULT; EPERM if the process is closed to us. When the
// thread makes another call, which may use the memory in another way, it is ESRCH.
func (c *Call) WriteMem(addr uint64, b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return unix.ESRCH
	}
	return c.transfer(unix.SYS_PROCESS_VM_WRITEV, addr, b)
}

func (c *Call) transfer(nr uintptr, addr uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	local := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	remote := unix.RemoteIovec{Base: uintptr(addr), Len: len(b)}
	// Not RawSyscall: the page may have to come from a slow place.
	n, _, errno := unix.Syscall6(nr, uintptr(c.TID), uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	switch {
	case errno != 0:
		return errno
	case int(n) != len(b):
		return unix.EFAULT
	}
	return nil
}

// ReadString reads a C string of less than limit bytes; ENAMETOOLONG if it is longer.
func (c *Call) ReadString(addr uint64, limit int) (string, error) {
	const page = 4096 // reads end at page borders, because the next page may not be there
	var s []byte
	for len(s) < limit {
		at := addr + uint64(len(s))
		part := make([]byte, min(page-int(at%page), limit-len(s)))
		if err := c.ReadMem(at, part); err != nil {
			return "", err
		}
		if i := bytes.IndexByte(part, 0); i >= 0 {
			return string(append(s, part[:i]...)), nil
		}
		s = append(s, part...)
	}
	return "", unix.ENAMETOOLONG
}

// add runs with all signals blocked: one that interrupted the ioctl while the thread has yet to take the descriptor would
// leave the call answered without it, with the number 0.
func (c *Call) add(a *addition) syscall.Errno {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^uint64(0)
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &all, &old); err == nil {
		defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }()
	}
	return c.p.ioctl(unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(a))
}

func (c *Call) lockedSend(r response) bool {
	c.answered = c.p.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)) == 0
	return c.answered
}

// The structures of seccomp_unotify(2).
type notification struct {
	id    uint64
	tid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

type response struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

type addition struct {
	id      uint64
	flags   uint32
	fd      uint32
	newFD   uint32
	fdFlags uint32
}

// Their sizes are part of the ioctl numbers; here the compiler compares.
var (
	_ [unix.SECCOMP_IOCTL_NOTIF_RECV >> 16 & 0x3fff]byte  = [unsafe.Sizeof(notification{})]byte{}
	_ [unix.SECCOMP_IOCTL_NOTIF_SEND >> 16 & 0x3fff]byte  = [unsafe.Sizeof(response{})]byte{}
	_ [unix.SECCOMP_IOCTL_NOTIF_ADDFD >> 16 & 0x3fff]byte = [unsafe.Sizeof(addition{})]byte{}
)
