package local

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"
)

// newPipe makes a pipe in memory: the caller's end, and ours. Over is called when the caller gives up its end.
func newPipe(local, remote net.Addr, over func()) (*stream, *end) {
	asked, answered := newHalf(), newHalf()
	ours := &end{in: asked, out: answered, local: remote, remote: local}
	return &stream{end{in: answered, out: asked, local: local, remote: remote}, over}, ours
}

// An end is one end of a pipe. It has no CloseWrite: net/http would linger over it.
type end struct {
	in, out       *half
	local, remote net.Addr
}

func (e *end) Read(b []byte) (int, error)  { return e.in.Read(b) }
func (e *end) Write(b []byte) (int, error) { return e.out.Write(b) }

// Close ends both directions. What was written before can still be read at the other end.
func (e *end) Close() error {
	e.in.abort(syscall.EPIPE)
	e.out.finish(io.EOF)
	return nil
}

// fail ends both directions. The other end gets the errno, but first what was written before.
func (e *end) fail(errno syscall.Errno) {
	e.out.finish(errno)
	e.in.abort(errno)
}

func (e *end) LocalAddr() net.Addr  { return e.local }
func (e *end) RemoteAddr() net.Addr { return e.remote }

func (e *end) SetDeadline(t time.Time) error {
	return errors.Join(e.SetReadDeadline(t), e.SetWriteDeadline(t))
}

func (e *end) SetReadDeadline(t time.Time) error {
	e.in.setLimit(&e.in.read, t)
	return nil
}

func (e *end) SetWriteDeadline(t time.Time) error {
	e.out.setLimit(&e.out.write, t)
	return nil
}

// A stream is the end that Adapt returns.
type stream struct {
	end
	over func()
}

// CloseWrite says that no more bytes follow.
func (s *stream) CloseWrite() error {
	s.out.finish(io.EOF)
	return nil
}

// Reset ends the stream at once; requests under way are given up.
func (s *stream) Reset(errno syscall.Errno) {
	s.in.abort(errno)
	s.out.abort(errno)
	s.over()
}

// Close gives up requests under way.
func (s *stream) Close() error {
	s.in.abort(net.ErrClosed)
	s.out.finish(io.EOF)
	s.over()
	return nil
}
