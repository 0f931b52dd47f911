package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
)

// ttrpc's header: length (4 bytes), stream (4), type, flags.
const callHeader = 10

// direction is the type of the only frames that may come from a peer: there are unary calls only.
type direction byte

const (
	requests direction = 1
	answers  direction = 2
)

// A guard stands between ttrpc and its stream. ttrpc would take memory for 4 MiB on a peer's word, run any number of
// calls, and panic on a data frame for a unary call; none of that gets past.
type guard struct {
	*Stream
	want direction
	over chan struct{} // closed by Close

	in, out callFrames

	mu      sync.Mutex
	change  sync.Cond // of what follows
	running int       // calls, on the side that answers
	closed  bool
	why     error // the stream ended
}

func newGuard(s *Stream, want direction) *guard {
	g := &guard{Stream: s, want: want, over: make(chan struct{})}
	g.change.L = &g.mu
	return g
}

// Read returns no byte of a frame that is not in order, and waits while too many calls run.
func (g *guard) Read(b []byte) (int, error) {
	g.waitForRoom()
	n, err := g.Stream.Read(b)
	if err == nil {
		err = g.in.scan(b[:n], g.admit)
	}
	if err != nil {
		return 0, g.fail(err)
	}
	return n, nil
}

// waitForRoom may let a few calls more than the limit through: those that came in one piece.
func (g *guard) waitForRoom() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.running >= maxCalls && !g.closed {
		g.change.Wait()
	}
}

// admit checks a header.
func (g *guard) admit(size uint32, kind direction) error {
	limit := uint32(maxAnswer)
	if g.want == requests {
		limit = maxRequest
		g.count(1)
	}
	if kind != g.want || size > limit {
		g.Reset(syscall.EPROTO)
		return &Error{Errno: syscall.EPROTO, Cause: fmt.Sprintf("read call: frame of type %d with %d bytes", kind, size)}
	}
	return nil
}

func (g *guard) count(calls int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running += calls
	g.change.Broadcast()
}

// Write counts the answers that leave: there is one to each request.
func (g *guard) Write(b []byte) (int, error) {
	if g.want == requests {
		_ = g.out.scan(b, func(uint32, direction) error { g.count(-1); return nil })
	}
	return g.Stream.Write(b)
}

// fail keeps why the stream ended, and returns it in the one form that makes ttrpc give up.
func (g *guard) fail(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.why == nil {
		g.why = err
	}
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
}

func (g *guard) reason() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.why
}

// Close closes the stream.
func (g *guard) Close() error {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		close(g.over)
		g.change.Broadcast()
	}
	g.mu.Unlock()
	return g.Stream.Close()
}

// callFrames follows a sequence of ttrpc frames, cut anywhere.
type callFrames struct{ splitter }

func (f *callFrames) scan(b []byte, frame func(size uint32, kind direction) error) error {
	return f.splitter.scan(b, callHeader, func(header []byte) (uint32, error) {
		size := binary.BigEndian.Uint32(header)
		return size, frame(size, direction(header[8]))
	})
}
