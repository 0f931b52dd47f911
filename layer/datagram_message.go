//go:build linux && (amd64 || arm64)

package layer

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/layer/unotify"
)

const (
	maxMessages = 1024 // UIO_MAXIOV, which bounds both the messages of a call and the parts of a message
	maxName     = 128  // sizeof(struct sockaddr_storage)
	maxControl  = 20480
)

// message is struct msghdr of another process: its pointers are numbers here.
type message struct {
	name       uint64
	nameLen    uint32
	_          uint32
	iov        uint64
	iovLen     uint64
	control    uint64
	controlLen uint64
	flags      int32
	_          uint32
}

// struct mmsghdr is a message, its length, and padding.
const (
	sizeofMsghdr  = int(unsafe.Sizeof(message{}))
	sizeofMmsghdr = sizeofMsghdr + 8
	offsetLen     = sizeofMsghdr
)

var _ [unsafe.Sizeof(unix.Msghdr{})]byte = [sizeofMsghdr]byte{}

// part is struct iovec of another process.
type part struct{ base, len uint64 }

// readMessage reads one struct msghdr.
func readMessage(c *unotify.Call, at uint64) (m message, err error) {
	err = c.ReadMem(at, (*[sizeofMsghdr]byte)(unsafe.Pointer(&m))[:])
	return m, err
}

// parts reads where the data of the message lie, and how many bytes they are.
func (m *message) parts(c *unotify.Call) ([]part, int, error) {
	if m.iovLen > maxMessages {
		return nil, 0, unix.EMSGSIZE
	}
	if m.iovLen == 0 {
		return nil, 0, nil
	}
	ps := make([]part, m.iovLen)
	if err := c.ReadMem(m.iov, unsafe.Slice((*byte)(unsafe.Pointer(&ps[0])), len(ps)*int(unsafe.Sizeof(part{})))); err != nil {
		return nil, 0, err
	}
	var total uint64
	for _, p := range ps {
		total += min(p.len, 1<<31)
	}
	return ps, int(min(total, 1<<31)), nil
}

// gather reads the data of a message to send.
func (m *message) gather(c *unotify.Call) ([]byte, error) {
	ps, total, err := m.parts(c)
	if err != nil {
		return nil, err
	}
	if total > maxDatagram {
		return nil, unix.EMSGSIZE
	}
	b := make([]byte, total)
	for rest := b; len(ps) > 0; ps = ps[1:] {
		n := int(ps[0].len)
		if err := c.ReadMem(ps[0].base, rest[:n]); err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	return b, nil
}

// scatter writes received data into the parts.
func scatter(c *unotify.Call, ps []part, b []byte) error {
	for _, p := range ps {
		n := min(p.len, uint64(len(b)))
		if err := c.WriteMem(p.base, b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// steering reads the control messages of a message to send, less those that choose a source address or an interface:
// they mean the pod's, and here the datagram goes to a relay on loopback.
func (m *message) steering(c *unotify.Call) ([]byte, error) {
	if m.control == 0 || m.controlLen == 0 {
		return nil, nil
	}
	if m.controlLen > maxControl {
		return nil, unix.ENOBUFS
	}
	b := make([]byte, m.controlLen)
	if err := c.ReadMem(m.control, b); err != nil {
		return nil, err
	}
	const head = unix.SizeofCmsghdr
	var kept []byte
	for len(b) >= head {
		size := binary.NativeEndian.Uint64(b)
		level, kind := binary.NativeEndian.Uint32(b[8:]), binary.NativeEndian.Uint32(b[12:])
		if size < head || size > uint64(len(b)) {
			return nil, unix.EINVAL
		}
		whole := min((int(size)+7)&^7, len(b))
		pktinfo := level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO || level == unix.IPPROTO_IPV6 && kind == unix.IPV6_PKTINFO
		if !pktinfo {
			kept = append(kept, b[:whole]...)
		}
		b = b[whole:]
	}
	return kept, nil
}
