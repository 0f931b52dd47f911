package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
)

// A chunk is some of the bytes of a bond, and its place among them.
type chunk struct {
	number uint64
	data   []byte
}

// chunkHeader is the number (6 bytes) and the size (2 bytes) before a chunk's bytes. With the size 0 it is an
// acknowledgement: the number is what came on this pipe so far, as chunks count.
const chunkHeader = 8

func appendChunkHeader(b []byte, number uint64, size int) []byte {
	return binary.BigEndian.AppendUint64(b, number<<16|uint64(size))
}

// counts is how much of a window a chunk of that size takes.
func counts(size int) uint64 { return uint64(size + chunkExtra) }

// A bondPipe is one pipe of a bond.
type bondPipe struct {
	conn io.ReadWriteCloser

	// These belong to the bond's mutex.
	work        sync.Cond // there may be something to send
	idle        bool      // send waits for work
	held        []chunk   // came, and wait for their turn; numbers rise
	sent, acked uint64    // what our chunks counted, and the part that is there as far as we know
	came, read  uint64    // what the peer's chunks counted, and the part that is not held any more
	told        uint64    // what the peer knows that it came
}

// flying is what is on its way.
func (p *bondPipe) flying() uint64 { return p.sent - p.acked }

// tell is what the peer may know that it came. When too much is held, that does not rise until some of it is read.
func (p *bondPipe) tell() uint64 { return min(p.came, p.read+maxHeld) }

// owes reports whether the peer is to be told.
func (p *bondPipe) owes() bool { return p.tell()-p.told >= ackEvery }

// lockedTake returns the bytes of the chunk with that number if it is the next that the pipe has.
func (p *bondPipe) lockedTake(number uint64) []byte {
	if len(p.held) == 0 || p.held[0].number != number {
		return nil
	}
	data := p.held[0].data
	p.held = append(p.held[:0], p.held[1:]...)
	p.read += counts(len(data))
	if p.owes() {
		p.work.Signal()
	}
	return data
}

// lockedRouse has a pipe send that waits for work: the one with the least on its way, so that what is sent at once
// comes at once.
func (b *Bond) lockedRouse() {
	var best *bondPipe
	for _, p := range b.pipes {
		if p.idle && b.lockedNext(p) > 0 && (best == nil || p.flying() < best.flying()) {
			best = p
		}
	}
	if best != nil {
		best.work.Signal()
	}
}

// lockedNext is the size of the chunk that the pipe could send now.
func (b *Bond) lockedNext(p *bondPipe) int {
	n := min(len(b.unsent), maxChunk)
	if p.flying()+counts(n) > bondWindow {
		return 0
	}
	return n
}

// send writes what is to be said first, and then what there is, as long as there is a bond to write for.
func (b *Bond) send(p *bondPipe, out []byte) {
	buf := make([]byte, 0, 2*chunkHeader+maxChunk)
	for ok := true; ok; out, ok = b.next(p, buf) {
		if len(out) == 0 {
			continue
		}
		// Where the peer has closed, acknowledgements fail while there is more to read.
		if _, err := p.conn.Write(out); err != nil && len(out) > chunkHeader {
			b.lose(err)
		}
	}
}

// next waits for what the pipe has to send, an acknowledgement or a chunk or both, and puts it into buf. Its caller was
// busy, and is again.
func (b *Bond) next(p *bondPipe, buf []byte) ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy--; b.busy == 0 {
		b.idle.Broadcast()
	}
	p.idle = true
	for !p.owes() && b.lockedNext(p) == 0 && b.cause == nil {
		p.work.Wait()
	}
	p.idle = false
	if b.cause != nil {
		return nil, false
	}
	b.busy++
	if p.owes() {
		p.told = p.tell()
		buf = appendChunkHeader(buf, p.told, 0)
	}
	if n := b.lockedNext(p); n > 0 {
		buf = appendChunkHeader(buf, b.number, n)
		buf = append(buf, b.unsent[:n]...)
		b.number++
		p.sent += counts(n)
		if b.unsent = b.unsent[n:]; len(b.unsent) > 0 {
			b.lockedRouse()
		} else {
			b.less.Signal()
		}
	}
	return buf, true
}

// receive reads what the peer says first, if that is still to come, and then chunks until the pipe ends.
func (b *Bond) receive(p *bondPipe, hear func(io.Reader) error) {
	var err error
	if hear != nil {
		err = hear(p.conn)
	}
	r := bufio.NewReaderSize(p.conn, 2*maxChunk)
	for err == nil {
		err = b.receiveChunk(p, r)
	}
	b.lose(err)
	b.mu.Lock()
	b.alive--
	last := b.alive == 0
	b.mu.Unlock()
	if last {
		b.end()
	}
}

func (b *Bond) receiveChunk(p *bondPipe, r io.Reader) error {
	var header [chunkHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return err
	}
	both := binary.BigEndian.Uint64(header[:])
	number, size := both>>16, int(both&0xffff)
	if size == 0 {
		return b.hear(p, number)
	}
	if size > maxChunk {
		return &Error{Errno: syscall.EPROTO, Cause: fmt.Sprintf("read bond: chunk of %d bytes", size)}
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	return b.hold(p, chunk{number, data})
}

// hear takes an acknowledgement.
func (b *Bond) hear(p *bondPipe, came uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if came <= p.acked || came > p.sent {
		return &Error{Errno: syscall.EPROTO, Cause: fmt.Sprintf("read bond: acknowledgement of %d after %d of %d", came, p.acked, p.sent)}
	}
	p.acked = came
	p.work.Signal()
	return nil
}

// hold keeps a chunk for the reader. The window bounds how much that can be; the pipe itself is always read, so that an
// acknowledgement never waits for whoever reads the bond.
func (b *Bond) hold(p *bondPipe, c chunk) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.number < b.want || len(p.held) > 0 && c.number <= p.held[len(p.held)-1].number {
		return &Error{Errno: syscall.EPROTO, Cause: fmt.Sprintf("read bond: chunk %d out of order", c.number)}
	}
	if p.came += counts(len(c.data)); p.came-p.told > bondWindow {
		return &Error{Errno: syscall.EPROTO, Cause: fmt.Sprintf("read bond: more than %d bytes at once", bondWindow)}
	}
	p.held = append(p.held, c)
	if c.number == b.want {
		b.came.Signal()
	}
	if p.owes() {
		p.work.Signal()
	}
	return nil
}
