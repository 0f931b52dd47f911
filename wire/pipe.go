package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// maxUnsent bounds the bytes that wait for the pipe; then yamux waits too. A few frames, so that one write of the
// pipe carries many small ones.
const maxUnsent = 4 * maxFrame

// A pipe is the byte pipe under yamux. It says and hears the preamble, gathers small writes into large ones, and
// watches the frames that come for what yamux does not tell: which streams begin and which end cleanly.
type pipe struct {
	conn  io.ReadWriteCloser
	us    role
	limit time.Duration // for the peer's preamble
	frame func(id uint32, flags uint16) error

	// Only the reader touches these.
	greeted bool
	frames  frames

	heard atomic.Int64 // time.Since(began) of the last byte
	began time.Time

	mu     sync.Mutex
	more   sync.Cond // unsent is not empty any more, or cause is set
	less   sync.Cond // unsent was written
	unsent []byte
	spare  []byte
	busy   bool  // a write of the pipe is under way
	known  bool  // the peer has said who it is
	cut    error // why nothing can be written; the pipe is over once the peer is known
	cause  error // why the pipe is over
}

func newPipe(conn io.ReadWriteCloser, us role, limit time.Duration, frame func(uint32, uint16) error) *pipe {
	p := &pipe{conn: conn, us: us, limit: limit, frame: frame, began: time.Now(), unsent: preamble()}
	p.more.L, p.less.L = &p.mu, &p.mu
	return p
}

// silentFor returns how long no byte came.
func (p *pipe) silentFor() time.Duration {
	return time.Since(p.began) - time.Duration(p.heard.Load())
}

// Read is called by yamux's one reader.
func (p *pipe) Read(b []byte) (int, error) {
	if !p.greeted {
		if err := p.greet(); err != nil {
			p.fail(err)
			return 0, err
		}
		p.greeted = true
		if err := p.met(); err != nil {
			p.fail(err)
			return 0, err
		}
	}
	n, err := p.conn.Read(b)
	if n > 0 {
		p.heard.Store(int64(time.Since(p.began)))
		if bad := p.frames.scan(b[:n], p.frame); bad != nil {
			p.fail(bad)
			return 0, bad
		}
	}
	if err != nil {
		p.fail(p.lost(err))
	}
	return n, err
}

func (p *pipe) greet() error {
	silent := &Error{Errno: syscall.ETIMEDOUT, Cause: fmt.Sprintf("%s silent for %v", p.us.peer, p.limit)}
	timer := time.AfterFunc(p.limit, func() { p.fail(silent) })
	defer timer.Stop()
	return readPreamble(p.conn, p.us)
}

// met notes that the peer is known, and returns what was in the way of writing meanwhile.
func (p *pipe) met() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = true
	return p.cut
}

// unwritable ends the pipe, but not before the peer has said who it is: one that is no Magpie may say so and close
// while we are still speaking.
func (p *pipe) unwritable(cause error) {
	p.mu.Lock()
	p.cut = cause
	known := p.known
	p.mu.Unlock()
	if known {
		p.fail(cause)
	}
}

func (p *pipe) lost(err error) error {
	if errors.Is(err, io.EOF) {
		return &Error{Errno: syscall.ECONNRESET, Cause: p.us.peer + " closed the carrier"}
	}
	if told := (*Error)(nil); errors.As(err, &told) {
		return told // by what the pipe is made of, which knows best
	}
	return &Error{Errno: syscall.ECONNRESET, Cause: fmt.Sprintf("carrier to %s: %v", p.us.peer, err)}
}

// Write is called by yamux's one writer. It returns before the bytes are sent.
func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.unsent) >= maxUnsent && p.cause == nil {
		p.less.Wait()
	}
	if p.cause != nil {
		return 0, p.cause
	}
	p.unsent = append(p.unsent, b...)
	p.more.Signal()
	return len(b), nil
}

// send writes what was gathered, until the pipe is over.
func (p *pipe) send() {
	for {
		b, ok := p.next()
		if !ok {
			return
		}
		if _, err := p.conn.Write(b); err != nil {
			p.unwritable(p.lost(err))
			return
		}
	}
}

// next waits for unsent bytes and takes them all.
func (p *pipe) next() ([]byte, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = false
	p.less.Broadcast()
	for len(p.unsent) == 0 && p.cause == nil {
		p.more.Wait()
	}
	if p.cause != nil {
		return nil, false
	}
	b := p.unsent
	p.unsent, p.spare = p.spare[:0], b
	p.busy = true
	return b, true
}

// flush waits until all was handed to the pipe, but not longer than limit.
func (p *pipe) flush(limit time.Duration) {
	timer := time.AfterFunc(limit, func() { p.fail(&Error{Errno: syscall.ECONNRESET, Cause: "carrier closed"}) })
	defer timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for (len(p.unsent) > 0 || p.busy) && p.cause == nil {
		p.less.Wait()
	}
}

// fail ends the pipe for a reason. The first one counts.
func (p *pipe) fail(cause error) {
	p.mu.Lock()
	if p.cause == nil {
		p.cause = cause
	}
	p.more.Broadcast()
	p.less.Broadcast()
	p.mu.Unlock()
	p.conn.Close()
}

// Close is for yamux, which has no reason to offer that would beat ours.
func (p *pipe) Close() error {
	p.fail(&Error{Errno: syscall.ECONNRESET, Cause: "carrier closed"})
	return nil
}

func (p *pipe) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cause
}

// What we read of yamux's frames: version, type, flags (2 bytes), stream (4), length (4). Only type 0 has a body.
const (
	frameHeader = 12
	frameData   = 0
	frameWindow = 1
	flagSYN     = 1
	flagFIN     = 4
)

// frames follows a sequence of yamux frames, cut anywhere.
type frames struct{ splitter }

// scan calls frame for each frame that begins or ends a stream.
func (f *frames) scan(b []byte, frame func(id uint32, flags uint16) error) error {
	return f.splitter.scan(b, frameHeader, func(header []byte) (body uint32, err error) {
		kind, flags := header[1], binary.BigEndian.Uint16(header[2:])
		if kind == frameData {
			body = binary.BigEndian.Uint32(header[8:])
		}
		if kind <= frameWindow && flags&(flagSYN|flagFIN) != 0 {
			err = frame(binary.BigEndian.Uint32(header[4:]), flags)
		}
		return body, err
	})
}
