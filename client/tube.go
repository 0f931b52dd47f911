package client

import (
	"io"
	"sync"
)

const (
	// maxTube is what waits in one direction: a few records, so that neither side stops for each one of the other.
	maxTube = 64 << 10
	// idleTube is what an empty tube keeps: most connections wait most of the time.
	idleTube = 4 << 10
)

// A tube is bytes in memory, in one direction. One goroutine reads and one writes; anybody may end it.
type tube struct {
	mu     sync.Mutex
	change sync.Cond
	bytes  []byte
	read   int   // of them
	ended  bool  // no more are written
	err    error // both sides get it at once
}

func newTube() *tube {
	t := &tube{}
	t.change.L = &t.mu
	return t
}

// Read waits for bytes; io.EOF comes after the last.
func (t *tube) Read(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.read == len(t.bytes) && !t.ended && t.err == nil && len(b) > 0 {
		t.change.Wait()
	}
	switch {
	case t.err != nil:
		return 0, t.err
	case len(b) > 0 && t.read == len(t.bytes):
		return 0, io.EOF
	}
	n := copy(b, t.bytes[t.read:])
	if t.read += n; t.read == len(t.bytes) {
		t.read, t.bytes = 0, t.bytes[:0]
		if cap(t.bytes) > idleTube {
			t.bytes = nil
		}
	}
	t.change.Broadcast()
	return n, nil
}

// Write waits for room.
func (t *tube) Write(b []byte) (total int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		if t.err != nil {
			return total, t.err
		}
		if t.ended {
			return total, io.ErrClosedPipe
		}
		n := min(len(b), maxTube-len(t.bytes)+t.read)
		if n > 0 && t.read > 0 {
			t.bytes = t.bytes[:copy(t.bytes, t.bytes[t.read:])]
			t.read = 0
		}
		t.bytes = append(t.bytes, b[:n]...)
		total += n
		b = b[n:]
		t.change.Broadcast()
		if len(b) == 0 {
			return total, nil
		}
		t.change.Wait()
	}
}

// end says that nothing more is written.
func (t *tube) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	t.change.Broadcast()
}

// fail ends both sides. The first error stays.
func (t *tube) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
	t.change.Broadcast()
}
