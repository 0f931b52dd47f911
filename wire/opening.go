package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

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
