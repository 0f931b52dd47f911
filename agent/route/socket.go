package route

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// A socket is a connection with the bytes that were read from it. One goroutine reads it.
type socket struct {
	net.Conn
	in  buffer
	tcp *net.TCPConn // what Conn is, or is made of; nil: something else

	// With a raw connection memory is taken only once there are bytes to read.
	raw syscall.RawConn
	try func(fd uintptr) bool
	n   int
	err error
}

func newSocket(conn net.Conn, m *memory) *socket {
	s := &socket{Conn: conn, in: buffer{memory: m}}
	if s.tcp = tcpOf(conn); s.tcp != nil {
		if raw, err := s.tcp.SyscallConn(); err == nil {
			s.raw, s.try = raw, s.tryRead
		}
	}
	return s
}

// tcpOf looks into a connection that only adds to its end. One that is encrypted does more.
func tcpOf(conn net.Conn) *net.TCPConn {
	if _, encrypted := conn.(*tls.Conn); encrypted {
		return nil
	}
	if inner, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = inner.NetConn()
	}
	tcp, _ := conn.(*net.TCPConn)
	return tcp
}

// fill waits for bytes and adds them to in, which must not be full. It returns no bytes and no error when it was poked.
func (s *socket) fill() (int, error) {
	n, err := s.read()
	s.in.grew(n)
	if n > 0 {
		return n, nil
	}
	s.in.release()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, s.SetReadDeadline(time.Time{})
	}
	return 0, err
}

func (s *socket) read() (int, error) {
	if s.raw == nil {
		return s.Conn.Read(s.in.room())
	}
	s.n, s.err = 0, nil
	if err := s.raw.Read(s.try); err != nil {
		return 0, err
	}
	return s.n, s.err
}

// tryRead is called when the descriptor may be readable. It reports false to be called again.
func (s *socket) tryRead(fd uintptr) bool {
	room := s.in.room()
	for {
		n, err := syscall.Read(int(fd), room)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			s.in.release()
			return false
		case err != nil:
			s.err = err
		case n == 0:
			s.err = io.EOF
		default:
			s.n = n
		}
		return true
	}
}

// poke makes a fill that is under way, or the next one, return without bytes. Safe for concurrent use.
func (s *socket) poke() { _ = s.SetReadDeadline(time.Unix(1, 0)) }

// closeWrite passes on the end of the bytes. A connection that cannot be half closed is closed.
func (s *socket) closeWrite() {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = s.Close()
}

// reset ends the connection so that the peer cannot take it for a proper end.
func (s *socket) reset() {
	if s.tcp != nil {
		_ = s.tcp.SetLinger(0)
	} else if encrypted, ok := s.Conn.(*tls.Conn); ok {
		abort(encrypted.NetConn())
	} else if stream, ok := s.Conn.(interface{ Reset(errno syscall.Errno) }); ok {
		stream.Reset(syscall.ECONNRESET)
	}
	_ = s.Close()
}

// abort resets what carries an encrypted connection: close would say a proper goodbye first.
func abort(carrier net.Conn) {
	if tcp := tcpOf(carrier); tcp != nil {
		_ = tcp.SetLinger(0)
	}
	_ = carrier.Close()
}
