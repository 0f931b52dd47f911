package h2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// Preface is what an HTTP/2 client says first (RFC 9113 section 3.4).
const Preface = http2.ClientPreface

const (
	headerLen = 9 // of a frame
	// plainFrame is the frame size that everybody must take (RFC 9113 section 4.2).
	plainFrame = 16 << 10

	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// A header is that of a frame.
type header struct {
	length int
	kind   http2.FrameType
	flags  byte
	stream uint32
}

// readHeader reads the header at the start of b, which has nine bytes.
func readHeader(b []byte) header {
	return header{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   http2.FrameType(b[3]),
		flags:  b[4],
		stream: binary.BigEndian.Uint32(b[5:]) &^ (1 << 31),
	}
}

func (h header) has(flag byte) bool { return h.flags&flag != 0 }

// whole reports whether b has the whole frame.
func (h header) whole(b []byte) bool { return len(b) >= headerLen+h.length }

func appendHeader(b []byte, h header) []byte {
	b = append(b, byte(h.length>>16), byte(h.length>>8), byte(h.length), byte(h.kind), h.flags)
	return binary.BigEndian.AppendUint32(b, h.stream)
}

func appendWindowUpdate(b []byte, stream uint32, n int64) []byte {
	b = appendHeader(b, header{4, http2.FrameWindowUpdate, 0, stream})
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

func appendReset(b []byte, stream uint32, code http2.ErrCode) []byte {
	b = appendHeader(b, header{4, http2.FrameRSTStream, 0, stream})
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

func appendGoAway(b []byte, last uint32, code http2.ErrCode, words string) []byte {
	b = appendHeader(b, header{8 + len(words), http2.FrameGoAway, 0, 0})
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return append(b, words...)
}

// appendData appends one frame of data.
func appendData(b []byte, stream uint32, data []byte, end bool) []byte {
	h := header{length: len(data), kind: http2.FrameData, stream: stream}
	if end {
		h.flags = flagEndStream
	}
	return append(appendHeader(b, h), data...)
}

// appendBlock appends a header block, in frames of at most size.
func appendBlock(b []byte, stream uint32, block []byte, size int, end bool, priority []byte) []byte {
	h := header{kind: http2.FrameHeaders, stream: stream}
	if end {
		h.flags |= flagEndStream
	}
	if priority != nil {
		h.flags |= flagPriority
	}
	for first := true; first || len(block) > 0; first = false {
		n := min(len(block), size-len(priority))
		h.length = n + len(priority)
		if n == len(block) {
			h.flags |= flagEndHeaders
		}
		b = append(append(appendHeader(b, h), priority...), block[:n]...)
		block, priority = block[n:], nil
		h.kind, h.flags = http2.FrameContinuation, 0
	}
	return b
}

// word reads the 31 bits that WINDOW_UPDATE, GOAWAY and PRIORITY begin with.
func word(b []byte) uint32 { return binary.BigEndian.Uint32(b) &^ (1 << 31) }

// unpad returns what of a payload is not padding, and false if the padding is longer than the frame.
func (h header) unpad(payload []byte) ([]byte, bool) {
	if !h.has(flagPadded) {
		return payload, true
	}
	if len(payload) == 0 || int(payload[0]) >= len(payload) {
		return nil, false
	}
	return payload[1 : len(payload)-int(payload[0])], true
}

// IsSettings reports whether b, the first that a server says, begins with a whole SETTINGS frame.
func IsSettings(b []byte) bool {
	if len(b) < headerLen {
		return false
	}
	h := readHeader(b)
	return h.kind == http2.FrameSettings && h.stream == 0 && h.flags == 0 && h.length%6 == 0 && h.length <= plainFrame && h.whole(b)
}
