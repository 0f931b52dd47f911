package steal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// tries bounds the search for a source that nobody holds. They are used in turn: when so many in a row are taken, so are the others.
const tries = 64

// Conn is a connection to the original. Its Close says goodbye as any client does (FIN); SetLinger(0) before it resets.
type Conn struct {
	*net.TCPConn
	sources *sources
	src     netip.AddrPort
	release sync.Once
}

// DialOriginal connects to the original as if nothing were stolen. The client is for whom: the original sees its address, when RestoresPeer. The local
// address is what the client dialled; both are as Accept's connection has them. The error holds the errno.
func (r *Redirect) DialOriginal(ctx context.Context, client, local netip.AddrPort) (*Conn, error) {
	announce := func(src netip.AddrPort) error { return r.sources.announce(src, local.Port(), client) }
	c, src, err := r.dial(ctx, local, local.Addr().Is4() && r.RestoresPeer(), announce)
	if err != nil {
		return nil, &net.OpError{Op: "dial original", Net: "tcp", Addr: net.TCPAddrFromAddrPort(local), Err: err}
	}
	return &Conn{TCPConn: c, sources: r.sources, src: src}, nil
}

// NetConn returns the connection without its Close, for who has better ways with a TCPConn. Do not close it.
func (c *Conn) NetConn() net.Conn { return c.TCPConn }

// Close closes the connection. It is safe to call twice; the second time it fails with net.ErrClosed, as any connection does.
func (c *Conn) Close() error {
	remember := !c.originalHungUp()
	err := c.TCPConn.Close()
	c.release.Do(func() { err = errors.Join(err, c.sources.release(c.src, remember)) })
	return err
}

// originalHungUp reports whether the original has closed its side. If not, it may be so busy that it has not accepted us yet, and ask for our address later.
func (c *Conn) originalHungUp() bool {
	// Linux numbers the states of TCP in this order (include/net/tcp_states.h).
	const established, finWait2 = 1, 5
	state := uint8(0)
	err := onFD(c, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
		if err == nil {
			state = info.State
		}
		return err
	})
	return err == nil && (state < established || state > finWait2)
}

// dial connects from a source of ours. Before the first packet leaves, prepare is told which one; it may be told several.
func (r *Redirect) dial(ctx context.Context, to netip.AddrPort, rotate bool, prepare func(src netip.AddrPort) error) (*net.TCPConn, netip.AddrPort, error) {
	var last error
	for range tries {
		src, err := r.sources.reserve(to.Addr(), rotate, r.claimed)
		if err != nil {
			return nil, src, err
		}
		c, err := r.dialFrom(ctx, src, to, prepare)
		if err == nil {
			return c, src, nil
		}
		if err := r.sources.release(src, false); err != nil {
			return nil, src, err
		}
		// In use by someone else. A TIME_WAIT of our own is no hindrance: to a socket that was bound to its port by number, the kernel gives
		// it at once (tcp_twsk_unique), unless TCP timestamps are off.
		if !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return nil, src, err
		}
		last = err
	}
	return nil, netip.AddrPort{}, last
}

func (r *Redirect) dialFrom(ctx context.Context, src, to netip.AddrPort, prepare func(src netip.AddrPort) error) (*net.TCPConn, error) {
	zone, err := r.zone(to.Addr())
	if err != nil {
		return nil, err
	}
	f, err := r.openSocket(to.Addr())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	err = onFD(f, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
		return os.NewSyscallError("bind", unix.Bind(fd, sockaddr(src, zone)))
	})
	if err != nil {
		return nil, err
	}
	if err := prepare(src); err != nil {
		return nil, err
	}
	if err := connect(ctx, f, sockaddr(to, zone)); err != nil {
		return nil, err
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil // never MPTCP: the socket was made as TCP
}

// openSocket makes a socket inside the target's namespace. It stays there, whoever uses it.
func (r *Redirect) openSocket(family netip.Addr) (*os.File, error) {
	domain := unix.AF_INET
	if family.Is6() {
		domain = unix.AF_INET6
	}
	var fd int
	err := r.ns.Do(func() (err error) {
		fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "tcp"), nil
}

// connect asks twice before it waits: over loopback, the handshake is done when the first call returns.
func connect(ctx context.Context, f *os.File, to unix.Sockaddr) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) }) // fails when connect is over
	defer stop()
	var errno error
	err = raw.Write(func(fd uintptr) bool {
		if errno = unix.Connect(int(fd), to); errors.Is(errno, unix.EINPROGRESS) || errors.Is(errno, unix.EINTR) {
			errno = unix.Connect(int(fd), to)
		}
		return !errors.Is(errno, unix.EALREADY) && !errors.Is(errno, unix.EINPROGRESS)
	})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case errors.Is(errno, unix.EISCONN):
		return nil
	}
	return os.NewSyscallError("connect", errno)
}

func sockaddr(a netip.AddrPort, zone uint32) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port()), ZoneId: zone}
}

// zone finds the interface of a link-local address: as seen at Accept, else as the zone says by number, else by its name in the target's namespace.
func (r *Redirect) zone(a netip.Addr) (uint32, error) {
	if a.Zone() == "" && !a.IsLinkLocalUnicast() || a.Is4() {
		return 0, nil
	}
	if id := r.zones.lookup(a); id != 0 {
		return id, nil
	}
	if id, err := strconv.ParseUint(a.Zone(), 10, 32); err == nil {
		return uint32(id), nil
	}
	var link *net.Interface
	err := r.ns.Do(func() (err error) {
		link, err = net.InterfaceByName(a.Zone())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("zone of %s: %w", a, err)
	}
	return uint32(link.Index), nil
}
