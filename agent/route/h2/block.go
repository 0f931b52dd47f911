package h2

import (
	"errors"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/magpie-k8s/magpie/filters"
)

var errTooMuch = errors.New("header block is too large")

// blocks decodes the client's header blocks. It must see all of them: each builds on those before.
type blocks struct {
	decoder *hpack.Decoder
	fields  []hpack.HeaderField // of the last block
	size    int
	tooMuch bool
	scan    int // how much of an incomplete block was looked at

	match filters.Request
	bytes []byte // of match
}

func (k *blocks) init() {
	k.decoder = hpack.NewDecoder(plainTable, k.keep)
}

func (k *blocks) keep(f hpack.HeaderField) {
	k.size += int(f.Size())
	if len(k.fields) == maxFields || k.size > maxList {
		k.tooMuch = true
		k.decoder.SetEmitEnabled(false)
		return
	}
	k.fields = append(k.fields, f)
}

// extent returns the length of the frames of the block that starts at b, 0 if it is not complete.
func (k *blocks) extent(b []byte) (int, error) {
	first := readHeader(b)
	for pos := k.scan; ; {
		if len(b)-pos < headerLen {
			return 0, k.incomplete(b, pos)
		}
		h := readHeader(b[pos:])
		if h.stream != first.stream || pos > 0 && h.kind != http2.FrameContinuation {
			return 0, http2.ConnectionError(http2.ErrCodeProtocol)
		}
		if !h.whole(b[pos:]) {
			return 0, k.incomplete(b, pos)
		}
		pos += headerLen + h.length
		if h.has(flagEndHeaders) {
			k.scan = 0
			return pos, nil
		}
		k.scan = pos
	}
}

func (k *blocks) incomplete(b []byte, pos int) error {
	need := headerLen
	if len(b)-pos >= headerLen {
		need += readHeader(b[pos:]).length
	}
	if pos+need > maxBlock {
		return errTooMuch
	}
	return nil
}

// decode decodes the complete block of frames b, whose table may be as large as that. The fields stay until the next call.
func (k *blocks) decode(b []byte, table uint32) error {
	k.decoder.SetAllowedMaxDynamicTableSize(table)
	k.fields, k.size, k.tooMuch = k.fields[:0], 0, false
	k.decoder.SetEmitEnabled(true)
	for first := true; len(b) > 0; first = false {
		h := readHeader(b)
		fragment := b[headerLen : headerLen+h.length]
		b = b[headerLen+h.length:]
		if first {
			var ok bool
			if fragment, _, ok = h.fragment(fragment); !ok {
				return http2.ConnectionError(http2.ErrCodeProtocol)
			}
		}
		if _, err := k.decoder.Write(fragment); err != nil {
			return http2.ConnectionError(http2.ErrCodeCompression)
		}
	}
	if err := k.decoder.Close(); err != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	if k.tooMuch {
		return errTooMuch
	}
	return nil
}

// fragment returns what of the payload of a HEADERS frame belongs to its block, and its priority if it has one.
func (h header) fragment(payload []byte) (fragment, priority []byte, ok bool) {
	fragment, ok = h.unpad(payload)
	if !ok || !h.has(flagPriority) {
		return fragment, nil, ok
	}
	const size = 5
	if len(fragment) < size {
		return nil, nil, false
	}
	return fragment[size:], fragment[:size], true
}

// request returns the fields as filters see them; nil if no server could make a request of them.
func (k *blocks) request() *filters.Request { return k.requestOf(k.fields) }

func (k *blocks) requestOf(fields []hpack.HeaderField) *filters.Request {
	m := &k.match
	if cap(k.bytes) > keptMemory {
		k.bytes = nil
	}
	*m = filters.Request{Fields: m.Fields[:0]}
	k.bytes = k.bytes[:0]
	var authority []byte
	regular := false
	var cookies []byte
	for i := range fields {
		f := &fields[i]
		if !f.IsPseudo() {
			if !isName(f.Name) || !isValue(f.Value) {
				return nil
			}
			regular = true
			if f.Name == "cookie" {
				cookies = joined(cookies, f.Value)
				continue
			}
			m.Fields = append(m.Fields, filters.Field{Name: k.hold(f.Name), Value: k.hold(strings.Trim(f.Value, " \t"))})
			continue
		}
		if regular || !isValue(f.Value) {
			return nil
		}
		switch f.Name {
		case ":method":
			m.Method = k.hold(f.Value)
		case ":path":
			m.Path = k.hold(f.Value)
		case ":authority":
			authority = k.hold(f.Value)
			m.Fields = append(m.Fields, filters.Field{Name: hostName, Value: authority})
		}
	}
	if cookies != nil {
		m.Fields = append(m.Fields, filters.Field{Name: cookieName, Value: cookies})
	}
	if m.Path == nil && string(m.Method) == "CONNECT" {
		m.Path = authority
	}
	if len(m.Method) == 0 || m.Path == nil || !isPath(m.Path) {
		return nil
	}
	return m
}

var hostName, cookieName = []byte("host"), []byte("cookie")

// joined puts the crumbs of a cookie together (RFC 9113 section 8.2.3).
func joined(cookies []byte, crumb string) []byte {
	if cookies != nil {
		cookies = append(cookies, "; "...)
	}
	return append(cookies, crumb...)
}

// hold copies s into memory that is used again with the next block.
func (k *blocks) hold(s string) []byte {
	n := len(k.bytes)
	k.bytes = append(k.bytes, s...)
	return k.bytes[n:len(k.bytes):len(k.bytes)]
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || c == ':' || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return s != ""
}

func isValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func isPath(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c == 0x7f {
			return false
		}
	}
	return true
}
