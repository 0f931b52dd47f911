package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/yamux"
)

// A Stream is one conversation in a carrier: a net.Conn with half-close and reset. It is safe for concurrent use as
// a net.Conn is. Whoever got it from Open or Accept closes it.
type Stream struct {
	carrier  *Carrier
	id       uint32
	mux      *yamux.Stream // set by attach, before the stream is handed out
	finished atomic.Bool   // the peer's FIN has come
	ended    atomic.Bool   // something in the state below keeps from reading or writing
	// responded is set when our Opened is out, or on its way.
	responded atomic.Bool
	bulk      atomic.Int64 // bytes read since yamux's buffer was given back
	answer    answer
	writing   sync.Mutex // one Write at a time, whole, as a net.Conn has it

	mu      sync.Mutex
	local   net.Addr
	remote  net.Addr
	closed  bool  // by Close or Reset
	shut    bool  // our FIN is out, or on its way
	stopped bool  // the peer reads no more
	waiting bool  // for RESET_SEEN
	reset   error // by either side; both directions are over
}

func newStream(c *Carrier, id uint32) *Stream {
	return &Stream{carrier: c, id: id, local: streamAddr(id), remote: streamAddr(id)}
}

// attach gives a stream its yamux stream, and makes good what was said about it before.
func (s *Stream) attach(mux *yamux.Stream) {
	s.mu.Lock()
	s.mux = mux
	stopped, reset := s.stopped, s.reset
	s.mu.Unlock()
	if stopped {
		s.stop()
	}
	if reset != nil {
		s.concede()
	}
}

// Read reads what the peer wrote; io.EOF means that it ended its direction and all bytes came. On the side that
// opened the stream it waits for the answer first, and returns its failure. With an empty b it waits until there is
// something to read: so a reader needs memory only while it has bytes.
func (s *Stream) Read(b []byte) (int, error) {
	if err := s.answered(); err != nil {
		return 0, err
	}
	return s.read(b)
}

// read reads without regard to the answer, which itself is read with it.
func (s *Stream) read(b []byte) (int, error) {
	if s.ended.Load() {
		if err := s.readable(); err != nil {
			return 0, err
		}
	}
	n, err := s.mux.Read(b)
	if err != nil {
		return n, s.readError(err)
	}
	// A short read leaves nothing unread: then what a large body took is given back, or each kept-alive connection would sit on megabytes.
	if bulk := s.bulk.Add(int64(n)); bulk > maxRetained && n < len(b) {
		s.bulk.Store(0)
		s.mux.Shrink()
	}
	return n, nil
}

// WriteTo writes to w what the peer wrote, until its end. It takes memory only while there are bytes: a stream waits for
// most of its life.
func (s *Stream) WriteTo(w io.Writer) (total int64, err error) {
	for {
		_, err := s.Read(nil)
		if err == nil {
			var n int
			n, err = s.pour(w)
			total += int64(n)
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// pour writes to w what one Read gives.
func (s *Stream) pour(w io.Writer) (int, error) {
	b := s.carrier.buffers.Get().(*[maxFrame]byte)
	defer s.carrier.buffers.Put(b)
	n, err := s.Read(b[:])
	if err != nil {
		return 0, err
	}
	return w.Write(b[:n])
}

func (s *Stream) readable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed && s.reset == nil {
		return net.ErrClosed
	}
	return s.reset
}

func (s *Stream) readError(err error) error {
	if ended := s.readable(); ended != nil {
		return ended
	}
	switch {
	case errors.Is(err, io.EOF) && s.finished.Load():
		return io.EOF
	case errors.Is(err, yamux.ErrTimeout):
		return os.ErrDeadlineExceeded
	}
	return s.lost()
}

// lost is what remains when neither side ended the stream: the carrier did.
func (s *Stream) lost() error {
	if err := s.carrier.Err(); err != nil {
		return err
	}
	return syscall.ECONNRESET
}

// Write writes b, in frames of at most 64 KiB. It waits while the peer has 4 MiB unread.
func (s *Stream) Write(b []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	total := 0
	for {
		if s.ended.Load() {
			if err := s.writable(); err != nil {
				return total, err
			}
		}
		n, err := s.mux.Write(b[:min(len(b), maxFrame)])
		total += n
		b = b[n:]
		if err != nil {
			return total, s.writeError(err)
		}
		if len(b) == 0 {
			return total, nil
		}
	}
}

func (s *Stream) writable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.reset != nil:
		return s.reset
	case s.closed:
		return net.ErrClosed
	case s.shut, s.stopped:
		return syscall.EPIPE
	}
	return nil
}

