package route

import (
	"bytes"
	"encoding/binary"
	"math"
)

// A verdict says how far bytes can be followed.
type verdict uint8

const (
	incomplete verdict = iota // more bytes are needed
	clean                     // complete, and every parser reads it alike
	foreign                   // not HTTP/1
	doubtful                  // HTTP/1, but two parsers could read it differently
	oversized                 // more than we are ready to hold
)

// What makes a head doubtful. These are the words for logs and tests.
const (
	bareLF         = "line feed without carriage return"
	controlByte    = "control byte"
	foldedLine     = "folded line"
	badName        = "field name is not a token"
	twoLengths     = "two content-length fields"
	badLength      = "content-length is not a plain number"
	twoEncodings   = "two transfer-encoding fields"
	badEncoding    = "transfer-encoding is not exactly chunked"
	oldEncoding    = "transfer-encoding in HTTP/1.0"
	lengthEncoding = "content-length with transfer-encoding"
	connectBody    = "CONNECT with a body"
)

// tokens marks the bytes of a token (RFC 9110 section 5.6.2).
var tokens = [256]bool{
	'!': true, '#': true, '$': true, '%': true, '&': true, '\'': true, '*': true, '+': true, '-': true, '.': true, '^': true, '_': true, '`': true,
	'|': true, '~': true,
	'0': true, '1': true, '2': true, '3': true, '4': true, '5': true, '6': true, '7': true, '8': true, '9': true,
	'a': true, 'b': true, 'c': true, 'd': true, 'e': true, 'f': true, 'g': true, 'h': true, 'i': true, 'j': true, 'k': true, 'l': true, 'm': true,
	'n': true, 'o': true, 'p': true, 'q': true, 'r': true, 's': true, 't': true, 'u': true, 'v': true, 'w': true, 'x': true, 'y': true, 'z': true,
	'A': true, 'B': true, 'C': true, 'D': true, 'E': true, 'F': true, 'G': true, 'H': true, 'I': true, 'J': true, 'K': true, 'L': true, 'M': true,
	'N': true, 'O': true, 'P': true, 'Q': true, 'R': true, 'S': true, 'T': true, 'U': true, 'V': true, 'W': true, 'X': true, 'Y': true, 'Z': true,
}

// nextLine finds the line that starts at from, searching its end from scan on. It returns the end of its text and the start of
// the next line; next is 0 when the line is not complete.
func nextLine(b []byte, from, scan int) (end, next int, reason string) {
	i := bytes.IndexByte(b[scan:], '\n')
	if i < 0 {
		return 0, 0, ""
	}
	i += scan
	if i == from || b[i-1] != '\r' {
		return 0, 0, bareLF
	}
	return i - 1, i + 1, ""
}

// plain reports whether b has no control byte other than the tab.
func plain(b []byte) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for len(b) >= 8 {
		w := binary.LittleEndian.Uint64(b)
		del := w ^ ones*0x7f
		if ((w-ones*0x20)&^w|(del-ones)&^del)&tops != 0 && !plainBytes(b[:8]) {
			return false
		}
		b = b[8:]
	}
	return plainBytes(b)
}

func plainBytes(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// A field is the place of a field line's name and value, as offsets into the head.
type field struct{ name, colon, value, end uint32 }

// framing is what the field lines of one head say about where its message ends and what becomes of the connection.
type framing struct {
	length                 int64 // of the body, when hasLength
	hasLength, hasEncoding bool
	chunked                bool
	close, keepAlive       bool
	upgrade                bool
	expects                bool // the client may wait to be told to send the body
	probe                  bool // the kubelet asks
}

// note reads the field line b[from:end] and keeps what it says. It returns a reason if the line can be read in two ways.
func (f *framing) note(b []byte, from, end int) (field, string) {
	i := from
	for i < end && tokens[b[i]] {
		i++
	}
	if i == from && (b[i] == ' ' || b[i] == '\t') {
		return field{}, foldedLine
	}
	if i == from || i == end || b[i] != ':' {
		return field{}, badName
	}
	v, e := i+1, end
	if !plain(b[v:e]) {
		return field{}, controlByte
	}
	for v < e && (b[v] == ' ' || b[v] == '\t') {
		v++
	}
	for v < e && (b[e-1] == ' ' || b[e-1] == '\t') {
		e--
	}
	// The kinds of space around a framing value must not matter either: only spaces are allowed there.
	reason := f.keep(b[from:i], b[v:e], b[i+1:end])
	return field{uint32(from), uint32(i), uint32(v), uint32(e)}, reason
}

// keep looks at the names that matter. Sorting by length first spares the others nearly all comparisons.
func (f *framing) keep(name, value, padded []byte) string {
	switch len(name) {
	case len("expect"):
		f.expects = f.expects || fold(name, "expect") && fold(value, "100-continue")
	case len("upgrade"):
		f.upgrade = f.upgrade || fold(name, "upgrade")
	case len("connection"):
		if fold(name, "connection") {
			f.tokens(value)
		} else if fold(name, "user-agent") {
			f.probe = f.probe || probes(value)
		}
	case len("content-length"):
		if fold(name, "content-length") {
			return f.keepLength(value, padded)
		}
	case len("transfer-encoding"):
		if fold(name, "transfer-encoding") {
			return f.keepEncoding(value, padded)
		}
	}
	return ""
}

// probes reports whether the User-Agent is the kubelet's when it probes.
func probes(agent []byte) bool {
	const kubelet = "kube-probe/"
	return len(agent) >= len(kubelet) && fold(agent[:len(kubelet)], kubelet)
}

func (f *framing) keepLength(value, padded []byte) string {
	if f.hasLength {
		return twoLengths
	}
	f.hasLength = true
	if f.hasEncoding {
		return lengthEncoding
	}
	var ok bool
	if f.length, ok = number(value); !ok || bytes.IndexByte(padded, '\t') >= 0 {
		return badLength
	}
	return ""
}

func (f *framing) keepEncoding(value, padded []byte) string {
	if f.hasEncoding {
		return twoEncodings
	}
	f.hasEncoding = true
	if f.hasLength {
		return lengthEncoding
	}
	if !fold(value, "chunked") || bytes.IndexByte(padded, '\t') >= 0 {
		return badEncoding
	}
	f.chunked = true
	return ""
}

// tokens reads a Connection field. "upgrade" there is of no use without an Upgrade field, which is what we go by.
func (f *framing) tokens(value []byte) {
	for len(value) > 0 {
		token, rest, _ := bytes.Cut(value, []byte{','})
		token = bytes.Trim(token, " \t")
		f.close = f.close || fold(token, "close")
		f.keepAlive = f.keepAlive || fold(token, "keep-alive")
		value = rest
	}
}

// number reads digits and nothing else.
func number(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return int64(n), n <= math.MaxInt64
}

// fold reports whether b is lower, which is in lower case, but for the case of ASCII letters.
func fold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i := range len(lower) {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
