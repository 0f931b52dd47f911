//go:build linux && (amd64 || arm64)

package layer

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sweepEvery is how often we look for sockets that are gone. Nothing hangs on it but memory.
const sweepEvery = time.Minute

// tree finds the sockets of the processes that we serve.
type tree struct {
	descendants func() ([]int, error)
}

// holds reports whether the program still has the socket. The hint is where it was last; that costs one call. Only if it
// is not there, all descriptors of the tree are searched.
func (t tree) holds(inode uint64, hint string) bool {
	if target, err := os.Readlink(hint); err == nil && target == socketLink(inode) {
		return true
	}
	all, err := t.sockets()
	return err != nil || all[inode]
}

func socketLink(inode uint64) string { return fmt.Sprintf("socket:[%d]", inode) }

// sockets are the inodes of all sockets that processes of the tree have.
func (t tree) sockets() (map[uint64]bool, error) {
	pids, err := t.descendants()
	if err != nil {
		return nil, err
	}
	found := map[uint64]bool{}
	for _, pid := range pids {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		fds, err := os.ReadDir(dir)
		if os.IsNotExist(err) {
			continue // ended meanwhile
		}
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			target, err := os.Readlink(dir + "/" + fd.Name())
			if err != nil {
				continue
			}
			number, ok := strings.CutPrefix(target, "socket:[")
			if n, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64); ok && err == nil {
				found[n] = true
			}
		}
	}
	return found, nil
}

// sweepSockets forgets sockets that are gone, once in a while.
func (s *supervisor) sweepSockets(ctx context.Context, t tree) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	suspects := map[uint64]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.crowded:
			tick.Reset(sweepEvery)
		case <-tick.C:
		}
		suspects = s.sweep(t, suspects)
	}
}

// sweep forgets the suspects that are still nowhere to be seen, and returns the next ones. Once is not enough: a socket
// may be on its way from one process to another.
func (s *supervisor) sweep(t tree, suspects map[uint64]bool) map[uint64]bool {
	alive, err := t.sockets()
	if err != nil {
		return nil
	}
	next := map[uint64]bool{}
	gone := func(inode uint64) bool {
		if alive[inode] {
			return false
		}
		next[inode] = true
		return suspects[inode]
	}
	s.mu.Lock()
	var abandoned []*attempt
	for cookie, r := range s.sockets {
		if gone(r.inode) && r.attempt != nil {
			abandoned = append(abandoned, r.attempt)
		} else if suspects[r.inode] && !alive[r.inode] {
			s.lockedDrop(cookie, r)
		}
	}
	for inode, real := range s.here {
		if gone(inode) {
			delete(s.names, real)
			delete(s.names, pair{real.peer, real.local})
			delete(s.here, inode)
		}
	}
	s.mu.Unlock()
	for _, a := range abandoned {
		a.mu.Lock()
		if a.settled {
			s.lockedForgetAttempt(a) // the record goes with the next sweep
		}
		a.mu.Unlock()
	}
	return next
}

// lockedDrop forgets a socket and closes what waits in its queue.
func (s *supervisor) lockedDrop(cookie uint64, r *record) {
	delete(s.sockets, cookie)
	if r.bound.at.IsValid() {
		s.bound.Add(-1)
	}
	r.queue.mu.Lock()
	defer r.queue.mu.Unlock()
	for _, g := range r.queue.waiting {
		unix.Close(g.fd)
	}
	r.queue.waiting = nil
}
