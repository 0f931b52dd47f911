package local

import (
	"encoding/binary"
	"slices"
	"sync"
)

// Frames and error codes (RFC 9113 sections 6 and 7).
const (
	frameHead    = 9
	frameData    = 0
	frameHeaders = 1
	frameReset   = 3
	flagEnd      = 1 // END_STREAM, of DATA and HEADERS

	internalError = 2
	refusedStream = 7

	preface = len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
)

// frames is an end at which net/http serves HTTP/2. A handler there can but abort, which says INTERNAL_ERROR. We abort before
// an answer has begun only where the request may be asked of someone else, and that is called REFUSED_STREAM (section 8.7).
type frames struct {
	*end
	in, out follower

	mu       sync.Mutex
	answered map[uint32]struct{} // streams whose answer has begun, until they end
}

func newFrames(e *end) *frames {
	return &frames{end: e, in: follower{skip: preface}, answered: map[uint32]struct{}{}}
}

func (f *frames) Read(b []byte) (int, error) {
	n, err := f.end.Read(b)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.in.follow(b[:n], func(h head) {
		if h.kind == frameReset {
			delete(f.answered, h.stream)
		}
	}, nil)
	return n, err
}

func (f *frames) Write(b []byte) (int, error) {
	f.mu.Lock()
	theirs := b
	f.out.follow(b, f.lockedNote, func(h head, at int) {
		_, begun := f.answered[h.stream]
		delete(f.answered, h.stream)
		if begun || theirs[at] != internalError {
			return
		}
		if &b[0] == &theirs[0] {
			b = slices.Clone(theirs) // not ours to change
		}
		b[at] = refusedStream
	})
	f.mu.Unlock()
	return f.end.Write(b)
}

// lockedNote keeps the books of what net/http sends.
func (f *frames) lockedNote(h head) {
	switch {
	case (h.kind == frameData || h.kind == frameHeaders) && h.flags&flagEnd != 0:
		delete(f.answered, h.stream)
	case h.kind == frameHeaders:
		f.answered[h.stream] = struct{}{}
	}
}

// A follower reads the heads of frames as they pass, however they are cut.
type follower struct {
	skip int // bytes that are no frame
	raw  [frameHead]byte
	n    int // bytes in raw
	left int // of the payload
}

// A head is that of a frame.
type head struct {
	kind, flags byte
	stream      uint32
}

func (f *follower) head() head {
	return head{f.raw[3], f.raw[4], binary.BigEndian.Uint32(f.raw[5:]) &^ (1 << 31)}
}

// follow calls begun for each frame that begins in b, and reset for each RST_STREAM that ends there, with the place of its last byte.
func (f *follower) follow(b []byte, begun func(head), reset func(h head, at int)) {
	at := min(f.skip, len(b))
	f.skip -= at
	for at < len(b) {
		if f.n < frameHead {
			n := copy(f.raw[f.n:], b[at:])
			f.n, at = f.n+n, at+n
			if f.n < frameHead {
				return
			}
			f.left = int(f.raw[0])<<16 | int(f.raw[1])<<8 | int(f.raw[2])
			begun(f.head())
		}
		n := min(f.left, len(b)-at)
		f.left, at = f.left-n, at+n
		if f.left > 0 {
			return
		}
		if h := f.head(); n > 0 && h.kind == frameReset && reset != nil {
			reset(h, at-1)
		}
		f.n = 0
	}
}
