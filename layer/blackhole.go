//go:build linux && (amd64 || arm64)

package layer

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxHoles bounds the blackholes of a family: each takes as many connections as there are ephemeral ports, some 28 thousand.
const maxHoles = 16

// meetPatience bounds a simultaneous open, which takes microseconds: on loopback nothing is late, it is lost.
var meetPatience = unix.Timeval{Sec: 5}

// blackholes are listeners on loopback that take no connection: their accept queue is full, so the kernel drops each SYN
// and says nothing. A socket that connects to one is connecting, which is all that its owner can find out, until we open
// a connection from the other side: the two SYNs cross (RFC 9293, 3.5, simultaneous open), and the socket is connected.
// It is safe for concurrent use.
type blackholes struct {
	mu    sync.Mutex
	holes [2][]netip.AddrPort // the newest last
	fds   []int
}

func newBlackholes() (_ *blackholes, err error) {
	b := &blackholes{}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if _, err := b.lockedDig(0); err != nil {
		return nil, fmt.Errorf("make blackhole: %w", err)
	}
	return b, nil // that for IPv6 when it is needed: this host may not have it
}

// loopbacks by family index.
var loopbacks = [2]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// aim runs connect with one blackhole after the other until one has a port free for it.
func (b *blackholes) aim(v6 bool, connect func(netip.AddrPort) syscall.Errno) (netip.AddrPort, syscall.Errno) {
	f := 0
	if v6 {
		f = 1
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := len(b.holes[f]) - 1; i >= 0; i-- {
		if errno := connect(b.holes[f][i]); errno != unix.EADDRNOTAVAIL {
			return b.holes[f][i], errno
		}
	}
	hole, err := b.lockedDig(f)
	if err != nil {
		return hole, errnoOf(err)
	}
	return hole, connect(hole)
}

// lockedDig makes one more blackhole.
func (b *blackholes) lockedDig(f int) (netip.AddrPort, error) {
	if len(b.holes[f]) >= maxHoles {
		return netip.AddrPort{}, unix.EADDRNOTAVAIL
	}
	at := loopbacks[f]
	if f == 0 { // Each has an address of its own, because the ports of the first may be used up by those who aim there.
		at = netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + len(b.holes[f]))})
	}
	fd, err := boundSocket(netip.AddrPortFrom(at, 0), reusePort)
	if err != nil {
		return netip.AddrPort{}, err
	}
	b.fds = append(b.fds, fd)
	hole := sockname(fd)
	if err := unix.Listen(fd, 0); err != nil {
		return hole, os.NewSyscallError("listen", err)
	}
	// A backlog of 0 has room for one.
	filler, err := unix.Socket(familyOfIndex(f), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return hole, os.NewSyscallError("socket", err)
	}
	b.fds = append(b.fds, filler)
	if err := connectTo(filler, (&datagramSocket{v6: f == 1}).encode(hole)); err != nil {
		return hole, os.NewSyscallError("connect", err)
	}
	b.holes[f] = append(b.holes[f], hole)
	return hole, nil
}

func (b *blackholes) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, fd := range b.fds {
		unix.Close(fd)
	}
	b.fds = nil
}

// meet connects to a socket that aims at the hole, and returns our end.
func meet(hole, app netip.AddrPort) (*net.TCPConn, error) {
	fd, err := boundSocket(hole, reusePort)
	if err != nil {
		return nil, err
	}
	return connectSocket(fd, app)
}

func reusePort(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }

// boundSocket makes a TCP socket bound to an address.
func boundSocket(at netip.AddrPort, prepare func(fd int) error) (int, error) {
	fd, err := unix.Socket(familyOfIndex(familyIndex(at)), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if prepare != nil {
		if err := prepare(fd); err != nil {
			unix.Close(fd)
			return -1, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := bindTo(fd, (&datagramSocket{v6: at.Addr().Is6()}).encode(at)); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// connectSocket connects a socket of ours, which it takes.
func connectSocket(fd int, to netip.AddrPort) (*net.TCPConn, error) {
	f := os.NewFile(uintptr(fd), "relay")
	defer f.Close()
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &meetPatience); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := connectTo(fd, (&datagramSocket{v6: to.Addr().Is6()}).encode(to)); err != nil {
		return nil, os.NewSyscallError("connect", err)
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

func familyOfIndex(f int) int {
	if f == 1 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}
