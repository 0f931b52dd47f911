package steal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/bpf"
	"github.com/magpie-k8s/magpie/internal/netns"
)

const (
	// backlog is how many connections may wait for Accept; the kernel takes the namespace's net.core.somaxconn if that is less.
	backlog = 4096
	// pauseAfterError keeps a loop that cannot accept, mostly for want of descriptors, from spinning.
	pauseAfterError = 5 * time.Millisecond
	// stuckAfter is how long a connection may wait before we call ourselves hung and let the next ones pass.
	stuckAfter = 500 * time.Millisecond
)

// vanished finds clients that are gone without a word after three minutes, as the original might, had it their sockets.
var vanished = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 8}

// errNoFamily says that the kernel has no IPv4 or no IPv6.
var errNoFamily = errors.New("address family not supported")

// listener is where the connections of one address family arrive, whatever address they were meant for.
type listener struct {
	*net.TCPListener
	family bpf.Family
	port   uint16 // its own, which nobody should dial
	opened time.Time
	since  atomic.Int64 // when, after opened, a connection began to wait; zero: none waits
}

func openListener(ns *netns.NS, family bpf.Family) (*listener, error) {
	network, addr := "tcp4", "127.0.0.1:0"
	if family == bpf.IPv6 {
		network, addr = "tcp6", "[::1]:0"
	}
	cfg := net.ListenConfig{Control: controlFD(setListenOptions), KeepAliveConfig: vanished}
	cfg.SetMultipathTCP(false)
	l := &listener{family: family, opened: time.Now()}
	err := ns.Do(func() error {
		got, err := cfg.Listen(context.Background(), network, addr)
		if err != nil {
			return err
		}
		l.TCPListener = got.(*net.TCPListener)
		return nil
	})
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, errNoFamily
	} else if err != nil {
		return nil, err
	}
	l.port = addrPort(l.Addr()).Port()
	if err := onFD(l, func(fd int) error { return unix.Listen(fd, backlog) }); err != nil {
		return nil, fmt.Errorf("listen: %w", errors.Join(err, l.Close()))
	}
	return l, nil
}

// setListenOptions lets the original, when it restarts, bind its port beside the connections that we accepted there: it needs the same option that
// it set itself. It also lets us listen where lo is down or has no ::1.
func setListenOptions(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1)
}

func (l *listener) offer(s *bpf.Steal) error {
	return onFD(l, func(fd int) error { return s.SetListener(l.family, uintptr(fd)) })
}

// Accept waits for the next stolen connection. Its LocalAddr is what the client dialled, its RemoteAddr the client. It fails with net.ErrClosed after
// Close only. One who does not call it for long lets new connections pass, as one who hangs.
func (r *Redirect) Accept() (*net.TCPConn, error) {
	select {
	case c := <-r.accepted:
		return c, nil
	case <-r.done:
		return nil, fmt.Errorf("accept in %s: %w", r.ns, net.ErrClosed)
	}
}

func (r *Redirect) runAccept(l *listener) {
	for {
		c, err := l.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			r.log.Warn("cannot accept", "err", err)
			l.waits()
			time.Sleep(pauseAfterError)
			continue
		}
		if r.keeps(l, c) {
			l.waits()
			select {
			case r.accepted <- c:
			case <-r.done:
				reset(c)
				return
			}
		} else {
			reset(c)
		}
		l.since.Store(0)
	}
}

// keeps reports whether a connection is for Accept's caller.
func (r *Redirect) keeps(l *listener, c *net.TCPConn) bool {
	remote, local := addrPort(c.RemoteAddr()), addrPort(c.LocalAddr())
	if r.probes.arrived(remote) {
		return false
	}
	if r.sources.live(remote) {
		// Passing it on would make the next one, until no descriptor is left.
		r.log.Error("own connection to the original came back", "remote", remote, "port", local.Port())
		return false
	}
	if local.Port() == l.port && !r.claimed(l.port) {
		return false // someone dialled the listener itself
	}
	if local.Addr().IsLinkLocalUnicast() && local.Addr().Is6() {
		r.zones.learn(c, local.Addr())
	}
	return true
}

// waits notes since when something could not be accepted.
func (l *listener) waits() { l.since.CompareAndSwap(0, max(1, int64(time.Since(l.opened)))) }

// stuck reports whether a connection has waited for too long.
func (l *listener) stuck() bool {
	since := l.since.Load()
	return since != 0 && time.Since(l.opened)-time.Duration(since) > stuckAfter
}

// reset ends a connection at once and without a trace in TIME_WAIT.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close() // it is being thrown away
}

func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// zones remembers on which interface each link-local address of the target is. A net.Addr cannot tell: Go names zones by the interfaces of the
// namespace that it happened to ask.
type zones struct {
	mu sync.Mutex
	of map[netip.Addr]uint32 // as many as the target has addresses
}

func (z *zones) learn(c *net.TCPConn, a netip.Addr) {
	var sa unix.Sockaddr
	err := onFD(c, func(fd int) (err error) {
		sa, err = unix.Getsockname(fd)
		return err
	})
	if in6, ok := sa.(*unix.SockaddrInet6); ok && err == nil {
		z.mu.Lock()
		defer z.mu.Unlock()
		if z.of == nil {
			z.of = make(map[netip.Addr]uint32)
		}
		z.of[a.WithZone("")] = in6.ZoneId
	}
}

func (z *zones) lookup(a netip.Addr) uint32 {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.of[a.WithZone("")]
}

// onFD runs fn on the descriptor of a socket.
func onFD(c syscall.Conn, fn func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return controlErr(raw, fn)
}

func controlErr(raw syscall.RawConn, fn func(fd int) error) error {
	var err error
	if ctlErr := raw.Control(func(fd uintptr) { err = fn(int(fd)) }); ctlErr != nil {
		return ctlErr
	}
	return err
}

func controlFD(fn func(fd int) error) func(string, string, syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error { return controlErr(raw, fn) }
}
