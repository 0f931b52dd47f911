package route

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/magpie-k8s/magpie/filters"
)

const (
	// lingering is how long a client whose connection we end may go on sending, so that a reset does not overtake the answer.
	lingering = 2 * time.Second
	// windingUp is how long a client may stay silent after the original has ended an HTTP connection. The kernel gives
	// the same to a closed socket (tcp_fin_timeout).
	windingUp = 60 * time.Second
	// unserved is how long a client whose original refuses may take to ask for something that a session has. One who waits for
	// a greeting would wait for ever.
	unserved = 3 * time.Second
)

var (
	errOver    = errors.New("connection is over")
	errChanged = errors.New("connection changed its way")
)

// A conn is the life of one client connection. The request side (Serve's goroutine) reads the client and writes to the party
// whose turn it is; each party has a relay that writes to the client. A party gets its turn only when all earlier requests are
// answered by the one before, so answers keep their order.
type conn struct {
	proxy         *Proxy
	port          *Port
	client        *socket
	remote, local netip.AddrPort
	dialOriginal  func(ctx context.Context) (net.Conn, error)
	relays        sync.WaitGroup

	// The request side's own.
	head    head
	body    body      // what is left of the request's body
	between bool      // a request has ended, and nothing of what follows was looked at
	ready   int       // bytes at the start of client.in that belong to turn and are to be written
	holds   bool      // the request may switch protocols: what follows it waits for the answer
	eof     bool      // the client says no more
	told    *party    // and who knows it
	long    bool      // sending is set
	refused time.Time // when the original was seen to refuse
	match   filters.Request
	base    *claim // who has what no filter wants; nil: the original

	mu        sync.Mutex
	change    sync.Cond // anything below
	turn      *party
	original  *party // nil until dialled
	parties   []*party
	raw       *party // has all bytes from now on
	sending   bool   // a request's body is under way
	impatient bool   // the request side wants to be poked at every change
	closing   bool   // an answer under way is the last
	ending    bool   // the connection ends after what was written
	broken    bool   // the answer under way will not come
	winding   bool   // the original has ended its side
	finished  bool   // from our side: what parties do is of no consequence
	dead      bool
	frames    *frames // the connection speaks HTTP/2, or may: h2.go
}

func newConn(p *Proxy, nc net.Conn, port *Port) *conn {
	c := &conn{proxy: p, port: port, client: newSocket(nc, &p.memory)}
	c.remote, c.local = addrPort(nc.RemoteAddr()), addrPort(nc.LocalAddr())
	c.dialOriginal = func(ctx context.Context) (net.Conn, error) { return p.config.DialOriginal(ctx, c.remote, c.local) }
	c.change.L = &c.mu
	return c
}

// serve runs the connection to its end.
func (c *conn) serve(ctx context.Context) {
	err := c.open(ctx)
	for err == nil || errors.Is(err, errChanged) {
		err = c.take(ctx)
		switch {
		case err != nil:
		case c.eof:
			err = c.finishHalf(ctx)
		default:
			err = c.hear()
		}
	}
}

// hear waits for the client's next bytes, or for something else to change.
func (c *conn) hear() error {
	c.mu.Lock()
	o := c.original
	refused := o != nil && o.refused && c.turn == o
	c.mu.Unlock()
	if !refused {
		_, err := c.fill()
		return err
	}
	if c.refused.IsZero() {
		c.refused = time.Now()
	}
	if time.Since(c.refused) > unserved {
		c.abort()
		return errOver
	}
	_ = c.client.SetReadDeadline(c.refused.Add(unserved))
	_, err := c.fill()
	return err
}

