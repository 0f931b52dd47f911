package older

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/magpie-k8s/magpie/internal/netns"
)

const (
	// maxAnswer is the largest piece that the kernel gives of a list (netlink_recvmsg).
	maxAnswer = 32 << 10
	// answerTime bounds the wait for the kernel. It answers before our question returns; only a fault of ours can make us wait.
	answerTime = 5 * time.Second

	// The kernel's own structures, include/uapi/linux/inet_diag.h.
	attributeInfo = 2          // INET_DIAG_INFO: struct tcp_info
	noCookie      = ^uint32(0) // INET_DIAG_NOCOOKIE
	withInfo      = 1 << (attributeInfo - 1)
)

// sockID names a socket as the kernel does. Ports and addresses are in network order.
type sockID struct {
	localPort, remotePort [2]byte
	local, remote         [16]byte
	device                uint32
	cookie                [2]uint32
}

// question is struct inet_diag_req_v2 behind its header.
type question struct {
	header           unix.NlMsghdr
	family, protocol uint8
	extensions, _    uint8
	states           uint32
	id               sockID
}

// answer is struct inet_diag_msg.
type answer struct {
	family, state  uint8
	_, _           uint8 // timer, retransmissions
	id             sockID
	_              uint32 // expiry of the timer
	unread, unsent uint32
	_              uint32 // user
	inode          uint32
}

// socket is one TCP socket as it was when the kernel was asked. sent and received are how long ago data went out and came in, if the kernel was asked that.
type socket struct {
	answer
	sent, received time.Duration
}

func (s *socket) cookie() uint64 { return uint64(s.id.cookie[1])<<32 | uint64(s.id.cookie[0]) }

func (s *socket) localAddr() netip.AddrPort { return s.addr(s.id.local, s.id.localPort) }

func (s *socket) remoteAddr() netip.AddrPort { return s.addr(s.id.remote, s.id.remotePort) }

// addr has zones by their numbers, since names are valid inside the namespace only.
func (s *socket) addr(b [16]byte, port [2]byte) netip.AddrPort {
	ip := netip.AddrFrom4([4]byte(b[:4]))
	if s.family == unix.AF_INET6 {
		ip = netip.AddrFrom16(b).Unmap()
	}
	if ip.IsLinkLocalUnicast() && ip.Is6() {
		ip = ip.WithZone(strconv.Itoa(int(s.id.device)))
	}
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(port[:]))
}

// diag asks the kernel about the TCP sockets of one namespace, sock_diag(7). It is not safe for concurrent use, nor of use after an error that is no errno.
type diag struct {
	fd  int
	seq uint32
	buf []byte
}

func openDiag(ns *netns.NS) (*diag, error) {
	d := &diag{buf: make([]byte, maxAnswer)}
	// The socket is the namespace's for good, from wherever it is asked.
	err := ns.Do(func() (err error) {
		d.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return nil, err
	}
	bound := unix.NsecToTimeval(int64(answerTime))
	if err := unix.SetsockoptTimeval(d.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &bound); err != nil {
		d.close()
		return nil, os.NewSyscallError("setsockopt", err)
	}
	return d, nil
}

func (d *diag) close() { unix.Close(d.fd) }

// list gives each socket that matches the question, of both families.
func (d *diag) list(ctx context.Context, q question, each func(*socket)) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		q.family = family
		q.id.cookie = [2]uint32{noCookie, noCookie}
		if err := d.ask(ctx, unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, q, each); err != nil {
			return err
		}
	}
	return nil
}

// again looks at one socket; ENOENT: it is not there any more.
func (d *diag) again(ctx context.Context, s *socket) (now socket, err error) {
	q := question{family: s.family, extensions: withInfo, states: ^uint32(0), id: s.id}
	err = d.ask(ctx, unix.SOCK_DIAG_BY_FAMILY, 0, q, func(s *socket) { now = *s })
	return now, err
}

// destroy ends a connection: its peer gets a RST, its owner ECONNABORTED. ENOENT: it is not there any more.
func (d *diag) destroy(ctx context.Context, s *socket) error {
	q := question{family: s.family, states: ^uint32(0), id: s.id}
	return d.ask(ctx, unix.SOCK_DESTROY, unix.NLM_F_ACK, q, func(*socket) {})
}

func (d *diag) ask(ctx context.Context, kind, flags uint16, q question, each func(*socket)) error {
	d.seq++
	q.header = unix.NlMsghdr{Len: uint32(unsafe.Sizeof(q)), Type: kind, Flags: unix.NLM_F_REQUEST | flags, Seq: d.seq}
	q.protocol = unix.IPPROTO_TCP
	if _, err := unix.Write(d.fd, unsafe.Slice((*byte)(unsafe.Pointer(&q)), unsafe.Sizeof(q))); err != nil {
		return os.NewSyscallError("write", err)
	}
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := unix.Read(d.fd, d.buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("read", err)
		}
		if over, err := d.parse(d.buf[:n], each); over || err != nil {
			return err
		}
	}
}

// parse reads messages as in netlink(7), and reports whether the last one was among them.
func (d *diag) parse(b []byte, each func(*socket)) (over bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		header := (*unix.NlMsghdr)(unsafe.Pointer(&b[0]))
		if header.Len < unix.SizeofNlMsghdr || int(header.Len) > len(b) {
			return false, errCutOff
		}
		body := b[unix.SizeofNlMsghdr:header.Len]
		b = b[min(len(b), (int(header.Len)+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]
		switch {
		case header.Seq != d.seq: // left over from a question that was given up
		case header.Type == unix.NLMSG_DONE, header.Type == unix.NLMSG_ERROR:
			return true, verdict(body)
		case header.Type == unix.SOCK_DIAG_BY_FAMILY:
			s, err := parseSocket(body)
			if err != nil {
				return false, err
			}
			each(&s)
			if header.Flags&unix.NLM_F_MULTI == 0 {
				return true, nil
			}
		}
	}
	return false, nil
}

var errCutOff = errors.New("the kernel's answer is cut off")

// verdict is what an answer ends with: zero, or an errno below it.
func verdict(body []byte) error {
	if len(body) < 4 {
		return errCutOff
	}
	if code := int32(binary.NativeEndian.Uint32(body)); code < 0 {
		return unix.Errno(-code)
	}
	return nil
}

func parseSocket(b []byte) (s socket, err error) {
	if len(b) < int(unsafe.Sizeof(s.answer)) {
		return s, errCutOff
	}
	s.answer = *(*answer)(unsafe.Pointer(&b[0]))
	const attributeHeader = 4 // struct nlattr: length and type
	for b = b[unsafe.Sizeof(s.answer):]; len(b) >= attributeHeader; {
		length, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if length < attributeHeader || length > len(b) {
			return s, fmt.Errorf("attribute %d: %w", kind, errCutOff)
		}
		if kind == attributeInfo {
			s.sent, s.received = parseInfo(b[attributeHeader:length])
		}
		b = b[min(len(b), (length+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1)):]
	}
	return s, nil
}

// parseInfo reads struct tcp_info, which grows with each kernel.
func parseInfo(b []byte) (sent, received time.Duration) {
	var info unix.TCPInfo
	millis := func(offset uintptr) time.Duration {
		if len(b) < int(offset)+4 {
			return 0
		}
		return time.Duration(binary.NativeEndian.Uint32(b[offset:])) * time.Millisecond
	}
	return millis(unsafe.Offsetof(info.Last_data_sent)), millis(unsafe.Offsetof(info.Last_data_recv))
}
