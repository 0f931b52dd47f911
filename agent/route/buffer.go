package route

import "sync"

const (
	// smallBuffer holds the messages of an ordinary exchange in one read.
	smallBuffer = 16 << 10
	// largeBuffer is what a head or a request kept for a second try may take, and what bulk is moved in.
	largeBuffer = 64 << 10
)

// memory lends out the two sizes of buffers. Safe for concurrent use.
type memory struct{ small, large sync.Pool }

func (m *memory) get(large bool) []byte {
	if large {
		if p, ok := m.large.Get().(*[largeBuffer]byte); ok {
			return p[:]
		}
		return make([]byte, largeBuffer)
	}
	if p, ok := m.small.Get().(*[smallBuffer]byte); ok {
		return p[:]
	}
	return make([]byte, smallBuffer)
}

func (m *memory) put(b []byte) {
	switch len(b) {
	case smallBuffer:
		m.small.Put((*[smallBuffer]byte)(b))
	case largeBuffer:
		m.large.Put((*[largeBuffer]byte)(b))
	}
}

// A buffer is a window of bytes that were read and not yet discarded. It owns memory only while it holds bytes or is being
// read into, so that an idle connection costs none.
type buffer struct {
	memory *memory
	mem    []byte
	r, w   int
	bulk   bool // the last read filled all there was: take large memory next
}

func (b *buffer) len() int      { return b.w - b.r }
func (b *buffer) bytes() []byte { return b.mem[b.r:b.w] }

// full reports whether room would return nothing.
func (b *buffer) full() bool { return b.len() == largeBuffer }

// room returns free memory to read into, growing the buffer up to largeBuffer; nil when it is full.
func (b *buffer) room() []byte {
	switch {
	case b.mem == nil:
		b.mem = b.memory.get(b.bulk)
	case b.w == 0 && b.bulk && len(b.mem) == smallBuffer:
		b.memory.put(b.mem)
		b.mem = b.memory.get(true)
	case b.w < len(b.mem):
	case b.r > 0:
		b.w = copy(b.mem, b.bytes())
		b.r = 0
	case len(b.mem) == smallBuffer:
		large := b.memory.get(true)
		copy(large, b.mem)
		b.memory.put(b.mem)
		b.mem = large
	}
	if b.w == len(b.mem) {
		return nil
	}
	return b.mem[b.w:]
}

// grew notes that n bytes were read into room().
func (b *buffer) grew(n int) {
	b.w += n
	b.bulk = n >= smallBuffer || (n > 0 && b.w == len(b.mem))
}

// discard forgets the first n bytes. The memory stays for the next read, which releases it if there is nothing to read.
func (b *buffer) discard(n int) {
	if b.r += n; b.r == b.w {
		b.r, b.w = 0, 0
	}
}

// cut forgets the bytes from one place up to another.
func (b *buffer) cut(from, to int) {
	copy(b.mem[b.r+from:], b.mem[b.r+to:b.w])
	b.w -= to - from
	b.discard(0)
}

// release gives the memory back if it holds nothing.
func (b *buffer) release() {
	if b.mem == nil || b.r != b.w {
		return
	}
	b.memory.put(b.mem)
	b.mem, b.r, b.w = nil, 0, 0
}

// free gives the memory back with all that it holds.
func (b *buffer) free() {
	b.discard(b.len())
	b.release()
}
