//go:build linux && (amd64 || arm64)

package layer

import (
	"net/netip"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// datagramSocket is a duplicate of an IPv4 or IPv6 datagram socket of the program, and what we have to know of it.
type datagramSocket struct {
	fd     int
	v6     bool
	udp    bool // not UDP-Lite, ping, or the like
	cookie uint64
}

// newDatagramSocket looks at fd. The error is ENOTSOCK, or ESOCKTNOSUPPORT for sockets of another kind; fd stays the caller's.
func newDatagramSocket(fd int) (*datagramSocket, error) {
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return nil, err
	}
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return nil, unix.ESOCKTNOSUPPORT
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, err
	}
	if kind != unix.SOCK_DGRAM {
		return nil, unix.ESOCKTNOSUPPORT
	}
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return nil, err
	}
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return nil, err
	}
	return &datagramSocket{fd: fd, v6: family == unix.AF_INET6, udp: protocol == unix.IPPROTO_UDP, cookie: cookie}, nil
}

// loopback is the loopback address that the socket can reach.
func (s *datagramSocket) loopback() netip.Addr {
	v4 := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if !s.v6 {
		return v4
	}
	if only, err := unix.GetsockoptInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY); err == nil && only != 0 {
		return netip.IPv6Loopback()
	}
	if a := sockname(s.fd).Addr(); a.Is6() && !a.IsUnspecified() {
		return netip.IPv6Loopback() // bound to an IPv6 address: IPv4 is out of its reach
	}
	return v4
}

// reach is the errno of the kernel for a peer that no route leads to from such a socket; 0 if one may.
func (s *datagramSocket) reach(to netip.AddrPort) syscall.Errno {
	switch {
	case !s.v6 && to.Addr().Is6():
		return unix.EAFNOSUPPORT
	case s.v6 && to.Addr().Is4() && s.loopback().Is6():
		return unix.ENETUNREACH
	}
	return 0
}

// ours reports whether the socket belongs to our network namespace, where relays are.
func (s *datagramSocket) ours() bool {
	cookie, err := unix.GetsockoptUint64(s.fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return true // before Linux 5.14: nobody can tell
	}
	own, err := ourNamespace()
	return err != nil || cookie == own
}

var ourNamespace = sync.OnceValues(func() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
})

// encode writes an address as the socket's family has it.
func (s *datagramSocket) encode(a netip.AddrPort) []byte {
	port := [2]byte{byte(a.Port() >> 8), byte(a.Port())}
	if !s.v6 {
		sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: *(*uint16)(unsafe.Pointer(&port)), Addr: a.Addr().Unmap().As4()}
		b := *(*[unix.SizeofSockaddrInet4]byte)(unsafe.Pointer(&sa))
		return b[:]
	}
	sa := unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: *(*uint16)(unsafe.Pointer(&port)), Addr: a.Addr().As16()}
	b := *(*[unix.SizeofSockaddrInet6]byte)(unsafe.Pointer(&sa))
	return b[:]
}

// decodeAddr reads an IPv4 or IPv6 socket address; IPv4 in IPv6 comes out as IPv4. Any other family is false.
func decodeAddr(b []byte) (netip.AddrPort, bool) {
	if len(b) < 2 {
		return netip.AddrPort{}, false
	}
	switch family := *(*uint16)(unsafe.Pointer(&b[0])); {
	case family == unix.AF_INET && len(b) >= unix.SizeofSockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3])), true
	case family == unix.AF_INET6 && len(b) >= unix.SizeofSockaddrInet6-4: // sin6_scope_id came later
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])).Unmap(), uint16(b[2])<<8|uint16(b[3])), true
	}
	return netip.AddrPort{}, false
}

// addrPortOf is the address in sa, IPv4 where it is IPv4 in IPv6.
func addrPortOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func sockname(fd int) netip.AddrPort {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return addrPortOf(sa)
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// connectTo is connect(2) with an address in its raw form.
func connectTo(fd int, sa []byte) error {
	if _, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa[0])), uintptr(len(sa))); errno != 0 {
		return errno
	}
	return nil
}
