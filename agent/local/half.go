package local

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

const (
	// maxWaiting is how many bytes wait in one direction of a pipe: as many as a socket usually takes.
	maxWaiting = 64 << 10
	// minWaiting is the room to begin with: a head and a small body.
	minWaiting = 4 << 10
)

// A half is one direction of a pipe.
type half struct {
	mu     sync.Mutex
	moved  sync.Cond // something below has changed
	buf    []byte
	first  int   // of the bytes that wait in buf
	end    error // for the reader, after the bytes
	broken error // for both, at once
	served bool  // net/http reads it: see Read
	read   limit
	write  limit
}

func newHalf() *half {
	h := new(half)
	h.moved.L = &h.mu
	return h
}

// Read waits for bytes. With room for one byte, net/http listens while it serves a request whether the client is still there, and gives
// the request up at the end of the bytes. But a client that has said all may close its side and wait, so this reader is not told of
// that. (It is woken by a deadline when the request has been served, and then reads with more room.)
func (h *half) Read(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		listens := h.served && len(b) == 1
		switch {
		case h.broken != nil:
			return 0, h.broken
		case h.read.passed():
			return 0, os.ErrDeadlineExceeded
		case h.first < len(h.buf):
			n := copy(b, h.buf[h.first:])
			if h.first += n; h.first == len(h.buf) {
				h.buf, h.first = h.buf[:0], 0
			}
			h.moved.Broadcast()
			return n, nil
		case h.end != nil && !(listens && errors.Is(h.end, io.EOF)):
			return 0, h.end
		case len(b) == 0:
			return 0, nil
		}
		h.moved.Wait()
	}
}

func (h *half) Write(b []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.broken != nil:
			return n, h.broken
		case h.end != nil:
			return n, io.ErrClosedPipe
		case h.write.passed():
			return n, os.ErrDeadlineExceeded
		}
		took := h.lockedTake(b[n:])
		n += took
		if took > 0 {
			h.moved.Broadcast()
		}
		if n == len(b) {
			return n, nil
		}
		h.moved.Wait()
	}
}

// lockedTake takes as much of b as there is room for.
func (h *half) lockedTake(b []byte) int {
	waiting := len(h.buf) - h.first
	if need := min(waiting+len(b), maxWaiting); need > cap(h.buf) || h.first > 0 && len(h.buf)+len(b) > cap(h.buf) {
		room := h.buf[:0]
		if need > cap(h.buf) {
			room = make([]byte, 0, max(need, min(2*cap(h.buf), maxWaiting), minWaiting))
		}
		h.buf, h.first = append(room, h.buf[h.first:]...), 0
	}
	n := min(len(b), maxWaiting-waiting)
	h.buf = append(h.buf, b[:n]...)
	return n
}

// finish ends the bytes with err. The first end counts.
func (h *half) finish(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.end == nil {
		h.end = err
	}
	h.moved.Broadcast()
}

// abort drops the bytes that wait; both sides get err. The first one counts.
func (h *half) abort(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken == nil {
		h.broken, h.buf, h.first = err, nil, 0
	}
	h.read.stop()
	h.write.stop()
	h.moved.Broadcast()
}

func (h *half) setLimit(l *limit, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l.stop()
	l.at = t
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		l.timer = time.AfterFunc(wait, h.wake)
	}
	h.moved.Broadcast()
}

func (h *half) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.moved.Broadcast()
}

// A limit is a deadline.
type limit struct {
	at    time.Time
	timer *time.Timer
}

func (l *limit) passed() bool { return !l.at.IsZero() && !time.Now().Before(l.at) }

func (l *limit) stop() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}
