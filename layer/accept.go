//go:build linux && (amd64 || arm64)

package layer

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/layer/unotify"
)

// acceptWatch is how often we look whether a program that waits in accept(2) is still there: our duplicate keeps its
// listener open.
const acceptWatch = 50 * time.Millisecond

// queue is connections of a listener that were accepted for a call which a signal took away. The next call gets them.
type queue struct {
	mu      sync.Mutex // held from the look into the backlog to the accept
	waiting []guest
}

// guest is a connection that was accepted, and from whom: of one that was reset since, accept(2) is the last to know.
type guest struct {
	fd   int
	from netip.AddrPort
}

// accept answers accept(2) and accept4(2) on sockets of a claim.
func (s *supervisor) accept(c *unotify.Call) unotify.Verdict {
	if s.bound.Load() == 0 {
		return unotify.Continue()
	}
	k, err := look(c)
	if err != nil {
		return unotify.Continue()
	}
	r := s.record(k.cookie)
	if !k.tcp() || r == nil || !r.bound.at.IsValid() || !k.ours() {
		k.close()
		return unotify.Continue()
	}
	if s.acceptOne(c, k, r) {
		return unotify.Later()
	}
	if k.nonblocking() {
		k.close()
		return unotify.Fail(unix.EAGAIN)
	}
	if k.interrupted(c, unix.SO_RCVTIMEO) {
		k.close()
		return unotify.Fail(unix.EINTR)
	}
	s.relays.Go(func() { s.acceptLater(c, k, r) })
	return unotify.Later()
}

// acceptLater waits for a connection, for as long as the listener's SO_RCVTIMEO says. It takes the duplicate.
func (s *supervisor) acceptLater(c *unotify.Call, k *socket, r *record) {
	w, err := newWatcher(k.fd)
	if err != nil {
		k.close()
		c.Answer(unotify.Fail(unix.ENOBUFS))
		return
	}
	defer w.close()
	c.OnGone(w.interrupt)
	var end time.Time
	if d := k.patience(unix.SO_RCVTIMEO); d > 0 {
		end = time.Now().Add(d)
	}
	for c.Valid() {
		if s.acceptOne(c, k, r) {
			return
		}
		if !end.IsZero() && !time.Now().Before(end) {
			k.close()
			c.Answer(unotify.Fail(unix.EAGAIN))
			return
		}
		until := time.Now().Add(acceptWatch)
		if !end.IsZero() && end.Before(until) {
			until = end
		}
		w.wait(until)
	}
	k.close()
}

// acceptOne takes a connection if there is one, and reports whether the call is answered. The duplicate is closed then,
// before the program goes on: it may close its listener and bind anew.
func (s *supervisor) acceptOne(c *unotify.Call, k *socket, r *record) bool {
	r.queue.mu.Lock()
	defer r.queue.mu.Unlock()
	if !c.Valid() {
		// The thread may be in its next accept already, with the same memory for the address: that one waits for the lock.
		k.close()
		return true
	}
	g, errno := r.queue.lockedTake(k)
	if errno == unix.EAGAIN {
		return false
	}
	if errno == 0 {
		errno = s.introduce(c, k, g)
	}
	k.close()
	v := unotify.Fail(errno)
	if errno == 0 {
		flags := 0
		if c.Nr == unix.SYS_ACCEPT4 {
			flags = int(c.Args[3])
		}
		_ = unix.SetNonblock(g.fd, flags&unix.SOCK_NONBLOCK != 0)
		v = unotify.AddFD(g.fd, flags&unix.SOCK_CLOEXEC != 0)
	}
	switch told := c.Answer(v); {
	case g.fd < 0:
	case !told:
		r.queue.waiting = append(r.queue.waiting, g) // never lost: the client has been let in
	case errno != 0:
		unix.Close(g.fd)
	}
	return true
}

// lockedTake is the next connection, or EAGAIN. All accepts of the listener come through here, so one that poll has seen
// is still there for accept, which therefore does not wait.
func (q *queue) lockedTake(k *socket) (guest, syscall.Errno) {
	nobody := guest{fd: -1}
	if len(q.waiting) > 0 {
		g := q.waiting[0]
		q.waiting = q.waiting[1:]
		return g, 0
	}
	p := []unix.PollFd{{Fd: int32(k.fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(p, 0); n == 0 || err != nil {
		return nobody, unix.EAGAIN
	}
	fd, from, err := unix.Accept4(k.fd, unix.SOCK_CLOEXEC)
	switch {
	case errors.Is(err, unix.EINTR):
		return nobody, unix.EAGAIN
	case err != nil:
		return nobody, errnoIf(err)
	}
	return guest{fd, addrPortOf(from)}, 0
}

// introduce tells the program who its client is.
func (s *supervisor) introduce(c *unotify.Call, k *socket, g guest) syscall.Errno {
	if c.Args[1] == 0 {
		return 0
	}
	from := s.trueClient(g)
	if !from.IsValid() {
		return unix.ECONNABORTED // as the kernel says when nobody knows any more; programs accept the next one
	}
	return writeAddress(c, c.Args[1], c.Args[2], k.encode(from))
}

// trueClient is who connected in the pod, or, of this host, itself.
func (s *supervisor) trueClient(g guest) netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok := s.names[pair{sockname(g.fd), g.from}]; ok {
		return n.peer
	}
	return g.from
}

// watcher waits for a descriptor without a thread and without touching its flags, which are the program's: an epoll
// descriptor around it can wait in the Go runtime's own.
type watcher struct {
	file  *os.File
	ended atomic.Bool
}

func newWatcher(fd int) (*watcher, error) {
	e, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.EpollCtl(e, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
		unix.Close(e)
		return nil, err
	}
	if err := unix.SetNonblock(e, true); err != nil {
		unix.Close(e)
		return nil, err
	}
	return &watcher{file: os.NewFile(uintptr(e), "watcher")}, nil
}

// wait blocks until the descriptor is ready, the time has come or interrupt is called.
func (w *watcher) wait(until time.Time) {
	raw, err := w.file.SyscallConn()
	if err != nil || w.file.SetReadDeadline(until) != nil {
		time.Sleep(time.Until(until))
		return
	}
	if w.ended.Load() {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
}

// interrupt ends all waits, now and later.
func (w *watcher) interrupt() {
	w.ended.Store(true)
	_ = w.file.SetReadDeadline(time.Now())
}

func (w *watcher) close() { w.file.Close() }