func (s *Stream) writeError(err error) error {
	if ended := s.writable(); ended != nil {
		return ended
	}
	if errors.Is(err, yamux.ErrTimeout) {
		return os.ErrDeadlineExceeded
	}
	return s.lost()
}

// CloseWrite ends our direction: the peer reads io.EOF after all that was written.
func (s *Stream) CloseWrite() error {
	s.mu.Lock()
	shut := s.shut
	s.shut = true
	s.ended.Store(true)
	s.mu.Unlock()
	if shut {
		return nil
	}
	return s.mux.Close() // which is a half-close: yamux knows no other
}

// Close ends both directions. The peer still reads what was written, then io.EOF; its writes fail with EPIPE.
func (s *Stream) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	over := s.reset != nil
	s.ended.Store(true)
	s.mu.Unlock()
	err := s.CloseWrite()
	s.wake()
	s.carrier.forget(s.id)
	if !over && !s.finished.Load() {
		s.carrier.say(s.id, EndKind_END_KIND_STOP, 0)
	}
	return err
}

// Reset ends both directions at once. The peer's reads and writes fail with errno, and so do ours; what it has not
// read yet is lost. The stream needs no Close after it.
func (s *Stream) Reset(errno syscall.Errno) {
	s.mu.Lock()
	if s.closed || s.reset != nil {
		s.mu.Unlock()
		_ = s.Close()
		return
	}
	s.closed, s.waiting = true, true
	s.reset = errno
	s.ended.Store(true)
	s.mu.Unlock()
	s.wake()
	s.carrier.say(s.id, EndKind_END_KIND_RESET, errno)
}

// resetSeen lets a stream go that we have reset. Our FIN waited for this, so that it could not overtake the reset.
func (s *Stream) resetSeen() {
	s.mu.Lock()
	waiting := s.waiting
	s.waiting = false
	s.mu.Unlock()
	if waiting {
		_ = s.CloseWrite()
		s.carrier.forget(s.id)
	}
}

func (s *Stream) resetByPeer(errno syscall.Errno) {
	if errno == 0 {
		errno = syscall.ECONNRESET
	}
	s.mu.Lock()
	if s.reset == nil {
		s.reset = errno
	}
	s.ended.Store(true)
	attached := s.mux != nil
	s.mu.Unlock()
	if attached {
		s.concede()
	}
}

// concede answers a reset.
func (s *Stream) concede() {
	s.wake()
	s.carrier.say(s.id, EndKind_END_KIND_RESET_SEEN, 0)
	s.mu.Lock()
	waiting := s.waiting // both sides reset: ours is still to be answered
	s.mu.Unlock()
	if !waiting {
		_ = s.CloseWrite()
	}
}

// stop notes that the peer reads no more, and wakes whoever writes.
func (s *Stream) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	s.ended.Store(true)
	if s.mux != nil {
		_ = s.mux.SetWriteDeadline(past)
	}
}

// wake makes pending reads and writes look at the state again.
func (s *Stream) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.mux.SetDeadline(past)
}

var past = time.Unix(1, 0)

// SetDeadline is that of net.Conn.
func (s *Stream) SetDeadline(t time.Time) error {
	_ = s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// SetReadDeadline is that of net.Conn.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.reset != nil {
		return net.ErrClosed
	}
	return s.mux.SetReadDeadline(t)
}

// SetWriteDeadline is that of net.Conn.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.reset != nil {
		return net.ErrClosed
	}
	if s.stopped {
		return nil
	}
	return s.mux.SetWriteDeadline(t)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
