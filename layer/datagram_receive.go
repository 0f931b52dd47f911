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

// lookAgain is how often a receive that waits looks whether its thread still does.
const lookAgain = 100 * time.Millisecond

// received is a datagram taken from a socket of the program.
type received struct {
	buf     *[maxDatagram]byte
	size    int
	from    *relay         // nil if it came from somebody else on this host
	name    netip.AddrPort // of the sender, as the program shall see it
	control []byte
	flags   int
}

// reception is a call that receives.
type reception struct {
	// try serves the call, or reports that it is not ready. The undo, if any, takes back what was done for nobody.
	try func() (v unotify.Verdict, undo func(), ready bool)
	// partial is the result when the call may not wait any longer: the errno, if it has nothing yet.
	partial func(errno syscall.Errno) (v unotify.Verdict, undo func())
}

// single is a reception of one datagram.
func single(try func() (unotify.Verdict, func(), bool)) reception {
	return reception{try, func(errno syscall.Errno) (unotify.Verdict, func()) { return unotify.Fail(errno), nil }}
}

// recvfrom answers recvfrom(2) with room for an address.
func (d *datagrams) recvfrom(c *unotify.Call) unotify.Verdict {
	s := d.receiver(c)
	if s == nil {
		return unotify.Continue()
	}
	flags := int(c.Args[3])
	return d.receive(c, s, flags, single(func() (unotify.Verdict, func(), bool) {
		r, verdict, ready := d.take(s, flags, 0, false)
		if r == nil {
			return verdict, nil, ready
		}
		defer r.release()
		return r.answer(c, flags, func() (int, error) {
			n := min(r.size, int(min(c.Args[2], maxDatagram)))
			if err := c.WriteMem(c.Args[1], r.buf[:n]); err != nil {
				return 0, err
			}
			if flags&unix.MSG_TRUNC != 0 {
				n = r.size
			}
			return n, writeName(c, c.Args[4], c.Args[5], s.encode(r.name))
		})
	}))
}

// recvmsg answers recvmsg(2). Without room for a name there is nothing to translate.
func (d *datagrams) recvmsg(c *unotify.Call) unotify.Verdict {
	m, err := readMessage(c, c.Args[1])
	if err != nil || m.name == 0 {
		return unotify.Continue()
	}
	s := d.receiver(c)
	if s == nil {
		return unotify.Continue()
	}
	flags := int(c.Args[2])
	return d.receive(c, s, flags, single(func() (unotify.Verdict, func(), bool) {
		r, verdict, ready := d.take(s, flags, m.controlLen, false)
		if r == nil {
			return verdict, nil, ready
		}
		defer r.release()
		return r.answer(c, flags, func() (int, error) { return r.fill(c, s, m, c.Args[1], flags) })
	}))
}

// recvmmsg answers recvmmsg(2). What has been received when the call is interrupted is delivered again, if a relay sent it;
// what came from this host is lost then, as datagrams may be.
func (d *datagrams) recvmmsg(c *unotify.Call) unotify.Verdict {
	count := min(int(uint32(c.Args[2])), maxMessages)
	first, err := readMessage(c, c.Args[1])
	if err != nil || first.name == 0 || count == 0 {
		return unotify.Continue()
	}
	s := d.receiver(c)
	if s == nil {
		return unotify.Continue()
	}
	flags := int(c.Args[3]) &^ unix.MSG_WAITFORONE
	waitForOne := int(c.Args[3])&unix.MSG_WAITFORONE != 0
	limit, err := patienceOf(c, c.Args[4])
	if err != nil {
		unix.Close(s.fd)
		return unotify.Fail(errnoOf(err))
	}
	b := &batch{d: d, c: c, s: s, flags: flags, count: count, control: first.controlLen, waitForOne: waitForOne, limit: limit, started: time.Now()}
	return d.receive(c, s, flags, reception{b.try, b.partial})
}

// batch is a recvmmsg(2) under way.
type batch struct {
	d          *datagrams
	c          *unotify.Call
	s          *datagramSocket
	flags      int
	count      int
	control    uint64
	waitForOne bool
	limit      time.Duration // 0: none
	started    time.Time

	got  int
	undo []func()
}

func (b *batch) try() (unotify.Verdict, func(), bool) {
	for b.got < b.count {
		r, verdict, ready := b.d.take(b.s, b.flags, b.control, true)
		if r == nil && b.got > 0 && (ready || b.waitForOne) { // an error can wait for the next call
			break
		}
		if r == nil {
			return verdict, b.undoAll, ready
		}
		verdict, undo, _ := r.answer(b.c, b.flags, func() (int, error) { return b.fill(r) })
		r.release()
		if verdict == unotify.Fail(unix.EFAULT) {
			return verdict, b.undoAll, true
		}
		if undo != nil {
			b.undo = append(b.undo, undo)
		}
		b.got++
		if b.limit > 0 && time.Since(b.started) >= b.limit { // the kernel, too, looks at it only here
			break
		}
	}
	return unotify.Return(b.got), b.undoAll, true
}

