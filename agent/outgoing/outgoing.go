// Package outgoing makes connections from a target's network namespace: by its routes, from its addresses, with the errno that the target itself
// would get. It never resolves names.
package outgoing

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/internal/netns"
)

const (
	// maxDials bounds the connections being made at once; further ones wait for their turn. More than one source address has ports for helps nobody.
	maxDials = 10_000
	// maxThreads bounds the threads that are in the namespace at once. A socket takes some 20 µs there.
	maxThreads = 16
)

// A Dialer makes connections from one namespace. It is safe for concurrent use and has nothing to close.
type Dialer struct {
	ns      *netns.NS
	dials   chan struct{}
	threads chan struct{}
}

// New returns a Dialer for a namespace, which stays the caller's.
func New(ns *netns.NS) *Dialer {
	return &Dialer{ns: ns, dials: make(chan struct{}, maxDials), threads: make(chan struct{}, maxThreads)}
}

// Dial connects to an address; network is tcp or udp. It takes as long as the kernel takes (some two minutes when nobody answers), unless ctx ends.
// The error unwraps to the errno of connect(2). The connection's local address is the one in the namespace. A UDP connection sends and receives one
// datagram per Write and Read, and returns the errno of an ICMP answer from either.
func (d *Dialer) Dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	conn, err := d.dial(ctx, network, to)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: addr(network, to), Err: err}
	}
	return conn, nil
}

func (d *Dialer) dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	kind := unix.SOCK_STREAM
	switch network {
	case "tcp":
	case "udp":
		kind = unix.SOCK_DGRAM
	default:
		return nil, net.UnknownNetworkError(network)
	}
	if err := acquire(ctx, d.dials); err != nil {
		return nil, err
	}
	defer func() { <-d.dials }()
	f, err := d.socket(ctx, kind, to)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the connection has a descriptor of its own
	if err := wait(ctx, f); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

func acquire(ctx context.Context, tokens chan struct{}) error {
	select {
	case tokens <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// socket makes a socket in the namespace and starts to connect it. The socket belongs there for good, so nothing else needs to be done inside.
func (d *Dialer) socket(ctx context.Context, kind int, to netip.AddrPort) (*os.File, error) {
	if err := acquire(ctx, d.threads); err != nil {
		return nil, err
	}
	defer func() { <-d.threads }()
	var f *os.File
	err := d.ns.Do(func() (err error) {
		f, err = connecting(kind, to)
		return err
	})
	return f, err
}

// connecting runs inside the namespace.
func connecting(kind int, to netip.AddrPort) (*os.File, error) {
	family, sa, err := sockaddr(to)
	if err != nil {
		return nil, err
	}
	// Protocol 0 is plain TCP or UDP: no MPTCP, which Go's own dialer would ask for and a server could see.
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// EINTR: it goes on in the background, connect(2).
	if err := unix.Connect(fd, sa); err != nil && !errors.Is(err, unix.EINPROGRESS) && !errors.Is(err, unix.EINTR) {
		unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	return os.NewFile(uintptr(fd), "connection"), nil
}

// sockaddr must run inside the namespace: names of interfaces mean something only there.
func sockaddr(to netip.AddrPort) (family int, sa unix.Sockaddr, err error) {
	ip := to.Addr().Unmap()
	switch {
	case ip.Is4():
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: ip.As4()}, nil
	case ip.Is6():
		zone, err := zoneID(ip.Zone())
		return unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: ip.As16(), ZoneId: zone}, err
	}
	return 0, nil, fmt.Errorf("no address: %w", unix.EINVAL)
}

func zoneID(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	device, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, fmt.Errorf("zone %s: %w", zone, unix.ENODEV)
	}
	return uint32(device.Index), nil
}

// wait waits until the socket is connected or has failed.
func wait(ctx context.Context, f *os.File) error {
	defer context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) })()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		var done bool
		done, failed = connected(int(fd))
		return done
	})
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	return os.NewSyscallError("connect", failed)
}

// connected reports whether the connect is over, and how it went.
func connected(fd int) (bool, error) {
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return true, err
	}
	if errno != 0 {
		return true, unix.Errno(errno)
	}
	// No error is also what a socket has that is still connecting; only a connected one has a peer.
	switch _, err := unix.Getpeername(fd); {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.ENOTCONN):
		return false, nil
	default:
		return true, err
	}
}

func addr(network string, to netip.AddrPort) net.Addr {
	if network == "udp" {
		return net.UDPAddrFromAddrPort(to)
	}
	return net.TCPAddrFromAddrPort(to)
}
