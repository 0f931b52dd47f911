package wire

import (
	"context"
	"fmt"
	"io"
	"log"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/yamux"
)

// closeTimeout bounds how long Close waits for what was written before.
const closeTimeout = time.Second

// A Carrier holds the streams of one byte pipe. It is safe for concurrent use.
//
// It ends when Close is called, when the pipe breaks, when the peer is not a Magpie of our protocol, or when nothing
// was heard for 15 s; then each of its streams ends with ECONNRESET.
type Carrier struct {
	us      role
	limits  limits
	pipe    *pipe
	session *yamux.Session
	first   uint32        // our stream ids are first, first+2, ...
	opening chan struct{} // holds one token: streams are opened one by one, so that we know their ids beforehand

	buffers sync.Pool // of *[maxFrame]byte, for streams that have bytes

	greeted chan struct{} // closed when ends is there
	ends    *yamux.Stream
	work    sync.WaitGroup

	mu      sync.Mutex
	next    uint32
	streams map[uint32]*Stream
}

// Client makes a carrier of a pipe that leads to an agent. It does not wait for the agent: whether there is one
// shows in the first stream's errors, and in Err. The carrier owns the pipe.
func Client(conn io.ReadWriteCloser) *Carrier { return newCarrier(conn, clientRole, standard) }

// Agent makes a carrier of a pipe on which a client came.
func Agent(conn io.ReadWriteCloser) *Carrier { return newCarrier(conn, agentRole, standard) }

func newCarrier(conn io.ReadWriteCloser, us role, limits limits) *Carrier {
	c := &Carrier{
		us: us, limits: limits, streams: map[uint32]*Stream{}, opening: make(chan struct{}, 1), greeted: make(chan struct{}),
	}
	c.buffers.New = func() any { return new([maxFrame]byte) }
	c.pipe = newPipe(conn, us, limits.greet, c.frame)
	config := &yamux.Config{
		AcceptBacklog:          maxBacklog,
		MaxStreamWindowSize:    streamWindow,
		KeepAliveInterval:      limits.ping,
		ConnectionWriteTimeout: time.Hour, // watch ends a dead carrier; a slow one may be slow
		Logger:                 log.New(io.Discard, "", 0),
	}
	open := yamux.Server
	c.first, c.next = 2, 2
	if us == clientRole {
		open = yamux.Client
		c.first, c.next = 1, 3
		c.opening <- struct{}{} // until the ends stream is open
	}
	session, err := open(c.pipe, config)
	if err != nil {
		panic("wire: " + err.Error()) // our own configuration
	}
	c.session = session
	c.work.Go(c.pipe.send)
	c.work.Go(c.followEnds)
	c.work.Go(c.ping)
	c.work.Go(c.watch)
	return c
}

// Done is closed when the carrier is over.
func (c *Carrier) Done() <-chan struct{} { return c.session.CloseChan() }

// Err returns why the carrier is over, and nil while it is not. It unwraps to ECONNRESET unless the peer was not one
// that we can talk to.
func (c *Carrier) Err() error {
	if err := c.pipe.err(); err != nil {
		return err
	}
	if c.session.IsClosed() {
		return &Error{Errno: syscall.ECONNRESET, Cause: "carrier to " + c.us.peer + ": protocol broken"}
	}
	return nil
}

// Close ends the carrier and its streams, after what was written has gone out (or one second).
func (c *Carrier) Close() error {
	c.pipe.flush(closeTimeout)
	c.end(&Error{Errno: syscall.ECONNRESET, Cause: "carrier closed"})
	c.work.Wait()
	return nil
}

func (c *Carrier) end(cause error) {
	c.pipe.fail(cause)
	_ = c.session.Close()
}

// Open opens a stream and sends what it is for. It does not wait for an answer: see Stream.Opened. It blocks only
// while 1,024 streams wait for the peer to accept them.
func (c *Carrier) Open(ctx context.Context, what *Open) (*Stream, error) {
	message, err := appendMessage(nil, what)
	if err != nil {
		return nil, err
	}
	select {
	case c.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("open stream: %w", ctx.Err())
	}
	s, err := c.open()
	<-c.opening
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	s.about(what)
	if _, err := s.Write(message); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("open stream: %w", err)
	}
	return s, nil
}

// open must be called with the token.
func (c *Carrier) open() (*Stream, error) {
	c.mu.Lock()
	id := c.next
	if len(c.streams) >= maxStreams {
		c.mu.Unlock()
		return nil, &Error{Errno: syscall.EMFILE, Cause: fmt.Sprintf("%d streams are open on this carrier", maxStreams)}
	}
	c.next += 2
	s := newStream(c, id)
	c.streams[id] = s
	c.mu.Unlock()

	mux, err := c.session.OpenStream()
	if err != nil {
		c.forget(id)
		if dead := c.Err(); dead != nil {
			return nil, dead
		}
		return nil, &Error{Errno: syscall.ECONNRESET, Cause: err.Error()}
	}
	if mux.StreamID() != id {
		panic(fmt.Sprintf("wire: stream %d was to be %d", mux.StreamID(), id))
	}
	s.attach(mux)
	return s, nil
}

// Accept waits for a stream that the peer opens. What it is for is read by Stream.Opening, which may wait for the
// peer: call it in the goroutine of the stream.
func (c *Carrier) Accept() (*Stream, error) {
	select {
	case <-c.greeted:
	case <-c.Done():
		return nil, c.Err()
	}
	for {
		mux, err := c.session.AcceptStream()
		if err != nil {
			if dead := c.Err(); dead != nil {
				return nil, dead
			}
			return nil, err
		}
		s, crowd := c.known(mux.StreamID())
		if s == nil {
			_ = mux.Close()
			continue
		}
		s.attach(mux)
		if crowd > maxStreams {
			s.answer.failure = errTooMany()
			_ = s.Refuse(s.answer.failure)
			continue
		}
		return s, nil
	}
}

func errTooMany() error {
	return &Error{Errno: syscall.EMFILE, Cause: fmt.Sprintf("%d streams are open on this carrier", maxStreams)}
}

func (c *Carrier) known(id uint32) (s *Stream, crowd int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams[id], len(c.streams)
}

func (c *Carrier) forget(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, id)
}

// frame is called for each frame that begins or ends a stream, in their order, before yamux sees it. So a stream is
// known before anything is said about it on the ends stream.
func (c *Carrier) frame(id uint32, flags uint16) error {
	if id == endsID {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[id]
	if s == nil && flags&flagSYN != 0 && id%2 != c.first%2 {
		// The peer may overshoot maxStreams by what it opens before it hears of it.
		if len(c.streams) > maxStreams+maxBacklog {
			return errTooMany()
		}
		s = newStream(c, id)
		c.streams[id] = s
	}
	if s != nil && flags&flagFIN != 0 {
		s.finished.Store(true)
	}
	return nil
}

// ping makes the peer say something every 5 s.
func (c *Carrier) ping() {
	tick := time.NewTicker(c.limits.ping)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_, _ = c.session.Ping() // watch judges what comes back
		case <-c.Done():
			return
		}
	}
}

// watch ends the carrier when nothing at all was heard for too long.
func (c *Carrier) watch() {
	timer := time.NewTimer(c.limits.silence)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			quiet := c.pipe.silentFor()
			if quiet >= c.limits.silence {
				c.end(&Error{Errno: syscall.ECONNRESET, Cause: fmt.Sprintf("%s silent for %v", c.us.peer, c.limits.silence)})
				return
			}
			timer.Reset(c.limits.silence - quiet)
		case <-c.Done():
			return
		}
	}
}
