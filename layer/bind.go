//go:build linux && (amd64 || arm64)

package layer

import (
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/layer/unotify"
)

// binding is where a socket believes to be bound. In truth it lies on loopback, so that the network of this host is not
// let in to what is meant for the pod's clients.
type binding struct {
	at     netip.AddrPort
	v4, v6 bool // whose clients it serves
}

// portKey is a port that the program binds, on IPv4 (and both) or on IPv6 alone.
type portKey struct {
	port uint16
	v6   bool
}

// bind answers bind(2) of TCP sockets. A program that binds loopback, or lets the kernel choose the port, means this host.
func (s *supervisor) bind(c *unotify.Call) unotify.Verdict {
	sa, errno := readAddress(c, c.Args[1], c.Args[2])
	if errno != 0 {
		return unotify.Continue() // Binding reaches nobody: the kernel may say what is wrong.
	}
	at, ok := decodeAddr(sa)
	if !ok || at.Addr().IsLoopback() || at.Port() == 0 && onThisHost(at.Addr()) {
		return unotify.Continue()
	}
	k, err := look(c)
	if err != nil {
		return unotify.Continue()
	}
	defer k.close()
	if !k.tcp() || familyOf(sa) != k.family || !k.ours() {
		return unotify.Continue()
	}
	b := binding{at: at, v4: true, v6: k.family == unix.AF_INET6}
	if b.v6 {
		b.v4 = at.Addr().Is4() || at.Addr().IsUnspecified() && !k.v6only()
		b.v6 = at.Addr().Is6()
	}
	if errno := s.bindHere(k, b); errno != 0 {
		return unotify.Fail(errno)
	}
	s.mu.Lock()
	r := s.lockedRecord(k)
	if !r.bound.at.IsValid() {
		s.bound.Add(1)
	}
	r.bound = b
	s.mu.Unlock()
	s.log.Debug("bind", "port", at.Port(), "local", sockname(k.fd))
	return unotify.Return(0)
}

// bindHere binds the socket to loopback: to the same port if it can be had, so that localhost:PORT is what it was, else
// to any. A port keeps its place while the program holds it; so a second bind fails, or shares by SO_REUSEPORT, as it
// would natively. When the program lets go of it, as a server does that reloads, others of this host may take the place.
func (s *supervisor) bindHere(k *socket, b binding) syscall.Errno {
	if b.at.Port() == 0 { // the pod's own address, to connect from
		if r := s.record(k.cookie); r != nil && r.bound.at.IsValid() || sockname(k.fd).Port() != 0 {
			return unix.EINVAL
		}
		return 0
	}
	loopback := loopbacks[0]
	if !b.v4 {
		loopback = loopbacks[1]
	}
	key := portKey{b.at.Port(), !b.v4}
	s.mu.Lock()
	place, known := s.ports[key]
	s.mu.Unlock()
	if !known {
		place = key.port
	}
	if !known {
		defer k.alone()()
	}
	errno := k.bind(netip.AddrPortFrom(loopback, place))
	if errno == unix.EACCES || errno == unix.EADDRINUSE && (!known || !s.holdsPort(key)) {
		errno = k.bind(netip.AddrPortFrom(loopback, 0))
	}
	if errno != 0 {
		return errno
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports[key] = sockname(k.fd).Port()
	return 0
}

// alone keeps a socket with SO_REUSEPORT from sharing a place with those of others, until undo is called: the kernel would
// give its connections to either. With those of its own program it shares afterwards, as it would natively.
func (k *socket) alone() (undo func()) {
	if on, err := unix.GetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT); err != nil || on == 0 {
		return func() {}
	}
	_ = unix.SetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 0) // it takes any value
	return func() { _ = unix.SetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }
}

// holdsPort reports whether the program has a socket that it bound to the port.
func (s *supervisor) holdsPort(key portKey) bool {
	s.mu.Lock()
	var bound []uint64
	for _, r := range s.sockets {
		if r.bound.at.IsValid() && (portKey{r.bound.at.Port(), !r.bound.v4}) == key {
			bound = append(bound, r.inode)
		}
	}
	s.mu.Unlock()
	return slices.ContainsFunc(bound, func(inode uint64) bool { return s.holds(inode, "") })
}
