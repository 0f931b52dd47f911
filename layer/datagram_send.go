//go:build linux && (amd64 || arm64)

package layer

import (
	"encoding/binary"
	"errors"
	"hash/maphash"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/layer/unotify"
)

// sendto answers sendto(2) with an address.
func (d *datagrams) sendto(c *unotify.Call) unotify.Verdict {
	to, verdict := d.destination(c, c.Args[4], uint32(c.Args[5]))
	if !to.IsValid() {
		return verdict
	}
	s, verdict := d.sender(c, int(c.Args[3]))
	if s == nil {
		return verdict
	}
	defer unix.Close(s.fd)
	if c.Args[2] > maxDatagram {
		return unotify.Fail(unix.EMSGSIZE)
	}
	b := make([]byte, c.Args[2])
	if err := c.ReadMem(c.Args[1], b); err != nil {
		return unotify.Fail(unix.EFAULT)
	}
	return d.once(c, d.fingerprint(b), func() unotify.Verdict {
		if errno := d.send(s, to, b, nil, int(c.Args[3])); errno != 0 {
			return unotify.Fail(errno)
		}
		return unotify.Return(len(b))
	})
}

// sendmsg answers sendmsg(2).
func (d *datagrams) sendmsg(c *unotify.Call) unotify.Verdict {
	m, err := readMessage(c, c.Args[1])
	if err != nil {
		return d.unreadable(err)
	}
	to, verdict := d.destination(c, m.name, m.nameLen)
	if !to.IsValid() {
		return verdict
	}
	s, verdict := d.sender(c, int(c.Args[2]))
	if s == nil {
		return verdict
	}
	defer unix.Close(s.fd)
	o, err := newOutgoing(c, &m, to)
	if err != nil {
		return unotify.Fail(errnoOf(err))
	}
	return d.once(c, d.fingerprint(o.data), func() unotify.Verdict {
		if errno := d.sendOutgoing(s, o, int(c.Args[2])); errno != 0 {
			return unotify.Fail(errno)
		}
		return unotify.Return(len(o.data))
	})
}

// sendmmsg answers sendmmsg(2). The kernel runs it when no message has a remote name; else we send all of them.
func (d *datagrams) sendmmsg(c *unotify.Call) unotify.Verdict {
	count := min(int(uint32(c.Args[2])), maxMessages)
	if count == 0 {
		return unotify.Continue()
	}
	raw := make([]byte, count*sizeofMmsghdr)
	if err := c.ReadMem(c.Args[1], raw); err != nil {
		return d.unreadable(err)
	}
	ms, to := make([]*message, count), make([]netip.AddrPort, count)
	anyRemote := false
	for i := range ms {
		ms[i] = (*message)(unsafe.Pointer(&raw[i*sizeofMmsghdr]))
		var verdict unotify.Verdict
		to[i], verdict = d.destination(c, ms[i].name, ms[i].nameLen)
		if !to[i].IsValid() && verdict != unotify.Continue() {
			return verdict
		}
		anyRemote = anyRemote || to[i].IsValid()
	}
	if !anyRemote {
		return unotify.Continue()
	}
	s, verdict := d.sender(c, int(c.Args[3]))
	if s == nil {
		return verdict
	}
	defer unix.Close(s.fd)
	var all []*outgoing
	var data [][]byte
	for i, m := range ms {
		o, err := newOutgoing(c, m, to[i])
		if err != nil && i == 0 {
			return unotify.Fail(errnoOf(err))
		}
		if err != nil {
			break // sent so far is the answer, and the next call meets the error
		}
		all, data = append(all, o), append(data, o.data)
	}
	return d.once(c, d.fingerprint(data...), func() unotify.Verdict { return d.sendAll(c, s, all) })
}

func (d *datagrams) sendAll(c *unotify.Call, s *datagramSocket, all []*outgoing) unotify.Verdict {
	for i, o := range all {
		errno := d.sendOutgoing(s, o, int(c.Args[3]))
		if errno == 0 {
			var size [4]byte
			binary.NativeEndian.PutUint32(size[:], uint32(len(o.data)))
			errno = errnoIf(c.WriteMem(c.Args[1]+uint64(i*sizeofMmsghdr+offsetLen), size[:]))
		}
		if errno != 0 && i == 0 {
			return unotify.Fail(errno)
		}
		if errno != 0 {
			return unotify.Return(i)
		}
	}
	return unotify.Return(len(all))
}

// sent is a send whose result a signal kept from its thread. The thread makes the call again, and must find that it is
// done: two datagrams for one send would put every later answer out of step.
type sent struct {
	nr      int
	args    [6]uint64
	print   uint64
	verdict unotify.Verdict
}

// once runs a send unless the thread, interrupted, makes it for the second time, and answers it.
func (d *datagrams) once(c *unotify.Call, print uint64, send func() unotify.Verdict) unotify.Verdict {
	d.mu.Lock()
	last, ok := d.unanswered[c.TID]
	delete(d.unanswered, c.TID)
	d.mu.Unlock()
	v := last.verdict
	if !ok || last.nr != c.Nr || last.args != c.Args || last.print != print {
		v = send()
	}
	if !c.Answer(v) {
		d.mu.Lock()
		if len(d.unanswered) >= maxUnanswered {
			clear(d.unanswered)
		}
		d.unanswered[c.TID] = sent{c.Nr, c.Args, print, v}
		d.mu.Unlock()
	}
	return unotify.Later()
}

