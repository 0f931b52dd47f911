//go:build linux && (amd64 || arm64)

package layer

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/layer/unotify"
)

// name answers getsockname(2) and getpeername(2).
func (s *supervisor) name(c *unotify.Call) unotify.Verdict {
	k, err := look(c)
	if err != nil {
		return unotify.Continue() // The kernel tells of what is on this host only, and no harm is done.
	}
	defer k.close()
	if !k.inet() {
		return unotify.Continue()
	}
	local, peer := s.namesOf(k)
	a := local
	if c.Nr == unix.SYS_GETPEERNAME {
		a = peer
	}
	if !a.IsValid() {
		return unotify.Continue()
	}
	return unotify.Fail(writeAddress(c, c.Args[1], c.Args[2], k.encode(a)))
}

// namesOf is what a socket must believe its addresses to be; invalid where the kernel's are right.
func (s *supervisor) namesOf(k *socket) (local, peer netip.AddrPort) {
	if k.kind == unix.SOCK_DGRAM {
		local, peer, _ = s.datagrams.names(k.cookie)
		return local, peer
	}
	real := pair{sockname(k.fd), peername(k.fd)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if real.peer.IsValid() {
		if n, ok := s.names[real]; ok {
			return n.local, n.peer
		}
		return local, peer
	}
	if r := s.sockets[k.cookie]; r != nil {
		return r.bound.at, peer
	}
	return local, peer
}
