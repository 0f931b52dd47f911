package wire

import (
	"context"
	"io"
	"sync"
	"syscall"
	"time"
)

// Bounds of a bond, with their reasons in PROTOCOL.md.
const (
	maxPipes  = 16       // of one bond
	maxChunk  = 16 << 10 // so that a small message is soon past what was sent before it
	bondGrace = time.Second

	// bondWindow is how much is on its way on one pipe. Buffers along the way would take far more; then the chunks of one
	// pipe come long before those of another that were sent with them, and none of them is of use.
	bondWindow = 256 << 10
	ackEvery   = bondWindow / 8
	maxHeld    = 512 << 10 // that a pipe holds until the chunks before come, before it lets its peer wait
	chunkExtra = 64        // that a chunk counts beyond its bytes: what it costs to hold
)

// A Bond is one byte pipe made of several, for paths on which a pipe carries only so much per round trip, as a stream
// of a port-forward does. What is written is cut into numbered chunks; each goes to the pipe that is free first, and
// the peer puts them in order. As of any pipe of ours there is one reader and one writer at a time; Close may come at
// any time.
//
// It works from its first pipe on; the others join as they open. When one of them ends, all do.
type Bond struct {
	id     bondID
	cancel context.CancelFunc // of pipes that are being opened
	work   sync.WaitGroup

	answered chan struct{} // closed when the agent has answered on the first pipe
	lost     chan struct{} // closed when cause is set

	// Only the reader touches these.
	rest []byte // of the chunk that Read gives now

	mu     sync.Mutex
	pipes  []*bondPipe
	alive  int         // pipes that have not ended
	cause  error       // why nothing can be written any more; Read gives what is still there before it
	grace  *time.Timer // runs once a pipe has ended
	over   bool        // nothing more will come
	closed bool

	came sync.Cond // the wanted chunk is there, or it is over
	want uint64    // the number of the next chunk to read

	less   sync.Cond // unsent is empty, or cause is set
	unsent []byte    // what no pipe has taken yet of the Write that waits
	number uint64    // of the next chunk to send
	idle   sync.Cond // busy is 0
	busy   int       // pipes that write
}

// NewBond starts a bond of up to n pipes on the client's side. It does not wait: first is used at once; the others are
// opened by more, one call each, when the agent has answered on the first. A pipe that does not open is done without.
// The bond owns the pipes, and the context that more is given ends with it.
func NewBond(first io.ReadWriteCloser, more func(context.Context) (io.ReadWriteCloser, error), n int) *Bond {
	n = min(max(n, 1), maxPipes)
	ctx, cancel := context.WithCancel(context.Background())
	b := newBond(newBondID(), cancel)
	b.join(first, b.header(0, n), func(r io.Reader) error {
		if err := readBondAnswer(r); err != nil {
			return err
		}
		close(b.answered)
		return nil
	})
	for i := 1; i < n; i++ {
		b.work.Go(func() {
			select {
			case <-b.answered:
				b.open(ctx, b.header(i, n), more)
			case <-ctx.Done():
			}
		})
	}
	return b
}

func newBond(id bondID, cancel context.CancelFunc) *Bond {
	b := &Bond{id: id, cancel: cancel, answered: make(chan struct{}), lost: make(chan struct{})}
	for _, c := range []*sync.Cond{&b.came, &b.less, &b.idle} {
		c.L = &b.mu
	}
	return b
}

// header is what the client says first on a pipe.
func (b *Bond) header(index, count int) []byte {
	return bondHeader{id: b.id, index: byte(index), count: byte(count)}.append(nil)
}

// open adds a pipe. It is used from the agent's answer on, so that one which leads nowhere harms nobody.
func (b *Bond) open(ctx context.Context, header []byte, more func(context.Context) (io.ReadWriteCloser, error)) {
	conn, err := more(ctx)
	if err != nil {
		return
	}
	patient, cancel := context.WithTimeout(ctx, standard.greet)
	defer cancel()
	stop := context.AfterFunc(patient, func() { conn.Close() })
	if _, err = conn.Write(header); err == nil {
		err = readBondAnswer(conn)
	}
	if !stop() || err != nil {
		conn.Close()
		return
	}
	b.join(conn, nil, nil)
}

// join makes a pipe part of the bond. What is to be said first goes out before any chunk; hear, unless nil, reads what
// the peer says first. It reports whether the bond was still there.
func (b *Bond) join(conn io.ReadWriteCloser, say []byte, hear func(io.Reader) error) bool {
	p := &bondPipe{conn: conn}
	p.work.L = &b.mu
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cause != nil {
		conn.Close()
		return false
	}
	b.pipes = append(b.pipes, p)
	b.alive++
	b.busy++ // until send has said it
	b.work.Go(func() { b.send(p, say) })
	b.work.Go(func() { b.receive(p, hear) })
	return true
}

// Answered waits until the agent has answered, and so is one. It need not be called.
func (b *Bond) Answered(ctx context.Context) error {
	select {
	case <-b.answered:
		return nil
	case <-b.lost:
	case <-ctx.Done():
		return ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cause
}

// Read returns what the peer wrote, in its order. When the peer closed the bond, that is io.EOF at the end.
func (b *Bond) Read(buf []byte) (int, error) {
	if len(b.rest) == 0 {
		data, err := b.await()
		if err != nil {
			return 0, err
		}
		b.rest = data
	}
	n := copy(buf, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// await waits for the wanted chunk and takes it.
func (b *Bond) await() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.closed {
		for _, p := range b.pipes {
			if data := p.lockedTake(b.want); data != nil {
				b.want++
				return data, nil
			}
		}
		if b.over {
			break
		}
		b.came.Wait()
	}
	return nil, b.cause
}

// Write returns when pipes have taken the last byte; they may still be writing it.
func (b *Bond) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unsent = data
	b.lockedRouse()
	for len(b.unsent) > 0 && b.cause == nil {
		b.less.Wait()
	}
	left := len(b.unsent)
	b.unsent = nil
	if left > 0 {
		return len(data) - left, b.cause
	}
	return len(data), nil
}

// Close ends the bond after its pipes have written what they had taken, or one second.
func (b *Bond) Close() error {
	b.lose(&Error{Errno: syscall.ECONNRESET, Cause: "carrier closed"})
	b.cancel()
	patience := time.AfterFunc(bondGrace, b.end)
	b.mu.Lock()
	b.closed = true
	b.came.Broadcast()
	for b.busy > 0 && !b.over {
		b.idle.Wait()
	}
	b.mu.Unlock()
	patience.Stop()
	b.end()
	b.work.Wait()
	return nil
}

// lose ends the bond for a reason, of which the first counts. Other pipes may still hold what the peer wrote before it
// closed them all, and it may take some time to see the end of each.
func (b *Bond) lose(cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cause != nil {
		return
	}
	b.cause = cause
	close(b.lost)
	b.grace = time.AfterFunc(bondGrace, b.end)
	for _, p := range b.pipes {
		p.work.Signal()
	}
	b.less.Broadcast()
}

// end closes every pipe.
func (b *Bond) end() {
	b.mu.Lock()
	b.over = true
	b.grace.Stop()
	for _, c := range []*sync.Cond{&b.came, &b.idle} {
		c.Broadcast()
	}
	pipes := b.pipes
	b.mu.Unlock()
	for _, p := range pipes {
		p.conn.Close()
	}
}
