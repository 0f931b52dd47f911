//go:build linux && (amd64 || arm64)

package layer

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/layer/unotify"
)

// socket is a duplicate of a socket of the program, and what the kernel says of it. Whoever holds it closes it, and soon:
// while we have a duplicate, the program's own close does not close.
type socket struct {
	fd                     int
	family, kind, protocol int
	cookie                 uint64
}

// look duplicates the socket that a call names in its first argument. The error is an errno: EBADF and ENOTSOCK are the
// program's fault, others ours.
func look(c *unotify.Call) (*socket, error) {
	fd, err := c.FD(int(int32(c.Args[0])))
	if err != nil {
		return nil, err
	}
	k := &socket{fd: fd}
	for opt, to := range map[int]*int{unix.SO_DOMAIN: &k.family, unix.SO_TYPE: &k.kind, unix.SO_PROTOCOL: &k.protocol} {
		if *to, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, opt); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	k.cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return k, nil
}

func (k *socket) close() { unix.Close(k.fd) }

// dup is the same socket for somebody who closes it at another time.
func (k *socket) dup() (*socket, error) {
	fd, err := unix.FcntlInt(uintptr(k.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	d := *k
	d.fd = fd
	return &d, nil
}

func (k *socket) inet() bool { return k.family == unix.AF_INET || k.family == unix.AF_INET6 }

func (k *socket) tcp() bool {
	return k.inet() && k.kind == unix.SOCK_STREAM && k.protocol == unix.IPPROTO_TCP
}

// ours reports whether the socket belongs to our network namespace. In another one, of a container within the tree, our
// loopback does not exist, and its network is not this host's.
func (k *socket) ours() bool { return (&datagramSocket{fd: k.fd}).ours() }

func (k *socket) v6only() bool {
	n, err := unix.GetsockoptInt(k.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
	return err == nil && n != 0
}

func (k *socket) nonblocking() bool {
	flags, err := unix.FcntlInt(uintptr(k.fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_NONBLOCK != 0
}

// patience is the timeout for blocking calls that the program has set, SO_SNDTIMEO or SO_RCVTIMEO; 0: it waits for ever.
func (k *socket) patience(opt int) time.Duration {
	tv, err := unix.GetsockoptTimeval(k.fd, unix.SOL_SOCKET, opt)
	if err != nil {
		return 0
	}
	return time.Duration(tv.Nano())
}

// interrupted reports whether a signal found the call waiting before and it must not wait again: with a timeout the kernel
// ends such calls with EINTR and starts none of them anew (signal(7)), whatever SA_RESTART says. A program that has had
// its EINTR already, and made the call again, gets one too many.
func (k *socket) interrupted(c *unotify.Call, opt int) bool { return c.Again() && k.patience(opt) > 0 }

// inode is the number by which /proc names the socket; 0 if it has none.
func (k *socket) inode() uint64 {
	var st unix.Stat_t
	if err := unix.Fstat(k.fd, &st); err != nil {
		return 0
	}
	return st.Ino
}

// state is that of the kernel's TCP, such as unix.BPF_TCP_SYN_SENT.
func (k *socket) state() uint8 {
	info, err := unix.GetsockoptTCPInfo(k.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return info.State
}

// encode writes an address as the socket's family has it.
func (k *socket) encode(a netip.AddrPort) []byte {
	return (&datagramSocket{v6: k.family == unix.AF_INET6}).encode(a)
}

// connect is connect(2) on the program's own socket, which does not wait.
func (k *socket) connect(to netip.AddrPort) syscall.Errno {
	return k.withoutWaiting(func() error { return connectTo(k.fd, k.encode(to)) })
}

// abort ends an attempt to connect: the socket is as if it had never been connected. It cannot fail on one that is not.
func (k *socket) abort() {
	var unspec [unix.SizeofSockaddrInet4]byte
	_ = k.withoutWaiting(func() error { return connectTo(k.fd, unspec[:]) })
}

// fail ends an attempt to connect so that all who watch the socket see an error. They are woken once: a second step with
// another connect, to a port that refuses, would give the errno of a refusal, but in between a quick watcher finds the
// socket connecting again, and Java's finishConnect then says that it is not ready. The true errno is ours to tell.
func (k *socket) fail() {
	k.abort()
	_ = unix.Shutdown(k.fd, unix.SHUT_RDWR) // ENOTCONN, but it is an end of file now, as after a refusal
}

// renew clears what fail has left.
func (k *socket) renew() {
	_, _ = unix.GetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_ERROR) // reading clears it
	k.abort()
}

// withoutWaiting makes the socket non-blocking for one call. The flag belongs to the program, which can see it meanwhile;
// but the thread that could mind is the one that waits for us.
func (k *socket) withoutWaiting(call func() error) syscall.Errno {
	flags, err := unix.FcntlInt(uintptr(k.fd), unix.F_GETFL, 0)
	if err != nil {
		return errnoOf(err)
	}
	if flags&unix.O_NONBLOCK == 0 {
		if _, err := unix.FcntlInt(uintptr(k.fd), unix.F_SETFL, flags|unix.O_NONBLOCK); err != nil {
			return errnoOf(err)
		}
		defer func() { _, _ = unix.FcntlInt(uintptr(k.fd), unix.F_SETFL, flags) }()
	}
	return errnoIf(call())
}

// bind is bind(2) on the program's own socket.
func (k *socket) bind(to netip.AddrPort) syscall.Errno { return errnoIf(bindTo(k.fd, k.encode(to))) }

func bindTo(fd int, sa []byte) error {
	if _, _, errno := unix.Syscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&sa[0])), uintptr(len(sa))); errno != 0 {
		return errno
	}
	return nil
}

// peername is the kernel's idea of the peer; invalid if there is none.
func peername(fd int) netip.AddrPort {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return addrPortOf(sa)
}

// readAddress reads a socket address out of the program. The errno is what the call shall fail with: a process whose
// memory we may not read is not let through, because nobody knows where to.
func readAddress(c *unotify.Call, at, length uint64) ([]byte, syscall.Errno) {
	n := int32(length)
	if n < 0 || n > maxName {
		return nil, unix.EINVAL
	}
	b := make([]byte, n)
	switch err := c.ReadMem(at, b); {
	case errors.Is(err, unix.EFAULT):
		return nil, unix.EFAULT
	case err != nil:
		return nil, unix.ENETUNREACH
	}
	return b, 0
}

// writeAddress gives an address to the program the way of accept(2) and getsockname(2): as much as fits, and its true length.
func writeAddress(c *unotify.Call, at, lengthAt uint64, sa []byte) syscall.Errno {
	var length [4]byte
	if err := c.ReadMem(lengthAt, length[:]); err != nil {
		return unix.EFAULT
	}
	room := int32(binary.LittleEndian.Uint32(length[:]))
	if room < 0 {
		return unix.EINVAL
	}
	if err := c.WriteMem(at, sa[:min(len(sa), int(room))]); err != nil {
		return unix.EFAULT
	}
	binary.LittleEndian.PutUint32(length[:], uint32(len(sa)))
	if err := c.WriteMem(lengthAt, length[:]); err != nil {
		return unix.EFAULT
	}
	return 0
}
