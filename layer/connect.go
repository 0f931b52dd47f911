//go:build linux && (amd64 || arm64)

package layer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/layer/unotify"
)

// connect answers connect(2). Once an address is judged remote, the kernel never gets the call.
func (s *supervisor) connect(c *unotify.Call) unotify.Verdict {
	sa, errno := readAddress(c, c.Args[1], c.Args[2])
	if errno == unix.ENETUNREACH {
		s.closed.Do(func() { s.log.Warn("a process may not be looked into, so it gets no connections", "pid", c.TID) })
	}
	if errno != 0 {
		return unotify.Fail(errno)
	}
	family := familyOf(sa)
	switch {
	case family == unix.AF_UNIX && asksThisHost(sa):
		return unotify.Fail(unix.ENOENT)
	case len(sa) < 2 || family != unix.AF_INET && family != unix.AF_INET6 && family != unix.AF_UNSPEC:
		return unotify.Continue()
	}
	to, ok := decodeAddr(sa)
	if !ok && family != unix.AF_UNSPEC {
		return unotify.Fail(unix.EINVAL) // too short
	}
	k, err := look(c)
	if err != nil {
		return unreachable(err)
	}
	if !k.inet() || !k.ours() {
		k.close()
		return unotify.Continue()
	}
	switch {
	case family == unix.AF_UNSPEC:
		return s.disconnect(k)
	case k.tcp():
		return s.connectTCP(c, k, sa, to)
	case !remote(to.Addr()):
		if k.kind == unix.SOCK_DGRAM {
			s.datagrams.disconnect(k.cookie)
		}
		k.close()
		return unotify.Continue()
	case k.kind == unix.SOCK_DGRAM:
		return s.datagrams.connect(c, k.fd, to) // takes the duplicate
	default:
		k.close()
		return unotify.Fail(unix.ENETUNREACH) // SCTP, raw: nothing of ours carries them
	}
}

// unreachable is the verdict when a socket cannot be had: the program's own mistakes as they are, everything else as a
// network that is not there.
func unreachable(err error) unotify.Verdict {
	if errors.Is(err, unix.EBADF) || errors.Is(err, unix.ENOTSOCK) {
		return unotify.Fail(errnoOf(err))
	}
	return unotify.Fail(unix.ENETUNREACH)
}

// connectTCP takes the duplicate.
func (s *supervisor) connectTCP(c *unotify.Call, k *socket, sa []byte, to netip.AddrPort) unotify.Verdict {
	for a := s.attemptOf(k); a != nil; a = s.attemptOf(k) {
		if s.again(c, k, a) {
			return unotify.Later()
		}
	}
	switch {
	case k.family == unix.AF_INET6 && len(sa) < unix.SizeofSockaddrInet6-4:
		k.close()
		return unotify.Fail(unix.EINVAL)
	case !remote(to.Addr()):
		return s.connectHere(c, k, to)
	case familyOf(sa) != k.family:
		k.close()
		return unotify.Fail(unix.EAFNOSUPPORT)
	case k.family == unix.AF_INET6 && to.Addr().Is4() && k.v6only():
		k.close()
		return unotify.Fail(unix.ENETUNREACH)
	case to.Port() == 0:
		k.close()
		return unotify.Fail(unix.ECONNREFUSED)
	}
	own, err := k.dup()
	if err != nil {
		k.close()
		return unotify.Fail(unix.ENOBUFS)
	}
	a, errno := s.attempt(own, to, fmt.Sprintf("/proc/%d/fd/%d", c.TID, int32(c.Args[0])))
	switch {
	case errno != 0:
		k.close()
		return unotify.Fail(errno)
	case k.nonblocking():
		k.close()
		a.mu.Lock()
		defer a.mu.Unlock()
		a.begun = c.Answer(unotify.Fail(unix.EINPROGRESS))
		return unotify.Later()
	default:
		s.relays.Go(func() { s.await(c, k, a) })
		return unotify.Later()
	}
}

// attemptOf is the attempt that the socket is in; nil: none.
func (s *supervisor) attemptOf(k *socket) *attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.sockets[k.cookie]; r != nil {
		return r.attempt
	}
	return nil
}

