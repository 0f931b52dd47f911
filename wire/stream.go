package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
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

// LocalAddr of an incoming stream is what the client dialled. Of a connect stream it is the address of the socket
// beside the target, known once the stream is opened.
func (s *Stream) LocalAddr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.local
}

// RemoteAddr of an incoming stream is the client, of a connect stream what was to be connected to.
func (s *Stream) RemoteAddr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remote
}

// SetAddrs sets what LocalAddr and RemoteAddr return; nil leaves one as it is.
func (s *Stream) SetAddrs(local, remote net.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if local != nil {
		s.local = local
	}
	if remote != nil {
		s.remote = remote
	}
}

// about takes the addresses from what the stream is for.
func (s *Stream) about(what *Open) {
	switch w := what.What.(type) {
	case *Open_Connect:
		s.SetAddrs(nil, netAddr(w.Connect.Network, w.Connect.To))
	case *Open_Incoming:
		local, client := w.Incoming.Local, w.Incoming.Client
		if s.opened() { // from our side: we are the client, so to speak
			local, client = client, local
		}
		s.SetAddrs(netAddr(Network_NETWORK_TCP, local), netAddr(Network_NETWORK_TCP, client))
	}
}

// opened reports whether we opened the stream.
func (s *Stream) opened() bool { return s.id%2 == s.carrier.first%2 }

// netAddr returns nil for an address that is none.
func netAddr(network Network, a *Address) net.Addr {
	ap, err := a.AddrPort()
	if err != nil {
		return nil
	}
	if network == Network_NETWORK_UDP {
		return net.UDPAddrFromAddrPort(ap)
	}
	return net.TCPAddrFromAddrPort(ap)
}

// streamAddr stands for an address until a stream has one.
type streamAddr uint32

func (streamAddr) Network() string  { return "magpie" }
func (a streamAddr) String() string { return fmt.Sprintf("stream-%d", uint32(a)) }

// The two sides of opening: Opening, Accepted and Refuse where the stream was accepted, Opened where it was opened.

// Opening returns what the peer opened the stream for. It waits at most 10 s. On an error the stream was refused and
// closed.
func (s *Stream) Opening() (*Open, error) {
	_ = s.SetReadDeadline(time.Now().Add(s.carrier.limits.open))
	var what Open
	err := readMessage(readerFunc(s.read), &what)
	if err == nil && what.What == nil {
		err = &Error{Errno: syscall.EPROTO, Cause: "read Open: not a kind of stream that this " + s.carrier.us.we + " knows"}
	}
	if err != nil {
		_ = s.Refuse(err)
		return nil, err
	}
	_ = s.SetReadDeadline(time.Time{})
	s.about(&what)
	return &what, nil
}

// Accepted tells the peer that the stream is open; local is the address of a connect stream's socket, else zero.
// Nothing may be written before it.
func (s *Stream) Accepted(local netip.AddrPort) error {
	return s.respond(&Opened{Local: AddressOf(local)})
}

// Refuse tells the peer why the stream does not open, with errno and hint, and closes it. After Accepted it is too late
// for words: the stream is reset with the errno.
func (s *Stream) Refuse(why error) error {
	err := s.respond(&Opened{Failure: failure(why)})
	if errors.Is(err, errResponded) {
		s.Reset(AsError(why).Errno)
		return err
	}
	return errors.Join(err, s.Close())
}

// errResponded keeps a second Opened off a stream: the peer would take it for bytes of the conversation.
var errResponded = errors.New("the stream was answered before")

func (s *Stream) respond(o *Opened) error {
	if s.responded.Swap(true) {
		return errResponded
	}
	message, err := appendMessage(nil, o)
	if err != nil {
		return err
	}
	_, err = s.Write(message)
	return err
}

// answer is the Opened of a stream that we opened.
type answer struct {
	known atomic.Bool // and there is no failure: the fast path of each Read

	mu      sync.Mutex // held while the one reader reads it
	partial []byte
	failure error
}

// Opened waits for the answer to an Open and returns its failure. When ctx ends first the stream is reset.
func (s *Stream) Opened(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.Reset(syscall.ECANCELED) })
	err := s.answered()
	if !stop() && err != nil {
		return ctx.Err()
	}
	return err
}

// answered reads the answer unless it is known or not for us to wait for.
func (s *Stream) answered() error {
	if s.answer.known.Load() || !s.opened() {
		return nil
	}
	s.answer.mu.Lock()
	defer s.answer.mu.Unlock()
	if s.answer.failure != nil || s.answer.known.Load() {
		return s.answer.failure
	}
	var o Opened
	err := readResumably(readerFunc(s.read), &s.answer.partial, &o)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err // the next Read goes on where this one stopped
	}
	if err == nil {
		err = o.Failure.asError()
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = &Error{Errno: syscall.ECONNRESET, Cause: s.carrier.us.peer + " closed the stream without an answer"}
		}
		s.answer.failure = err
		return err
	}
	if a := netAddr(s.network(), o.Local); a != nil {
		s.SetAddrs(a, nil)
	}
	s.answer.known.Store(true)
	return nil
}

func (s *Stream) network() Network {
	if _, ok := s.RemoteAddr().(*net.UDPAddr); ok {
		return Network_NETWORK_UDP
	}
	return Network_NETWORK_TCP
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