func (b *batch) partial(errno syscall.Errno) (unotify.Verdict, func()) {
	if b.got == 0 {
		return unotify.Fail(errno), nil
	}
	return unotify.Return(b.got), b.undoAll
}

func (b *batch) undoAll() {
	for _, undo := range b.undo {
		undo()
	}
	b.undo = nil
}

// fill writes a datagram into the next struct mmsghdr.
func (b *batch) fill(r *received) (int, error) {
	at := b.c.Args[1] + uint64(b.got*sizeofMmsghdr)
	m, err := readMessage(b.c, at)
	if err != nil {
		return 0, err
	}
	n, err := r.fill(b.c, b.s, m, at, b.flags)
	if err != nil {
		return 0, err
	}
	var size [4]byte
	binary.NativeEndian.PutUint32(size[:], uint32(n))
	return n, b.c.WriteMem(at+uint64(offsetLen), size[:])
}

// receiver is the socket of a call that receives, if it is a UDP socket that relays could send to.
func (d *datagrams) receiver(c *unotify.Call) *datagramSocket {
	fd, err := c.FD(int(int32(c.Args[0])))
	if err != nil {
		return nil // the kernel knows better what is wrong; nothing leaves by receiving
	}
	s, err := newDatagramSocket(fd)
	if err != nil || !s.udp {
		unix.Close(fd)
		return nil
	}
	return s
}

// receive serves a call now or, if it may wait, when the socket becomes readable. The socket becomes ours.
func (d *datagrams) receive(c *unotify.Call, s *datagramSocket, flags int, r reception) unotify.Verdict {
	if flags&(unix.MSG_ERRQUEUE|unix.MSG_OOB) != 0 {
		unix.Close(s.fd)
		return unotify.Continue() // these do not come from peers
	}
	v, undo, ready := r.try()
	errno := unix.EAGAIN
	if !ready && flags&unix.MSG_DONTWAIT == 0 && !nonblocking(s.fd) {
		k := &socket{fd: s.fd}
		if !k.interrupted(c, unix.SO_RCVTIMEO) {
			d.done.Go(func() { d.await(c, s, r, k.patience(unix.SO_RCVTIMEO)) })
			return unotify.Later()
		}
		errno = unix.EINTR
	}
	unix.Close(s.fd)
	if !ready {
		v, undo = r.partial(errno)
	}
	answerOrUndo(c, v, undo)
	return unotify.Later()
}

// await serves a call that waits until its socket is readable, the limit passes (0: none), or its thread has left.
func (d *datagrams) await(c *unotify.Call, s *datagramSocket, r reception, limit time.Duration) {
	defer unix.Close(s.fd)
	var end time.Time
	if limit > 0 {
		end = time.Now().Add(limit)
	}
	w, err := newWatcher(s.fd)
	if err != nil {
		c.Answer(unotify.Fail(unix.ENOBUFS))
		return
	}
	defer w.close()
	c.OnGone(w.interrupt)
	for c.Valid() {
		v, undo, ready := r.try()
		if !ready && !end.IsZero() && !time.Now().Before(end) {
			v, undo = r.partial(unix.EAGAIN)
			ready = true
		}
		if ready {
			answerOrUndo(c, v, undo)
			return
		}
		until := time.Now().Add(lookAgain)
		if !end.IsZero() && end.Before(until) {
			until = end
		}
		w.wait(until)
	}
	if _, undo := r.partial(unix.EINTR); undo != nil {
		undo()
	}
}

func answerOrUndo(c *unotify.Call, v unotify.Verdict, undo func()) {
	if !c.Answer(v) && undo != nil {
		undo()
	}
}