// again answers a connect on a socket that has an attempt: one that a signal interrupted, or that asks how it stands. The
// address does not matter, as for the kernel. It takes the duplicate, unless it returns false: the attempt is over.
func (s *supervisor) again(c *unotify.Call, k *socket, a *attempt) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.over:
		return false
	case a.settled:
		s.lockedTell(c, k, a)
		return true
	case !k.nonblocking() && k.interrupted(c, unix.SO_SNDTIMEO):
		k.close()
		c.Answer(unotify.Fail(unix.EINTR))
	case !k.nonblocking():
		s.relays.Go(func() { s.await(c, k, a) })
	case !a.begun:
		k.close()
		a.begun = c.Answer(unotify.Fail(unix.EINPROGRESS))
	default:
		// The kernel knows whether the two SYNs have crossed meanwhile.
		errno := k.connect(a.hole)
		if errno == unix.EISCONN && !a.told {
			errno = 0 // said to a call that was interrupted
		}
		k.close()
		if c.Answer(unotify.Fail(errno)) && errno == 0 {
			s.lockedTold(a)
		}
	}
	return true
}

// connectHere answers a connect to this host. A port that the program listens on may lie elsewhere in truth. It takes the
// duplicate.
func (s *supervisor) connectHere(c *unotify.Call, k *socket, to netip.AddrPort) unotify.Verdict {
	real, ok := s.listenerAt(to)
	if !ok {
		k.close()
		return unotify.Continue()
	}
	if k.nonblocking() {
		defer k.close()
		return s.connectListener(k, to, real)
	}
	s.relays.Go(func() {
		v := s.connectListener(k, to, real)
		k.close()
		c.Answer(v)
	})
	return unotify.Later()
}

func (s *supervisor) connectListener(k *socket, to, real netip.AddrPort) unotify.Verdict {
	err := connectTo(k.fd, k.encode(real))
	if me := sockname(k.fd); err == nil || errors.Is(err, unix.EINPROGRESS) {
		inode := k.inode()
		s.mu.Lock()
		s.names[pair{me, real}] = pair{me, to}
		s.names[pair{real, me}] = pair{to, me}
		s.here[inode] = pair{me, real}
		s.mu.Unlock()
	}
	return unotify.Fail(errnoIf(err))
}

// disconnect answers a connect to AF_UNSPEC. It takes the duplicate.
func (s *supervisor) disconnect(k *socket) unotify.Verdict {
	defer k.close()
	if k.kind == unix.SOCK_DGRAM {
		s.datagrams.disconnect(k.cookie)
		return unotify.Continue()
	}
	if a := s.attemptOf(k); a != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.native = true
		a.cancel(errGone)
		s.lockedForgetAttempt(a)
	}
	return unotify.Continue()
}

// socketError answers getsockopt(SO_ERROR), where a program that does not block looks for the outcome of its connect.
func (s *supervisor) socketError(c *unotify.Call) unotify.Verdict {
	if s.attempts.Load() == 0 {
		return unotify.Continue()
	}
	k, err := look(c)
	if err != nil {
		return unotify.Continue()
	}
	defer k.close()
	a := s.attemptOf(k)
	if a == nil {
		return unotify.Continue()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.settled || a.told || a.native || a.errno == 0 {
		return unotify.Continue()
	}
	if errno := writeInt(c, c.Args[3], c.Args[4], int32(a.errno)); errno != 0 {
		return unotify.Fail(errno)
	}
	k.renew()
	if c.Answer(unotify.Return(0)) {
		s.lockedForgetAttempt(a)
	}
	return unotify.Later()
}

// writeInt gives an int to the program the way of getsockopt(2).
func writeInt(c *unotify.Call, at, lengthAt uint64, v int32) syscall.Errno {
	var length, value [4]byte
	if err := c.ReadMem(lengthAt, length[:]); err != nil {
		return unix.EFAULT
	}
	n := min(binary.LittleEndian.Uint32(length[:]), uint32(len(value)))
	binary.LittleEndian.PutUint32(length[:], n)
	binary.LittleEndian.PutUint32(value[:], uint32(v))
	if c.WriteMem(at, value[:n]) != nil || c.WriteMem(lengthAt, length[:]) != nil {
		return unix.EFAULT
	}
	return 0
}
