//go:build linux && (amd64 || arm64)

package unotify

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxPids bounds the pidfds that we keep: a build that runs thousands of short processes must not use up ours.
const maxPids = 256

// pids finds the process of a thread and looks into its descriptors. It is safe for concurrent use.
type pids struct {
	mu     sync.Mutex
	byTID  map[int]pidfd
	closed bool
	legacy bool // before Linux 6.9 a pidfd is always one of a whole process
}

type pidfd struct {
	fd   int
	tgid int // 0: fd is the thread's own
}

// getfd duplicates descriptor n of the thread's process.
func (p *pids) getfd(tid, n int) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return -1, unix.ESRCH
	}
	if e, ok := p.byTID[tid]; ok {
		if e.tgid == 0 || unix.Tgkill(e.tgid, tid, 0) == nil {
			fd, err := unix.PidfdGetfd(e.fd, n, 0)
			if !errors.Is(err, unix.ESRCH) {
				return fd, err
			}
		}
		delete(p.byTID, tid) // the number belongs to somebody else by now
		unix.Close(e.fd)
	}
	e, err := p.lockedOpen(tid)
	if err != nil {
		return -1, err
	}
	return unix.PidfdGetfd(e.fd, n, 0)
}

func (p *pids) lockedOpen(tid int) (pidfd, error) {
	if len(p.byTID) >= maxPids {
		p.lockedForget()
	}
	e := pidfd{fd: -1}
	err := error(unix.EINVAL)
	if !p.legacy {
		e.fd, err = unix.PidfdOpen(tid, unix.PIDFD_THREAD)
		p.legacy = errors.Is(err, unix.EINVAL)
	}
	if p.legacy {
		if e.tgid, err = threadGroup(tid); err == nil {
			e.fd, err = unix.PidfdOpen(e.tgid, 0)
		}
	}
	if err != nil {
		return e, err
	}
	if p.byTID == nil {
		p.byTID = map[int]pidfd{}
	}
	p.byTID[tid] = e
	return e, nil
}

func (p *pids) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.lockedForget()
}

func (p *pids) lockedForget() {
	for tid, e := range p.byTID {
		unix.Close(e.fd)
		delete(p.byTID, tid)
	}
}

func threadGroup(tid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "\nTgid:\t")
	line, _, _ := strings.Cut(rest, "\n")
	return strconv.Atoi(line)
}

// descendants lists the living processes below pid, nearest first.
func descendants(pid int) ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, name := range names {
		child, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if parent, ok := parentOf(name); ok {
			children[parent] = append(children[parent], child)
		}
	}
	found := children[pid]
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i]]...)
	}
	return found, nil
}

// parentOf reads the parent from /proc/PID/stat; the name in it may hold spaces and brackets, so it looks behind the last.
func parentOf(pid string) (int, bool) {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0, false
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 2 || f[0] == "Z" || f[0] == "X" {
		return 0, false
	}
	n, err := strconv.Atoi(f[1])
	return n, err == nil
}
