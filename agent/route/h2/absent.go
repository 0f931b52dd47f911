package h2

import (
	"sync"
	"syscall"

	"golang.org/x/net/http2"
)

// An Absent stands in for an original that cannot be reached, so that sessions can have their requests. It says what servers must
// say. Whoever asks for anything else is refused: as by the kernel, with a reset of the connection, unless sessions are at work on it.
type Absent struct {
	mu     sync.Mutex
	change sync.Cond
	says   []byte // and nobody has read
	err    error
	busy   func() bool

	said  []byte // by the client, part of a frame's header
	skip  int    // bytes of the client that mean nothing
	heard []byte // being read
}

// NewAbsent returns the stand-in. Use makes it known to the relay.
func NewAbsent() *Absent {
	a := &Absent{skip: len(Preface), says: appendHeader(nil, header{0, http2.FrameSettings, 0, 0})}
	a.change.L = &a.mu
	return a
}

// Use tells the stand-in for whom it works.
func (a *Absent) Use(r *Relay) {
	a.busy = func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.stolen > 0
	}
}

// Write hears the client.
func (a *Absent) Write(b []byte) (int, error) {
	busy := a.busy()
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.change.Broadcast()
	for n := len(b); ; {
		k := min(a.skip, len(b))
		a.skip -= k
		b = b[k:]
		k = min(headerLen-len(a.said), len(b))
		a.said = append(a.said, b[:k]...)
		b = b[k:]
		if len(a.said) < headerLen || a.err != nil {
			return n, a.err
		}
		h := readHeader(a.said)
		if h.kind == http2.FramePing && len(b) < h.length && len(b) < 8 {
			// The ping comes in one piece, or it is none.
			a.err = syscall.ECONNREFUSED
		}
		a.said, a.skip = a.said[:0], h.length
		a.lockedHear(h, b, busy)
	}
}

func (a *Absent) lockedHear(h header, payload []byte, busy bool) {
	switch {
	case h.kind == http2.FrameSettings && !h.has(flagAck):
		a.says = appendHeader(a.says, header{0, http2.FrameSettings, flagAck, 0})
	case h.kind == http2.FramePing && !h.has(flagAck) && h.length == 8 && len(payload) >= 8:
		a.says = append(appendHeader(a.says, header{8, http2.FramePing, flagAck, 0}), payload[:8]...)
	case h.kind == http2.FrameData && h.length > 0:
		a.says = appendWindowUpdate(a.says, 0, int64(h.length))
	case h.kind == http2.FrameHeaders && !busy:
		a.err = syscall.ECONNREFUSED
	case h.kind == http2.FrameHeaders:
		a.says = appendReset(a.says, h.stream, http2.ErrCodeRefusedStream)
	}
	if len(a.says) > maxWaiting {
		a.err = syscall.ECONNREFUSED
	}
}

// Fill waits for something to say.
func (a *Absent) Fill() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.says) == 0 && a.err == nil {
		a.change.Wait()
	}
	n := min(len(a.says), maxBlock-len(a.heard))
	a.heard = append(a.heard, a.says[:n]...)
	a.says = a.says[n:]
	if n > 0 {
		return nil
	}
	return a.err
}

// Bytes returns what was said and not discarded.
func (a *Absent) Bytes() []byte { return a.heard }

// Discard forgets the first n bytes of it.
func (a *Absent) Discard(n int) { a.heard = a.heard[:copy(a.heard, a.heard[n:])] }

// CloseWrite is the client's end: a server would go too.
func (a *Absent) CloseWrite() { _ = a.Close() }

// Reset ends it.
func (a *Absent) Reset() { _ = a.Close() }

// Close ends it.
func (a *Absent) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		a.err = syscall.ECONNREFUSED
	}
	a.change.Broadcast()
	return nil
}

// Leave ends it if no session was asked for anything yet.
func (a *Absent) Leave(r *Relay) {
	if !r.isRewritten() {
		_ = a.Close()
	}
}
