//go:build linux && (amd64 || arm64)

package unotify

import (
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Command is a program to start.
type Command struct {
	Path string   // of the executable; if relative, seen from Dir
	Args []string // with the name of the program first
	Env  []string // exactly what the program gets
	Dir  string   // empty: ours

	// Early is asked once there is a process that signals to our group reach, and before it becomes the program: it returns
	// a signal that came before, which the process is sent then, or 0. Nil is fine.
	Early func() syscall.Signal

	// Its descriptors 0 to 2; nil: /dev/null. Others that we were started with it inherits.
	Stdin, Stdout, Stderr *os.File
}

// spec is what the launcher needs; it travels in a memory file, because a list of arguments or an environment has limits
// that it could exceed.
type spec struct {
	Path      string
	Args, Env []string
	Filter    []unix.SockFilter
}

// report is what the launcher says: once when the filter stands, with the notify descriptor, and once more if exec fails.
type report struct {
	Op    string        `json:",omitempty"` // what went wrong, and how
	Errno syscall.Errno `json:",omitempty"`
	Pid   int           `json:",omitempty"`
	Probe uint64        `json:",omitempty"` // where probeWord lies in the launcher's memory
}

// maxReport bounds a report; longer ones cannot occur.
const maxReport = 512

// Start runs the program under the rules. Its terminal, process group, umask and limits are ours. It returns when the
// program has been executed: an error that is fs.ErrNotExist or fs.ErrPermission says that it could not be.
func Start(cmd Command, rules []Rule) (_ *Process, err error) {
	if cmd.Dir != "" {
		f, err := os.OpenFile(cmd.Dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_PATH, 0)
		if err != nil {
			return nil, errors.New("change folder: " + err.Error()) // Not wrapped: it says nothing about the program.
		}
		f.Close()
	}
	filter, err := assemble(rules)
	if err != nil {
		return nil, err
	}
	file, err := memoryFile(spec{cmd.Path, cmd.Args, cmd.Env, filter})
	if err != nil {
		return nil, fmt.Errorf("write down the program: %w", err)
	}
	defer file.Close()

	tie, err := socketPair("guard")
	if err != nil {
		return nil, err
	}
	defer tie[1].Close()
	launch, err := socketPair("launcher")
	if err != nil {
		tie[0].Close()
		return nil, err
	}
	defer launch[0].Close()
	defer launch[1].Close()

	p := &Process{tie: tie[0], notify: -1, pidfd: -1, stop: -1}
	if p.guard, err = startGuard(cmd, tie[1], launch[1], file); err != nil {
		tie[0].Close()
		return nil, err
	}
	tie[1].Close() // From here on an end of file means that they are gone.
	launch[1].Close()
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	if p.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("make eventfd: %w", err)
	}
	if err := p.meet(launch[0]); err != nil {
		return nil, err
	}
	if cmd.Early != nil {
		if sig := cmd.Early(); sig != 0 {
			_ = p.Signal(sig) // release learns of its end
		}
	}
	if err := p.release(launch[0], cmd.Path); err != nil {
		return nil, err
	}
	return p, nil
}

// meet takes the notify descriptor from the launcher, proves that we can serve, and shares it with the guard.
func (p *Process) meet(launch *os.File) error {
	r, fd, err := receiveReport(launch)
	switch {
	case err != nil:
		return p.unheard(err)
	case r.Op == opFilter && r.Errno == unix.EBUSY:
		return errors.New("install filter: another supervisor watches this process already; Magpie does not run inside Magpie")
	case r.Op != "":
		return fmt.Errorf("%s: %w", r.Op, r.Errno)
	case fd < 0:
		return errors.New("start launcher: it sent no descriptor")
	}
	p.notify = fd
	if p.pidfd, err = unix.PidfdOpen(r.Pid, 0); err != nil {
		return p.vanished(fmt.Errorf("open pidfd of the program: %w", err))
	}
	if err := p.probe(r); err != nil {
		return p.vanished(err)
	}
	if err := sendFD(p.tie, fd, []byte{0}); err != nil {
		return fmt.Errorf("share the calls with the guard: %w", err)
	}
	return nil
}

// vanished is err, unless a signal has just ended the launcher.
func (p *Process) vanished(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return p.unheard(errNoReport)
	}
	return err
}

// unheard tells a launcher that a signal ended from one that broke.
func (p *Process) unheard(err error) error {
	if !errors.Is(err, errNoReport) && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("start launcher: %w", err)
	}
	status, waited := p.Wait()
	if waited != nil { // The guard is gone as well.
		if state, err := p.guard.Wait(); err == nil {
			status = state.Sys().(syscall.WaitStatus)
		}
	}
	if status.Signaled() {
		return &SignalError{status.Signal()}
	}
	return fmt.Errorf("start launcher: %w", err)
}

// SignalError says that a signal, as a Ctrl-C to the whole process group, came before the program was executed.
type SignalError struct{ Signal syscall.Signal }

func (e *SignalError) Error() string { return "start launcher: ended by signal: " + e.Signal.String() }

// release lets the launcher execute the program, and returns why it could not.
func (p *Process) release(launch *os.File, path string) error {
	if _, err := launch.Write([]byte{0}); err != nil {
		return p.unheard(err)
	}
	r, _, err := receiveReport(launch)
	if errors.Is(err, errNoReport) { // exec closed it
		return nil
	}
	if err != nil {
		return p.unheard(err)
	}
	return &fs.PathError{Op: "exec", Path: path, Err: r.Errno}
}

