package route

import (
	"context"
	"crypto/tls"
	"errors"
	"slices"
)

// connect opens a stream to the session of a claim. Its relay is not started.
func (c *conn) connect(ctx context.Context, e *claim, speak Protocol) (*party, error) {
	s, err := e.Open(ctx, c.visit(speak))
	if err != nil {
		return nil, err
	}
	return &party{claim: e, socket: newSocket(s, &c.proxy.memory), ready: true}, nil
}

// visit is what a stream is opened for on this connection.
func (c *conn) visit(speak Protocol) Visit {
	v := Visit{Client: c.remote, Local: c.local, Protocol: speak}
	if client, ok := c.client.Conn.(interface{ ConnectionState() tls.ConnectionState }); ok {
		state := client.ConnectionState()
		v.TLS = &state
	}
	return v
}

// start lets p be heard.
func (c *conn) start(p *party) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		_ = p.Close()
		return errOver
	}
	c.parties = append(c.parties, p)
	c.relays.Add(1)
	go c.relay(p)
	return nil
}

// stream returns the open stream of a claim, or a new one. Streams that have ended or whose claim is gone are closed here.
func (c *conn) stream(ctx context.Context, e *claim, speak Protocol) (*party, error) {
	var found *party
	var closed []*party
	c.mu.Lock()
	kept := make([]*party, 0, len(c.parties)+1)
	for _, p := range c.parties {
		switch {
		case p.claim == nil:
			kept = append(kept, p)
		case p.gone, p.claim.gone.Load() && p != c.turn:
			closed = append(closed, p)
		default:
			kept = append(kept, p)
			if p.claim == e {
				found = p
			}
		}
	}
	c.parties = kept
	c.mu.Unlock()
	for _, p := range closed {
		_ = p.Close()
	}
	if found != nil {
		return found, nil
	}
	p, err := c.connect(ctx, e, speak)
	if err != nil {
		return nil, err
	}
	return p, c.start(p)
}

// A theft is a request on its way to a session.
type theft struct {
	claim  *claim
	method method
	safe   bool
	ask    ask
	trip   *trip
	whole  bool   // all that was sent is still in the buffer
	sent   int    // bytes of the buffer that were sent
	head   []byte // goes instead of the one in the buffer, if it is not nil
	wrote  bool
}

// steal gives the request to a session, and to the original when the session cannot answer and asking twice is no harm.
func (c *conn) steal(ctx context.Context, e *claim) error {
	if err := c.flush(); err != nil {
		return err
	}
	if err := c.await(func() bool { return c.turn.asked.n == 0 && !c.closing }); err != nil {
		return err
	}
	h := &c.head
	t := &theft{claim: e, method: h.method, safe: h.safe(), ask: ask{method: h.method, closes: !h.lasts()}, whole: true}
	t.trip = c.trip(c.client.in.bytes(), e)
	b := h.body()
	n, ok := b.feed(c.client.in.bytes()[h.n:])
	if !ok {
		return c.giveRaw(ctx) // Nothing was sent yet.
	}
	speak := HTTP1
	if e.Filter == nil {
		speak = Raw // One who has all that nobody wants has it as it comes, whenever the stream was opened.
	} else if h.upgrade {
		t.head = withoutHTTP2(c.client.in.bytes()[:h.n])
	}
	p, err := c.stream(ctx, e, speak)
	if err != nil {
		return c.loseUnsent(ctx, t)
	}
	c.ready = h.n + n
	c.body = b
	for again := true; ; again = false {
		reused, err := c.begin(p, t)
		if err == nil {
			err = c.exchange(p, t)
		}
		if !errors.Is(err, errUnanswered) {
			c.release(t)
			c.head.reset()
			c.between = true
			return err
		}
		if !again || !reused || !t.whole || !t.idempotent() && t.wrote {
			return c.lose(ctx, p, t)
		}
		c.cancel(p)
		next, err := c.stream(ctx, e, speak)
		if err != nil {
			return c.lose(ctx, p, t)
		}
		p = next
	}
}

var errUnanswered = errors.New("session has not answered")

func (t *theft) idempotent() bool { return t.safe || t.method == methodIdempotent }

// begin makes it p's turn and reports whether p has served before. With errChanged p is not asked.
func (c *conn) begin(p *party, t *theft) (reused bool, err error) {
	t.sent, t.wrote = 0, false
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.raw != nil || c.ending || c.dead {
		c.ready, c.body = 0, body{}
		return false, errChanged
	}
	c.turn = p
	p.answered = false
	if c.head.continued {
		p.spared.Store(true)
	}
	p.asked.push(t.ask, t.trip)
	return p.served, nil
}