// take takes the next datagram from the socket, or looks at it with MSG_PEEK. One that no relay sent is left to the kernel
// (Continue), unless all is set. The verdict counts when there is no datagram; ready is false when it is worth waiting.
func (d *datagrams) take(s *datagramSocket, flags int, control uint64, all bool) (*received, unotify.Verdict, bool) {
	var sa [maxName]byte
	next := unix.Msghdr{Name: &sa[0], Namelen: maxName}
	if !all {
		_, errno := recvRaw(s.fd, &next, unix.MSG_PEEK)
		if errno == unix.EAGAIN {
			return nil, unotify.Verdict{}, false
		}
		if errno != 0 {
			return nil, unotify.Fail(errno), true
		}
		from, _ := decodeAddr(sa[:next.Namelen])
		if _, ok := d.standsFor(from); !ok {
			return nil, unotify.Continue(), true
		}
	}
	r := &received{buf: buffers.Get().(*[maxDatagram]byte), control: make([]byte, min(control, maxControl))}
	iov := unix.Iovec{Base: &r.buf[0]}
	iov.SetLen(maxDatagram)
	m := unix.Msghdr{Name: &sa[0], Namelen: maxName, Iov: &iov}
	m.SetIovlen(1)
	if len(r.control) > 0 {
		m.Control = &r.control[0]
		m.SetControllen(len(r.control))
	}
	n, errno := recvRaw(s.fd, &m, flags&^unix.MSG_TRUNC)
	if errno != 0 {
		r.release()
		return nil, unotify.Fail(errno), errno != unix.EAGAIN
	}
	r.size, r.control, r.flags = n, r.control[:m.Controllen], int(m.Flags)
	from, _ := decodeAddr(sa[:m.Namelen])
	r.name = from
	if relay, ok := d.standsFor(from); ok {
		r.from, r.name = relay, relay.peer
	}
	return r, unotify.Verdict{}, true
}

// answer writes a datagram into the program's memory and makes the verdict. Nothing is written when the thread has left:
// its memory may be in other use by now.
func (r *received) answer(c *unotify.Call, flags int, write func() (int, error)) (unotify.Verdict, func(), bool) {
	var undo func()
	if r.from != nil && flags&unix.MSG_PEEK == 0 {
		relay, b := r.from, append([]byte(nil), r.buf[:r.size]...)
		undo = func() { relay.deliver(b) }
	}
	if !c.Valid() {
		return unotify.Fail(unix.EINTR), undo, true // which nobody will see
	}
	n, err := write()
	switch {
	case errors.Is(err, unix.ESRCH): // left meanwhile
		return unotify.Fail(unix.EINTR), undo, true
	case err != nil:
		return unotify.Fail(errnoOf(err)), nil, true
	}
	return unotify.Return(n), undo, true
}

// fill writes the datagram into the parts, the name, the control buffer and the header of a message at an address.
func (r *received) fill(c *unotify.Call, s *datagramSocket, m message, at uint64, flags int) (int, error) {
	ps, room, err := m.parts(c)
	if err != nil {
		return 0, err
	}
	n := min(r.size, room)
	if err := scatter(c, ps, r.buf[:n]); err != nil {
		return 0, err
	}
	m.flags = int32(r.flags &^ unix.MSG_TRUNC)
	if r.size > room {
		m.flags |= unix.MSG_TRUNC
		if flags&unix.MSG_TRUNC != 0 {
			n = r.size
		}
	}
	if m.name != 0 {
		name := s.encode(r.name)
		if err := c.WriteMem(m.name, name[:min(len(name), int(m.nameLen))]); err != nil {
			return 0, err
		}
		m.nameLen = uint32(len(name))
	}
	m.controlLen = min(m.controlLen, uint64(len(r.control)))
	if err := c.WriteMem(m.control, r.control[:m.controlLen]); err != nil {
		return 0, err
	}
	return n, c.WriteMem(at, (*[sizeofMsghdr]byte)(unsafe.Pointer(&m))[:])
}

func (r *received) release() { buffers.Put(r.buf) }

// writeName returns an address as recvfrom(2) does: as much as fits, and its full length.
func writeName(c *unotify.Call, addr, length uint64, name []byte) error {
	var b [4]byte
	if err := c.ReadMem(length, b[:]); err != nil {
		return err
	}
	room := int32(binary.NativeEndian.Uint32(b[:]))
	if room < 0 {
		return unix.EINVAL
	}
	if err := c.WriteMem(addr, name[:min(len(name), int(room))]); err != nil {
		return err
	}
	binary.NativeEndian.PutUint32(b[:], uint32(len(name)))
	return c.WriteMem(length, b[:])
}

// patienceOf reads the timeout of recvmmsg(2); zero: none.
func patienceOf(c *unotify.Call, at uint64) (time.Duration, error) {
	if at == 0 {
		return 0, nil
	}
	var ts unix.Timespec
	if err := c.ReadMem(at, (*[unsafe.Sizeof(ts)]byte)(unsafe.Pointer(&ts))[:]); err != nil {
		return 0, err
	}
	return max(1, time.Duration(ts.Nano())), nil
}

func nonblocking(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_NONBLOCK != 0
}

// recvRaw is recvmsg(2) that never waits.
func recvRaw(fd int, m *unix.Msghdr, flags int) (int, syscall.Errno) {
	n, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(m)), uintptr(flags|unix.MSG_DONTWAIT))
	return int(n), errno
}
