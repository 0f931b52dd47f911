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
	size   int
	data   [maxChunk]byte
}

// chunkHeader is the number (6 bytes) and the size (2 bytes) before a chunk's bytes.
const chunkHeader = 8

// A bondPipe is one pipe of a bond.
type bondPipe struct {
	conn io.ReadWriteCloser

	// These belong to the bond's mutex.
	held []*chunk  // came, and wait for their turn; numbers rise
	room sync.Cond // held has room, or the bond is over
}

// lockedTake returns the chunk with that number if it is the next that the pipe has.
func (p *bondPipe) lockedTake(number uint64) *chunk {
	if len(p.held) == 0 || p.held[0].number != number {
		return nil
	}
	c := p.held[0]
	p.held = append(p.held[:0], p.held[1:]...)
	p.room.Signal()
	return c
}

// send writes what is to be said first, and then chunks, as long as there is a bond to write for.
func (b *Bond) send(p *bondPipe, out []byte) {
	buf := make([]byte, chunkHeader+maxChunk)
	for ok := true; ok; out, ok = b.nextChunk(buf) {
		if len(out) == 0 {
			continue
		}
		if _, err := p.conn.Write(out); err != nil {
			b.lose(err)
		}
	}
}

// nextChunk waits for bytes to send and puts as many as a chunk takes into buf. Its caller was busy, and is again.
func (b *Bond) nextChunk(buf []byte) ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy--; b.busy == 0 {
		b.idle.Broadcast()
	}
	for len(b.unsent) == 0 && b.cause == nil {
		b.more.Wait()
	}
	if b.cause != nil {
		return nil, false
	}
	n := copy(buf[chunkHeader:], b.unsent)
	binary.BigEndian.PutUint64(buf, b.number<<16|uint64(n))
	b.number++
	b.busy++
	if b.unsent = b.unsent[n:]; len(b.unsent) > 0 {
		b.more.Signal()
	} else {
		b.less.Signal()
	}
	return buf[:chunkHeader+n], true
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
	c := b.chunks.Get().(*chunk)
	both := binary.BigEndian.Uint64(header[:])
	c.number, c.size = both>>16, int(both&0xffff)
	if c.size == 0 || c.size > maxChunk {
		return &Error{Errno: syscall.EPROTO, Cause: fmt.Sprintf("read bond: chunk of %d bytes", c.size)}
	}
	if _, err := io.ReadFull(r, c.data[:c.size]); err != nil {
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	return b.hold(p, c)
}

// hold keeps a chunk for the reader. A pipe that is full waits, and so does its peer. That cannot last: the wanted
// chunk has the lowest number of all, so no pipe has one before it that could stand in its way.
func (b *Bond) hold(p *bondPipe, c *chunk) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(p.held) >= maxHeld && !b.over {
		p.room.Wait()
	}
	if b.over {
		return b.cause
	}
	if c.number < b.want || len(p.held) > 0 && c.number <= p.held[len(p.held)-1].number {
		return &Error{Errno: syscall.EPROTO, Cause: fmt.Sprintf("read bond: chunk %d out of order", c.number)}
	}
	p.held = append(p.held, c)
	if c.number == b.want {
		b.came.Signal()
	}
	return nil
}