// cancel forgets that p was asked.
func (c *conn) cancel(p *party) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.asked.n > 0 {
		p.asked.pop()
	}
}

// exchange sends the request to p and returns once all is sent and p has begun to answer. Until then the request stays in the
// buffer, if it fits. With errUnanswered p has ended without a byte.
func (c *conn) exchange(p *party, t *theft) error {
	for {
		if t.sent < c.ready {
			n, err := p.Write(t.unsent(c.client.in.bytes()[:c.ready], c.head.n))
			t.wrote = t.wrote || n > 0
			if err != nil {
				return c.unread(p)
			}
			t.sent = c.ready
		}
		answered, over := c.progress(p)
		switch {
		case over && !answered:
			return errUnanswered
		case over && c.body.open():
			return c.unread(p)
		}
		if answered || !t.whole || c.client.in.full() && c.body.open() {
			c.release(t)
		}
		if answered && !c.body.open() {
			return nil
		}
		if err := c.more(p, t); err != nil {
			return err
		}
	}
}

// unsent returns what is to be sent next of the request b.
func (t *theft) unsent(b []byte, head int) []byte {
	if t.sent == 0 && t.head != nil {
		return slices.Concat(t.head, b[head:])
	}
	return b[t.sent:]
}

// release gives up the bytes that were kept for a second try.
func (c *conn) release(t *theft) {
	c.client.in.discard(t.sent)
	c.ready, t.sent, t.whole, t.head = 0, 0, false, nil
}

// progress reports whether p has begun to answer, and whether it takes no more of the request: it has ended, or it has answered
// and will never see the rest.
func (c *conn) progress(p *party) (answered, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return p.answered, p.gone || c.eof && p.answered && p.asked.n == 0
}

// unread waits for what p says when it takes no more of the request.
func (c *conn) unread(p *party) error {
	err := c.await(func() bool { return p.gone || p.answered && p.asked.n == 0 })
	if err != nil {
		return err
	}
	if answered, _ := c.progress(p); !answered {
		return errUnanswered
	}
	return c.finish()
}

// more waits for bytes of the request's body, or for the answer.
func (c *conn) more(p *party, t *theft) error {
	if !c.body.open() || c.client.in.len() == c.ready {
		if err := c.watch(p); err != nil {
			return err
		}
	}
	n, ok := c.body.feed(c.client.in.bytes()[c.ready:])
	c.ready += n
	if !ok {
		return c.spoilt(p, t)
	}
	return nil
}

// watch is a fill that is poked by failure alone while the client waits for its answer, and by every change when the client
// has already said more or must not be read on.
func (c *conn) watch(p *party) error {
	in := &c.client.in
	if c.eof && in.len() == c.ready {
		c.tellEnd()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.dead:
		return errOver
	case c.raw != nil || c.ending:
		return errChanged
	case p.gone, p.answered && !c.body.open(), p.answered && c.eof && p.asked.n == 0:
		return nil
	case c.eof || in.len() > c.ready || in.full():
		return c.lockedIdle()
	}
	c.mu.Unlock()
	_, err := c.fill()
	c.mu.Lock()
	return err
}

// spoilt ends a request whose body stopped making sense after its beginning was sent. It can be given to nobody else.
func (c *conn) spoilt(p *party, t *theft) error {
	c.hangUp(p)
	if err := c.await(func() bool { return p.gone }); err != nil {
		return err
	}
	if answered, _ := c.progress(p); !answered {
		c.refuse(t.claim, t.ask, t.trip, "the request's chunks cannot be followed")
	}
	return c.finish()
}

// loseUnsent passes a request of which the session has seen nothing.
func (c *conn) loseUnsent(ctx context.Context, t *theft) error {
	if t.trip != nil {
		t.trip.Lost, t.trip.Session = t.claim.Session, ""
	}
	if err := c.pass(ctx, t.trip); err != nil {
		return err
	}
	c.ready = c.head.n
	c.intoBody()
	return nil
}

// lose passes the request if that is safe, and else says that it cannot be answered.
func (c *conn) lose(ctx context.Context, p *party, t *theft) error {
	c.mu.Lock()
	err := p.err
	c.mu.Unlock()
	if !t.whole || t.wrote && !t.safe && !unaccepted(err) {
		c.refuse(t.claim, t.ask, t.trip, cause(err))
		return c.finish()
	}
	c.cancel(p)
	c.ready = 0
	return c.loseUnsent(ctx, t)
}

func cause(err error) string {
	if isEnd(err) {
		return "the local process closed the connection"
	}
	return err.Error()
}