// open finds who serves what no filter wants, and connects to it before the client has said a word.
func (c *conn) open(ctx context.Context) error {
	claims := c.port.now()
	if len(claims.whole) > 0 {
		if p, err := c.connect(ctx, claims.whole[0], Raw); err == nil {
			c.mu.Lock()
			c.base, c.turn = p.claim, p
			if len(claims.filtered) == 0 {
				c.raw = p
			}
			c.mu.Unlock()
			return c.start(p)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lockedDial(ctx)
	c.turn = c.original
	return nil
}

// take deals with what is in the buffer as far as it goes.
func (c *conn) take(ctx context.Context) error {
	if err := c.detour(ctx); err != nil {
		return err
	}
	for c.ready < c.client.in.len() {
		rest := c.client.in.bytes()[c.ready:]
		if c.body.open() {
			n, ok := c.body.feed(rest)
			c.ready += n
			if !ok {
				c.keepWhole()
				return c.giveRaw(ctx)
			}
		} else {
			if n, wait := c.emptyLine(rest); wait {
				return c.flush()
			} else if n > 0 {
				c.skip(n)
				continue
			}
			switch c.head.parse(rest) {
			case incomplete:
				return c.flush()
			case clean:
				if err := c.route(ctx, rest); err != nil {
					return err
				}
			default:
				c.keepWhole()
				return c.giveRaw(ctx)
			}
		}
		if !c.body.open() {
			if err := c.sent(); err != nil {
				return err
			}
		}
	}
	if err := c.flush(); err != nil {
		return err
	}
	return c.haulBody()
}

// keepWhole leaves what is ready with what is in doubt behind it, if both are the original's: they go on in one piece, as they
// came. There are servers who read them otherwise in two (Node answers a malformed request before the one that it came with).
func (c *conn) keepWhole() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.turn; c.base == nil && p == c.original && p.ready && !p.gone && p.asked.n < maxPipelined {
		c.ready = 0
	}
}

// detour leaves the way of HTTP when the connection has become raw or ends.
func (c *conn) detour(ctx context.Context) error {
	c.mu.Lock()
	dead, ending, raw := c.dead, c.ending, c.raw
	c.mu.Unlock()
	switch {
	case dead:
		return errOver
	case ending:
		return c.finish()
	case raw != nil:
		return c.pipe(ctx, raw)
	}
	return nil
}

// emptyLine returns the length of the one empty line that may come between two requests: old clients send it after a body, and
// servers are to ignore it (RFC 9112 section 2.2). It reports true when more bytes are needed to tell. Before the first request
// it would be another protocol's, whose client may wait for the answer.
func (c *conn) emptyLine(rest []byte) (n int, wait bool) {
	if !c.between {
		return 0, false
	}
	if len(rest) == 1 && rest[0] == '\r' {
		return 0, true
	}
	c.between = false
	if len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n' {
		return 2, false
	}
	return 0, false
}

// skip passes n bytes that are no request's to the original if it has the turn. A session does not get them.
func (c *conn) skip(n int) {
	if c.turn.claim == nil { // only this goroutine changes it
		c.ready += n
		return
	}
	c.client.in.discard(n)
}

// sent is called when the last byte of a request was made ready.
func (c *conn) sent() error {
	c.between = true
	if c.long {
		c.long = false
		c.mu.Lock()
		c.sending = false
		c.mu.Unlock()
	}
	if !c.holds {
		return nil
	}
	c.holds = false
	if err := c.flush(); err != nil {
		return err
	}
	return c.await(func() bool { return c.turn.asked.n == 0 })
}

// flush writes what is ready to the party whose turn it is.
func (c *conn) flush() error {
	if c.ready == 0 {
		return nil
	}
	p := c.turn // only this goroutine changes it
	_, err := p.Write(c.client.in.bytes()[:c.ready])
	c.client.in.discard(c.ready)
	c.ready = 0
	if err == nil {
		return nil
	}
	return c.unheard(p)
}

// unheard waits for what p still says when it has stopped listening, and ends the connection.
func (c *conn) unheard(p *party) error {
	if err := c.await(func() bool { return p.gone }); err != nil {
		return err
	}
	return c.finish()
}

// fill waits for bytes of the client. It may return without any when something else has changed.
func (c *conn) fill() (int, error) {
	n, err := c.client.fill()
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		c.eof = true
	default:
		c.abort()
		return 0, errOver
	}
	return n, nil
}

// await returns nil once ok holds, and errChanged when the connection became raw or ends first. Meanwhile it reads ahead, as far
// as the buffer goes, so that the end of a client is seen.
func (c *conn) await(ok func() bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.dead {
		switch {
		case c.raw != nil || c.ending:
			return errChanged
		case ok():
			return nil
		}
		if err := c.lockedIdle(); err != nil {
			return err
		}
	}
	return errOver
}

// lockedIdle waits for a change, of the client's bytes or of anything under mu.
func (c *conn) lockedIdle() error {
	if c.eof || c.client.in.full() {
		c.change.Wait()
		return nil
	}
	c.impatient = true
	c.mu.Unlock()
	_, err := c.fill()
	if err == nil && c.eof && c.client.in.len() == c.ready {
		c.tellEnd()
	}
	c.mu.Lock()
	c.impatient = false
	return err
}

// lockedWake tells the request side of a change. It pokes if the request side may be reading: that costs a timer, so only then.
func (c *conn) lockedWake(urgent bool) {
	c.change.Broadcast()
	if urgent || c.impatient {
		c.client.poke()
	}
}

// tellEnd passes the client's end on to whoever is answering, once.
func (c *conn) tellEnd() {
	c.mu.Lock()
	p, ready := c.turn, c.turn.ready
	c.mu.Unlock()
	if ready && c.told != p {
		c.told = p
		p.closeWrite()
	}
}