// fingerprint tells datagrams apart.
func (d *datagrams) fingerprint(parts ...[]byte) uint64 {
	var h maphash.Hash
	h.SetSeed(d.seed)
	for _, p := range parts {
		h.Write(p)
		h.WriteByte(0)
	}
	return h.Sum64()
}

// destination is the remote address that a send names. It is invalid if there is none; then the verdict is due.
func (d *datagrams) destination(c *unotify.Call, name uint64, length uint32) (netip.AddrPort, unotify.Verdict) {
	if name == 0 || length == 0 || length > maxName {
		return netip.AddrPort{}, unotify.Continue() // to the connected peer, or to an EINVAL of the kernel's
	}
	b := make([]byte, length)
	if err := c.ReadMem(name, b); err != nil {
		return netip.AddrPort{}, d.unreadable(err)
	}
	to, ok := decodeAddr(b)
	if !ok || !remote(to.Addr()) {
		return netip.AddrPort{}, unotify.Continue()
	}
	return to, unotify.Verdict{}
}

// sender is the socket of a send to a remote address. It is nil if we do not serve it; then the verdict is due.
func (d *datagrams) sender(c *unotify.Call, flags int) (*datagramSocket, unotify.Verdict) {
	fd, err := c.FD(int(int32(c.Args[0])))
	switch {
	case errors.Is(err, unix.EBADF):
		return nil, unotify.Fail(unix.EBADF)
	case err != nil:
		return nil, unotify.Fail(unix.ENETUNREACH) // Never Continue here: it would leave through this host's network.
	}
	s, err := newDatagramSocket(fd)
	switch {
	case err == nil && s.udp && s.ours():
		return s, unotify.Verdict{}
	case err == nil && s.udp: // in a namespace of its own, whose routes are none of our business
		unix.Close(fd)
		return nil, unotify.Continue()
	case errors.Is(err, unix.ESOCKTNOSUPPORT) && streams(fd) && flags&unix.MSG_FASTOPEN == 0: // the address is ignored
		unix.Close(fd)
		return nil, unotify.Continue()
	case errors.Is(err, unix.ESOCKTNOSUPPORT) && streams(fd):
		unix.Close(fd)
		return nil, unotify.Fail(unix.EOPNOTSUPP) // a connect in disguise, which programs do without where it is refused
	case errors.Is(err, unix.ENOTSOCK):
		unix.Close(fd)
		return nil, unotify.Fail(unix.ENOTSOCK)
	}
	unix.Close(fd)
	return nil, unotify.Fail(unix.ENETUNREACH)
}

// streams reports whether fd is a stream socket.
func streams(fd int) bool {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	return err == nil && kind == unix.SOCK_STREAM
}

// outgoing is a message of the program, read from its memory once.
type outgoing struct {
	to      netip.AddrPort // the remote peer; invalid: see name
	name    []byte         // a local address, or none
	data    []byte
	control []byte
}

func newOutgoing(c *unotify.Call, m *message, to netip.AddrPort) (o *outgoing, err error) {
	o = &outgoing{to: to}
	if o.data, err = m.gather(c); err != nil {
		return nil, err
	}
	if o.control, err = m.steering(c); err != nil {
		return nil, err
	}
	if to.IsValid() || m.name == 0 || m.nameLen == 0 || m.nameLen > maxName {
		return o, nil
	}
	o.name = make([]byte, m.nameLen)
	if err := c.ReadMem(m.name, o.name); err != nil {
		return nil, err
	}
	if to, ok := decodeAddr(o.name); ok && remote(to.Addr()) {
		return nil, unix.ENETUNREACH // It was not remote a moment ago: somebody writes there, and we believe nobody.
	}
	return o, nil
}

func (d *datagrams) sendOutgoing(s *datagramSocket, o *outgoing, flags int) syscall.Errno {
	if o.to.IsValid() {
		return d.send(s, o.to, o.data, o.control, flags)
	}
	return sendRaw(s.fd, o.name, o.data, o.control, flags)
}

// send sends a datagram from the program's own socket to the relay that stands for the peer.
func (d *datagrams) send(s *datagramSocket, to netip.AddrPort, b, control []byte, flags int) syscall.Errno {
	r, err := d.relayFor(s, to)
	if err != nil {
		return errnoOf(err)
	}
	return sendRaw(s.fd, s.encode(r.addr), b, control, flags)
}

// sendRaw is sendmsg(2) that never waits and never raises SIGPIPE.
func sendRaw(fd int, name, b, control []byte, flags int) syscall.Errno {
	var m unix.Msghdr
	var iov unix.Iovec
	if len(b) > 0 {
		iov.Base = &b[0]
		iov.SetLen(len(b))
	}
	m.Iov = &iov
	m.SetIovlen(1)
	if len(name) > 0 {
		m.Name, m.Namelen = &name[0], uint32(len(name))
	}
	if len(control) > 0 {
		m.Control = &control[0]
		m.SetControllen(len(control))
	}
	_, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)), uintptr(flags|unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL))
	return errno
}

// unreadable is the verdict on a call whose memory we cannot read: the kernel's own EFAULT, or none of our network.
func (d *datagrams) unreadable(err error) unotify.Verdict {
	if errors.Is(err, unix.EFAULT) {
		return unotify.Fail(unix.EFAULT)
	}
	return unotify.Fail(unix.ENETUNREACH)
}

func errnoIf(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	return errnoOf(err)
}
