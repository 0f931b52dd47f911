package route

const (
	// maxChunkLine bounds the line of a chunk's size with its extensions.
	maxChunkLine = 4 << 10
	// maxTrailer bounds all trailer fields of a body together.
	maxTrailer = 64 << 10
	// maxSizeDigits keeps a chunk's size far from overflow.
	maxSizeDigits = 15
)

type bodyKind uint8

const (
	noBody bodyKind = iota
	lengthBody
	chunkedBody
	endlessBody // ends with the connection
)

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkExt
	chunkLF // of the size line
	chunkData
	chunkDataCR
	chunkDataLF
	trailerStart
	trailerName
	trailerValue
	trailerLF
	chunkedLF // the last one
)

// A body follows the bytes of a message's body to its end. The zero value is a body without bytes.
type body struct {
	kind  bodyKind
	state chunkState
	line  int   // digits of a size, then bytes of its line; bytes of the trailer
	left  int64 // bytes of the body or of the chunk
}

// open reports whether more bytes belong to the body.
func (b *body) open() bool { return b.kind != noBody }

// feed takes the bytes of p that belong to the body and returns how many. It reports false at a byte that two parsers could
// read differently, which is then not counted.
func (b *body) feed(p []byte) (int, bool) {
	switch b.kind {
	case noBody:
		return 0, true
	case endlessBody:
		return len(p), true
	case lengthBody:
		n := b.skip(p)
		if b.left == 0 {
			b.kind = noBody
		}
		return n, true
	}
	return b.feedChunks(p)
}

func (b *body) skip(p []byte) int {
	n := int(min(int64(len(p)), b.left))
	b.left -= int64(n)
	return n
}

func (b *body) feedChunks(p []byte) (int, bool) {
	for i := 0; i < len(p); {
		if b.state == chunkData {
			i += b.skip(p[i:])
			if b.left == 0 {
				b.state = chunkDataCR
			}
			continue
		}
		if !b.step(p[i]) {
			return i, false
		}
		i++
		if b.kind == noBody {
			return i, true
		}
	}
	return len(p), true
}

// step takes one byte of what surrounds the data (RFC 9112 section 7.1). Stricter than the grammar in one thing: no space
// after a size, which parsers skip or refuse as they like.
func (b *body) step(c byte) bool {
	switch b.state {
	case chunkSize:
		return b.size(c)
	case chunkExt:
		b.line++
		if c == '\r' {
			b.state = chunkLF
			return true
		}
		return (c >= ' ' && c != 0x7f || c == '\t') && b.line <= maxChunkLine
	case chunkLF:
		b.line = 0
		b.state = chunkData
		if b.left == 0 {
			b.state = trailerStart
		}
		return c == '\n'
	case chunkDataCR:
		b.state = chunkDataLF
		return c == '\r'
	case chunkDataLF:
		b.state = chunkSize
		return c == '\n'
	case chunkedLF:
		b.kind = noBody
		return c == '\n'
	}
	b.line++
	return b.trailer(c) && b.line <= maxTrailer
}

func (b *body) size(c byte) bool {
	digit := int64(hex(c))
	switch {
	case digit >= 0:
	case b.line == 0:
		return false
	case c == ';':
		b.state = chunkExt
		return true
	case c == '\r':
		b.state = chunkLF
		return true
	}
	b.left = b.left<<4 | digit
	b.line++
	return digit >= 0 && b.line <= maxSizeDigits
}

func (b *body) trailer(c byte) bool {
	switch b.state {
	case trailerStart:
		b.state = trailerName
		if c == '\r' {
			b.state = chunkedLF
			return true
		}
		return tokens[c]
	case trailerName:
		if c == ':' {
			b.state = trailerValue
			return true
		}
		return tokens[c]
	case trailerValue:
		if c == '\r' {
			b.state = trailerLF
			return true
		}
		return c >= ' ' && c != 0x7f || c == '\t'
	}
	b.state = trailerStart // after trailerLF
	return c == '\n'
}
