package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
)

// errorFrame is the length that announces an errno instead of a datagram.
const errorFrame = 0xffff

// Datagrams makes datagrams of a stream: one Write sends one, one Read returns one. It is safe for one reader and
// any writers.
type Datagrams struct {
	net.Conn
	in *bufio.Reader

	mu  sync.Mutex
	out []byte
}

// NewDatagrams puts datagrams on a stream. It takes the stream over: Close closes it.
func NewDatagrams(s net.Conn) *Datagrams {
	return &Datagrams{Conn: s, in: bufio.NewReader(s)}
}

// Read returns one datagram; what does not fit into b is dropped, as recv(2) does. An error that unwraps to an errno
// may come from the socket on the other side: then reading can go on. io.EOF and all others are final.
func (d *Datagrams) Read(b []byte) (int, error) {
	size, err := d.size()
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(d.in, b[:min(size, len(b))])
	if err == nil {
		_, err = d.in.Discard(size - n)
	}
	if err != nil {
		return 0, cutDatagram(err)
	}
	return n, nil
}

// size reads the length of the next datagram, or the error that stands in its place.
func (d *Datagrams) size() (int, error) {
	var head [2]byte
	if _, err := io.ReadFull(d.in, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		return 0, cutDatagram(err)
	}
	size := int(binary.BigEndian.Uint16(head[:]))
	if size <= maxDatagram {
		return size, nil
	}
	if size != errorFrame {
		return 0, d.broken(fmt.Sprintf("%d bytes are too many", size))
	}
	var errno [4]byte
	if _, err := io.ReadFull(d.in, errno[:]); err != nil {
		return 0, cutDatagram(err)
	}
	if e := errnoFromWire(int32(binary.BigEndian.Uint32(errno[:]))); e != 0 {
		return 0, e
	}
	return 0, d.broken("an error without errno")
}

func (d *Datagrams) broken(cause string) error {
	if s, ok := d.Conn.(*Stream); ok {
		s.Reset(syscall.EPROTO)
	}
	return &Error{Errno: syscall.EPROTO, Cause: "read datagram: " + cause}
}

func cutDatagram(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &Error{Errno: syscall.EPROTO, Cause: "read datagram: cut off"}
	}
	return err
}

// Write sends b as one datagram; one that is too long for UDP is EMSGSIZE.
func (d *Datagrams) Write(b []byte) (int, error) {
	if len(b) > maxDatagram {
		return 0, syscall.EMSGSIZE
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.out = binary.BigEndian.AppendUint16(d.out[:0], uint16(len(b)))
	d.out = append(d.out, b...)
	if _, err := d.Conn.Write(d.out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// WriteError hands an error of the socket to the peer, where one Read returns its errno. EIO stands for an error
// without one.
func (d *Datagrams) WriteError(err error) error {
	errno := syscall.EIO
	errors.As(err, &errno)
	frame := binary.BigEndian.AppendUint16(nil, errorFrame)
	frame = binary.BigEndian.AppendUint32(frame, uint32(errnoToWire(errno)))
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err = d.Conn.Write(frame)
	return err
}
