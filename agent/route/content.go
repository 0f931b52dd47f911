package route

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
)

// maxInflated bounds what a body may become when it is inflated for a filter. It is as much as may come without.
const maxInflated = maxHeld

// unchunk returns the data of a chunked body that was followed to its end.
func unchunk(p []byte) []byte {
	data := make([]byte, 0, len(p))
	for {
		size := 0
		for i := 0; hex(p[i]) >= 0; i++ {
			size = size<<4 | hex(p[i])
		}
		p = p[bytes.IndexByte(p, '\n')+1:]
		if size == 0 {
			return data
		}
		data = append(data, p[:size]...)
		p = p[size+len("\r\n"):]
	}
}

// hex returns the value of a hexadecimal digit, or -1.
func hex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// inflate undoes a content coding (RFC 9110 section 8.4.1). It reports false for one that it does not know, for a body that does
// not fit it, and for one that becomes too long.
func inflate(p, coding []byte) ([]byte, bool) {
	var r io.Reader
	var err error
	switch {
	case len(coding) == 0 || fold(coding, "identity"):
		return p, true
	case fold(coding, "gzip"), fold(coding, "x-gzip"):
		r, err = gzip.NewReader(bytes.NewReader(p))
	case fold(coding, "deflate"):
		r, err = zlib.NewReader(bytes.NewReader(p))
	default:
		return nil, false
	}
	if err != nil {
		return nil, false
	}
	out, err := io.ReadAll(io.LimitReader(r, maxInflated+1))
	return out, err == nil && len(out) <= maxInflated
}