func startGuard(cmd Command, tie, launch, spec *os.File) (*os.Process, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	var std [3]uintptr
	for i, f := range []*os.File{cmd.Stdin, cmd.Stdout, cmd.Stderr} {
		if f == nil {
			f = null
		}
		std[i] = f.Fd()
	}
	pid, err := forkStage(guardName, cmd.Dir, std, []uintptr{tie.Fd(), launch.Fd(), spec.Fd()}, nil)
	runtime.KeepAlive(cmd)
	if err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	return os.FindProcess(pid)
}

func memoryFile(s spec) (*os.File, error) {
	fd, err := unix.MemfdCreate("magpie-program", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "program")
	if err := gob.NewEncoder(f).Encode(s); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := f.Seek(0, 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// socketPair makes a pair that keeps messages apart: ours first, which waits without a thread, then theirs.
func socketPair(name string) ([2]*os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return [2]*os.File{}, fmt.Errorf("make socket pair: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return [2]*os.File{}, err
	}
	return [2]*os.File{os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)}, nil
}

// errNoReport says that the other side closed without a word.
var errNoReport = errors.New("it ended without a report")

// receiveReport reads one report, and the descriptor that came with it; -1: none.
func receiveReport(f *os.File) (r report, fd int, err error) {
	buf := make([]byte, maxReport)
	n, fd, err := receiveFD(f, buf)
	if err != nil {
		return r, -1, err
	}
	if n == 0 {
		return r, -1, errNoReport
	}
	if err := json.Unmarshal(buf[:n], &r); err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return r, -1, err
	}
	return r, fd, nil
}

// sendFD sends a message together with a descriptor.
func sendFD(f *os.File, fd int, msg []byte) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return until(c.Write, func(s uintptr) (again bool, err error) {
		err = unix.Sendmsg(int(s), msg, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
		return errors.Is(err, unix.EAGAIN), err
	})
}

// receiveFD reads a message and the descriptor that came with it; -1: none.
func receiveFD(f *os.File, b []byte) (n, fd int, err error) {
	c, err := f.SyscallConn()
	if err != nil {
		return 0, -1, err
	}
	fd = -1
	oob := make([]byte, unix.CmsgSpace(4))
	err = until(c.Read, func(s uintptr) (again bool, err error) {
		var on int
		if n, on, _, _, err = unix.Recvmsg(int(s), b, oob, unix.MSG_CMSG_CLOEXEC); err != nil {
			return errors.Is(err, unix.EAGAIN), err
		}
		msgs, err := unix.ParseSocketControlMessage(oob[:on])
		if err != nil || len(msgs) == 0 {
			return false, err
		}
		fds, err := unix.ParseUnixRights(&msgs[0])
		if err == nil {
			fd = fds[0]
		}
		return false, err
	})
	return n, fd, err
}

// until tries a call on a descriptor until it need not be made again; wait is the Read or Write of a RawConn.
func until(wait func(func(uintptr) bool) error, try func(fd uintptr) (again bool, err error)) error {
	var last error
	err := wait(func(fd uintptr) bool {
		for {
			var again bool
			again, last = try(fd)
			if !errors.Is(last, unix.EINTR) {
				return !again
			}
		}
	})
	return errors.Join(last, err)
}

// probe checks what serving needs, on the launcher, which stands still: so that what is missing is said before the
// program runs, not by its first call.
func (p *Process) probe(r report) error {
	// An unknown call is ENOENT only if the kernel knows the flag.
	a := addition{id: ^uint64(0), flags: unix.SECCOMP_ADDFD_FLAG_SEND, fd: uint32(p.notify)}
	if errno := p.ioctl(unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&a)); errno != unix.ENOENT {
		return fmt.Errorf("add descriptors to a process: the layer needs Linux 5.14: %w", errno)
	}
	c := &Call{TID: r.Pid, p: p}
	var word [len(probeWord)]byte
	if err := c.ReadMem(r.Probe, word[:]); err != nil {
		return &ForbiddenError{"process_vm_readv", err}
	}
	if string(word[:]) != probeWord {
		return errors.New("read the memory of the launcher: it is not what was written")
	}
	fd, err := p.pids.getfd(r.Pid, 0)
	if err != nil {
		return &ForbiddenError{"pidfd_getfd", err}
	}
	unix.Close(fd)
	// Waking the caller on our processor halves the price of a call; before Linux 6.6 it cannot be had.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(p.notify), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	return nil
}

// ForbiddenError says that we may not look into our own children. It is no matter of root: the rules of Yama or of a
// container stand against it.
type ForbiddenError struct {
	Call string
	Err  error
}

func (e *ForbiddenError) Error() string {
	return fmt.Sprintf("look into a child process by %s: %v", e.Call, e.Err)
}

// Unwrap returns the errno.
func (e *ForbiddenError) Unwrap() error { return e.Err }

// Hint says what to change.
func (e *ForbiddenError) Hint() string {
	return "in a container: start it with --cap-add SYS_PTRACE; else see kernel.yama.ptrace_scope (2 and 3 forbid it)"
}
