package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/internal/netns"
)

// maxProcFile bounds what is read of one file in /proc: environments are a few KiB, and at most 6 MiB by the kernel's own bound on arguments.
const maxProcFile = 8 << 20

// A process is one that ran when it was opened. Its number cannot mean another one meanwhile: both descriptors are of this process only.
type process struct {
	pid     int
	started uint64   // in clock ticks after boot
	dir     *os.File // /proc/PID
	handle  *os.File // a pidfd
}

func openProcess(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.EINVAL) {
		return nil, &Error{"that is a thread, not a process", unix.ESRCH, "the process is in Tgid of /proc/" + strconv.Itoa(pid) + "/status"}
	}
	if err != nil {
		return nil, err
	}
	p := &process{pid: pid, handle: os.NewFile(uintptr(fd), "pidfd")}
	if p.dir, err = os.OpenFile("/proc/"+strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		p.started, err = p.startTime()
	}
	if err != nil {
		err = p.orDead(err)
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *process) close() {
	p.dir.Close() // nil is fine
	p.handle.Close()
}

// alive reports whether the process has not ended; a zombie has.
func (p *process) alive() bool {
	fds := []unix.PollFd{{Fd: int32(p.handle.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return n == 0 || err != nil
}

var errDied = &Error{"it ended just now", unix.ESRCH, "is something restarting it? netns/NAME stays when a process ends"}

// orDead replaces err, which may be nil, when the process ended meanwhile: that is the reason then. A process that is ending has no
// memory any more a moment before it counts as dead.
func (p *process) orDead(err error) error {
	if !p.alive() || errors.Is(err, unix.ESRCH) {
		return errDied
	}
	return err
}

// wait returns nil when the process has ended, or an error when ctx has.
func (p *process) wait(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = p.handle.SetReadDeadline(time.Unix(1, 0)) })()
	raw, err := p.handle.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(uintptr) bool { return !p.alive() })
}

// read reads a file of /proc/PID, which comes in one piece or grows while it is read.
func (p *process) read(name string) ([]byte, error) {
	fd, err := unix.Openat(int(p.dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxProcFile))
}

func (p *process) openRoot() (*os.File, error) {
	fd, err := unix.Openat(int(p.dir.Fd()), "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open its root directory: %w", err)
	}
	return os.NewFile(uintptr(fd), "/"), nil
}

// Fields of proc_pid_stat(5), by their numbers there.
const (
	startTime = 22
	envStart  = 50
	envEnd    = 51
)

func (p *process) startTime() (uint64, error) {
	fields, err := p.stat(startTime)
	if err != nil {
		return 0, err
	}
	return fields[0], nil
}

// stat returns numbers out of proc_pid_stat(5). The name in field 2 may hold anything, so we count from its end.
func (p *process) stat(numbers ...int) ([]uint64, error) {
	b, err := p.read("stat")
	if err != nil {
		return nil, err
	}
	const first = 3
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	var values []uint64
	for _, n := range numbers {
		if len(fields) <= n-first {
			return nil, fmt.Errorf("read /proc/%d/stat: %w", p.pid, io.ErrUnexpectedEOF)
		}
		v, err := strconv.ParseUint(string(fields[n-first]), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read /proc/%d/stat: %w", p.pid, err)
		}
		values = append(values, v)
	}
	return values, nil
}

// environmentInMemory reads what environ shows where it lies. The right to trace the process is enough for that; the file itself belongs to the process'
// user, and to open it takes the right to read all files, which is more than we want to have.
func (p *process) environmentInMemory() ([]byte, error) {
	bounds, err := p.stat(envStart, envEnd)
	if err != nil {
		return nil, err
	}
	start, end := bounds[0], bounds[1]
	if start == 0 || end < start || end-start > maxProcFile {
		return nil, fmt.Errorf("read /proc/%d/environ: %w", p.pid, fs.ErrPermission) // stat(5) hides it, too
	}
	b := make([]byte, end-start)
	if len(b) == 0 {
		return nil, nil
	}
	local := []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}
	n, err := unix.ProcessVMReadv(p.pid, local, []unix.RemoteIovec{{Base: uintptr(start), Len: len(b)}}, 0)
	if err != nil {
		return nil, fmt.Errorf("read environment in memory: %w", err)
	}
	return b[:n], nil
}

// place returns in which container the process is.
func (p *process) place() (place, error) {
	b, err := p.read("cgroup")
	if err != nil {
		return place{}, err
	}
	at, ok := placeOf(b)
	if !ok {
		return place{}, errors.New("it left its container")
	}
	return at, nil
}

func (p *process) environment() ([]string, error) {
	b, err := p.read("environ")
	if errors.Is(err, fs.ErrPermission) {
		b, err = p.environmentInMemory()
	}
	if err != nil {
		return nil, err
	}
	var env []string
	for kv := range strings.SplitSeq(string(b), "\x00") {
		// A process that writes its title over its environment leaves other things there.
		if strings.IndexByte(kv, '=') > 0 {
			env = append(env, kv)
		}
	}
	return env, nil
}

// hostname asks the kernel inside the process' UTS namespace.
func (p *process) hostname() (string, error) {
	fd, err := unix.Openat(int(p.dir.Fd()), "ns/uts", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var name unix.Utsname
	err = onThread(func() error {
		if err := unix.Setns(fd, unix.CLONE_NEWUTS); err != nil {
			return err
		}
		return unix.Uname(&name)
	})
	if err != nil {
		return "", err
	}
	return strings.ToValidUTF8(unix.ByteSliceToString(name.Nodename[:]), "?"), nil
}

// holdsSocket reports whether one of the process' descriptors is one of these sockets.
func (p *process) holdsSocket(inodes map[uint64]bool) bool {
	if len(inodes) == 0 {
		return false
	}
	for inode := range socketsOf(strconv.Itoa(p.pid)) {
		if inodes[inode] {
			return true
		}
	}
	return false
}

// socketsOf returns the sockets that a process holds, as far as we may see them.
func socketsOf(pid string) map[uint64]bool {
	sockets := map[uint64]bool{}
	dir := filepath.Join("/proc", pid, "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		link, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue
		}
		if rest, ok := strings.CutPrefix(link, "socket:["); ok {
			if inode, err := strconv.ParseUint(strings.TrimSuffix(rest, "]"), 10, 64); err == nil {
				sockets[inode] = true
			}
		}
	}
	return sockets
}

// processesIn returns the processes in a network namespace, without ourselves. The caller closes them.
func processesIn(ns *netns.NS) ([]*process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var inside []*process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || !isIn(pid, ns) {
			continue
		}
		// It may have ended, or its number may be another's by now.
		if p, err := openProcess(pid); err == nil {
			if isIn(pid, ns) && p.alive() {
				inside = append(inside, p)
			} else {
				p.close()
			}
		}
	}
	return inside, nil
}

func isIn(pid int, ns *netns.NS) bool {
	link, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/net")
	return err == nil && link == ns.ID().String()
}

func closeAll(all []*process) {
	for _, p := range all {
		if p != nil {
			p.close()
		}
	}
}
