package h2

import (
	"io"
	"slices"
	"sync"

	"golang.org/x/net/http2"
)

// An outbox is the way to one peer for several goroutines. Those who read the other side write, and wait for it: that is the
// backpressure. Those who must not wait add, and a goroutine of the outbox writes for them. Frames do not break each other.
type outbox struct {
	to io.Writer

	mu      sync.Mutex
	change  sync.Cond
	added   []byte // whole frames, to go at the next border between frames
	spare   []byte
	busy    bool // somebody writes
	inside  bool // what was written last ends in the middle of a frame, or of a header block
	posted  bool // the goroutine for what was added runs
	closed  bool
	err     error
	shrunk  int // the size of the peer's table for header blocks that the next block has to name (RFC 7541 section 4.2); -1: none
	posting sync.WaitGroup
}

func newOutbox(to io.Writer) *outbox {
	o := &outbox{to: to, shrunk: -1}
	o.change.L = &o.mu
	return o
}

// write writes b after what was added before. inside says that b does not end at a border; then the same caller writes on.
func (o *outbox) write(b []byte, inside bool) error { return o.writeThen(b, inside, nil) }

// writeThen is a write with news for those who add: what they add before the call of news goes before b, what they add later after.
func (o *outbox) writeThen(b []byte, inside bool, news func()) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.busy {
		o.change.Wait()
	}
	o.busy = true
	if !o.inside { // else b goes on, or is nothing
		o.lockedFlush()
	}
	if news != nil {
		news()
		o.lockedName()
	}
	if len(b) > 0 {
		o.lockedWrite(b)
		o.inside = inside
	}
	if !o.inside {
		o.lockedFlush()
	}
	o.busy = false
	o.change.Broadcast()
	return o.err
}

func (o *outbox) lockedFlush() {
	for len(o.added) > 0 && o.err == nil {
		b := o.added
		o.added, o.spare = o.spare[:0], nil
		o.lockedWrite(b)
		if cap(b) <= keptMemory {
			o.spare = b
		}
	}
}

// lockedWrite gives the lock away while it writes; busy keeps others from doing so too.
func (o *outbox) lockedWrite(b []byte) {
	if o.err != nil {
		return
	}
	o.mu.Unlock()
	_, err := o.to.Write(b)
	o.mu.Lock()
	o.err = err
}

// add puts whole frames on their way and does not wait. They keep their order among each other.
func (o *outbox) add(frames func(b []byte) []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil || o.closed {
		return
	}
	o.added = frames(o.added)
	if !o.posted {
		o.posted = true
		o.posting.Add(1)
		go o.post()
	}
	if !o.busy {
		o.change.Broadcast()
	}
}

// lockedName puts the size of the table into the first block that was added and could not go before.
func (o *outbox) lockedName() {
	for pos := 0; o.shrunk >= 0 && pos < len(o.added); {
		h := readHeader(o.added[pos:])
		if h.kind == http2.FrameHeaders && h.length+len("size") < plainFrame {
			size := appendInteger(nil, 0x20, 5, uint64(o.shrunk))
			o.added = slices.Insert(o.added, pos+headerLen, size...)
			h.length += len(size)
			appendHeader(o.added[:pos], h)
			o.shrunk = -1
		}
		pos += headerLen + h.length
	}
}

// addBlock adds the header block of an answer that was encoded without a table.
func (o *outbox) addBlock(stream uint32, block []byte, end bool) {
	o.add(func(b []byte) []byte {
		if o.shrunk >= 0 {
			block = append(appendInteger(nil, 0x20, 5, uint64(o.shrunk)), block...)
			o.shrunk = -1
		}
		return appendBlock(b, stream, block, plainFrame, end, nil)
	})
}

// waiting returns how many bytes were added that nobody could write yet.
func (o *outbox) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.added)
}

// isInside reports whether nothing can be added before what is under way goes on.
func (o *outbox) isInside() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.inside
}

// post writes what was added while nobody else writes.
func (o *outbox) post() {
	defer o.posting.Done()
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.closed && o.err == nil {
		if o.busy || o.inside || len(o.added) == 0 {
			o.change.Wait()
			continue
		}
		o.busy = true
		o.lockedFlush()
		o.busy = false
		o.change.Broadcast()
	}
}

// close ends the goroutine, once what it writes fails or is written.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	o.change.Broadcast()
	o.mu.Unlock()
	o.posting.Wait()
}
