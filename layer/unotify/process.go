//go:build linux && (amd64 || arm64)

package unotify

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Process is a running program and all its descendants, whose calls come to Serve. It is safe for concurrent use.
type Process struct {
	guard *os.Process // the parent of the program
	tie   *os.File    // to the guard: while we hold it, the tree lives
	pids  pids

	serving sync.WaitGroup
	closing sync.Once
	err     error

	life   sync.RWMutex // answers may come late: never to another file under our number
	closed bool
	notify int
	pidfd  int // of the program
	stop   int // eventfd that ends Serve
}

// Handler judges a call. It runs on the one thread that receives: what may wait must be taken over (Later) and answered
// from elsewhere.
type Handler func(*Call) Verdict

// Serve gives each call to h until no process under the filter lives, or Close. It must run from Start on, or the
// program stands still at its first call; it may run once.
func (p *Process) Serve(h Handler) error {
	p.serving.Add(1)
	defer p.serving.Done()
	runtime.LockOSThread() // A thread of its own: waking it is half of the price of a call.
	defer runtime.UnlockOSThread()
	taken := map[int]*Call{} // by thread: what handlers have taken over
	for {
		more, err := p.await()
		if err != nil {
			return fmt.Errorf("wait for calls: %w", err)
		}
		if !more {
			return nil
		}
		var n notification
		switch errno := p.receive(&n); errno {
		case 0:
		case unix.EINTR, unix.ENOENT: // the caller did not wait
			continue
		default:
			return fmt.Errorf("receive call: %w", errno)
		}
		c := &Call{Nr: int(n.nr), Args: n.args, TID: int(n.tid), id: n.id, ip: n.ip, p: p}
		if old := taken[c.TID]; old != nil {
			delete(taken, c.TID)
			old.leave(c)
		}
		v := h(c)
		if v.kind == verdictLater && c.TID != 0 { // 0 is any of several
			remember(taken, c)
		}
		if v.kind != verdictLater && !c.Answer(v) && v.kind == verdictFD {
			unix.Close(int(v.value))
		}
	}
}

// maxTaken is how many calls we remember before we look which of their threads have died.
const maxTaken = 4096

func remember(taken map[int]*Call, c *Call) {
	if len(taken) >= maxTaken {
		for tid, old := range taken {
			if !old.Valid() {
				delete(taken, tid)
			}
		}
	}
	taken[c.TID] = c
}

// await blocks until there is a call to receive. A blocking receive would do without this, but before Linux 6.11 nothing
// ends one when the last process is gone.
func (p *Process) await() (bool, error) {
	fds := []unix.PollFd{{Fd: int32(p.notify), Events: unix.POLLIN}, {Fd: int32(p.stop), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return false, err
		default:
			return fds[0].Revents&unix.POLLIN != 0 && fds[1].Revents == 0, nil
		}
	}
}

func (p *Process) receive(n *notification) syscall.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(p.notify), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(n)))
	return errno
}

// Signal sends a signal to the program itself, not to its children.
func (p *Process) Signal(sig syscall.Signal) error {
	p.life.RLock()
	defer p.life.RUnlock()
	if p.closed {
		return os.ErrProcessDone
	}
	return unix.PidfdSendSignal(p.pidfd, sig, nil, 0)
}

// Wait blocks until the program has ended, and returns how. Its descendants may live on: see Gone. It may be called once.
func (p *Process) Wait() (syscall.WaitStatus, error) {
	var b [4]byte
	n, err := p.tie.Read(b[:])
	if err != nil || n != len(b) {
		return 0, fmt.Errorf("wait for the program: the guard is gone: %w", errors.Join(err, os.ErrProcessDone))
	}
	return syscall.WaitStatus(uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24), nil
}

// Gone blocks until no descendant lives any more. Call it after Wait.
func (p *Process) Gone() error {
	var b [1]byte
	if _, err := p.tie.Read(b[:]); !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("wait for the descendants: %w", err)
	}
	return nil
}

// Descendants lists the living processes of the tree.
func (p *Process) Descendants() ([]int, error) { return descendants(p.guard.Pid) }

// Close kills what is left of the tree, and returns when nothing is. Serve has ended then. It is safe to call twice.
func (p *Process) Close() error {
	p.closing.Do(func() {
		p.tie.Close()
		_, p.err = p.guard.Wait()
		_, err := unix.Write(p.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		p.err = errors.Join(p.err, err)
		p.serving.Wait()
		p.pids.close()

		p.life.Lock()
		defer p.life.Unlock()
		p.closed = true
		unix.Close(p.pidfd)
		unix.Close(p.stop)
		unix.Close(p.notify)
	})
	return p.err
}

// ioctl asks the kernel about a call. It retries EINTR: the kernel takes a mutex interruptibly, and the Go runtime sends
// SIGURG to its own threads. A verdict lost to that would leave a thread of the program waiting for ever.
func (p *Process) ioctl(req uint, arg unsafe.Pointer) syscall.Errno {
	p.life.RLock()
	defer p.life.RUnlock()
	if p.closed {
		return unix.ENOENT
	}
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(p.notify), uintptr(req), uintptr(arg))
		if errno != unix.EINTR {
			return errno
		}
	}
}
