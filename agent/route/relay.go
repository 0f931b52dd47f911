package route

import (
	"context"
	"errors"
	"io"
)

var errOutOfTurn = errors.New("spoke out of turn")

// dial connects to the original and relays what it says.
func (c *conn) dial(ctx context.Context, p *party) {
	defer c.relays.Done()
	upstream, err := c.dialOriginal(ctx)
	c.mu.Lock()
	if err == nil {
		p.socket = newSocket(upstream, &c.proxy.memory)
	}
	p.ready, p.gone, p.refused, p.err = err == nil, err != nil, err != nil, err
	dead := c.dead
	c.lockedWake(err != nil)
	c.mu.Unlock()
	switch {
	case err != nil:
	case dead:
		p.reset()
	default:
		c.forward(p)
	}
}

// relay forwards what a session says.
func (c *conn) relay(p *party) {
	defer c.relays.Done()
	c.forward(p)
}

// forward hands on what p says until it says no more.
func (c *conn) forward(p *party) {
	defer p.in.free()
	for {
		_, err := p.fill()
		if relay := c.framesWith(p); relay != nil || c.greets(p) {
			if err = c.framesWith(p).ServeOriginal(err); err != nil {
				c.ended(p, err)
			}
			return
		}
		if p.in.len() > 0 && !c.deliver(p) {
			if relay := c.framesWith(p); relay == nil {
				c.drop(p)
			} else if err = relay.ServeOriginal(err); err != nil {
				c.ended(p, err)
			}
			return
		}
		if err == nil && !c.haulAnswer(p) {
			c.drop(p)
			return
		}
		if err != nil {
			c.ended(p, err)
			return
		}
	}
}

// deliver writes what came from p to the client, in one piece, keeping the beginning of a head until it is complete.
// It reports false when nothing more shall be read from p.
func (c *conn) deliver(p *party) bool {
	buf, out, done := p.in.bytes(), 0, 0
	goesOn := true
	for goesOn && out < len(buf) && !p.unframed {
		if !p.body.open() {
			n, edited, next := c.answer(p, done, buf[out:])
			if edited != nil {
				buf = append(append(buf[:out:out], edited...), buf[out+n:]...)
				n = len(edited)
			}
			out += n
			if goesOn = next; n == 0 && !p.body.open() {
				break
			}
		}
		n, ok := p.body.feed(buf[out:])
		if out += n; !ok {
			c.unframe(p)
		}
		if p.final && !p.body.open() {
			p.final = false
			done++
		}
	}
	held := len(buf) - out
	if p.unframed {
		out, held = len(buf), 0
	}
	if out > 0 {
		if _, err := c.client.Write(buf[:out]); err != nil {
			c.abort()
			return false
		}
		p.in.discard(p.in.len() - held)
	}
	c.settle(p, done)
	return goesOn || p.unframed
}

// answer reads the head at b of the answer to the k-th request that p was asked. It returns the head's length, 0 if b is to be
// kept or the connection became raw, and the head to write instead if it is to differ. It reports false if p must go.
func (c *conn) answer(p *party, k int, b []byte) (n int, edited []byte, ok bool) {
	asked, ok := c.expect(p, k)
	if !ok || p.unframed {
		return 0, nil, ok
	}
	switch p.reply.parse(b) {
	case incomplete:
		return 0, nil, true
	case clean:
	default:
		c.unframe(p)
		return 0, nil, true
	}
	r := p.reply
	p.reply = reply{}
	switch {
	case r.interim():
		return r.n, nil, true
	case r.status == 101 && c.grants(p, b[:r.n]):
		c.report(c.tunnel(p, k, r.status))
		p.unframed = false
		return r.n, nil, false // What follows is not ours to read.
	case r.status == 101, asked.method == methodConnect && r.status/100 == 2:
		c.report(c.tunnel(p, k, r.status))
		return r.n, nil, true
	}
	p.body, p.final = r.body(asked.method), true
	p.last = p.claim != nil && (asked.closes || !r.lasts())
	if p.claim == nil && c.lastOne(p, k) {
		p.last = true
		edited = closing(b[:r.n])
	}
	if asked.seen {
		c.status(p, k, r.status)
	}
	return r.n, edited, true
}

// expect returns what p was asked k requests after the oldest. Words out of turn make the connection raw when p is the one who
// serves it (a server that speaks first, a 408 before a close), and p is dropped otherwise.
func (c *conn) expect(p *party, k int) (ask, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.answered = true
	switch {
	case c.raw == p:
		p.unframed = true
	case c.turn == p && k < p.asked.n:
		return p.asked.at(k), true
	case c.turn == p && (p.claim == nil || p.claim == c.base):
		c.raw, p.unframed = p, true
		c.lockedWake(true)
	default:
		return ask{}, false
	}
	return ask{}, true
}

// unframe gives up reading p's answers. The original has the whole connection from here on; a session ends it with its answer.
func (c *conn) unframe(p *party) {
	p.unframed = true
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.claim != nil && c.raw != p {
		p.last, p.final, p.unframed = true, true, false
		p.body = body{kind: endlessBody}
		return
	}
	c.raw = p
	c.lockedWake(true)
}

// tunnel makes the connection raw with the party that has switched protocols.
func (c *conn) tunnel(p *party, k, status int) (over []*trip) {
	p.unframed = true
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw = p
	c.lockedWake(true)
	if t := p.asked.trip(k); t != nil {
		t.Status = status
		over = append(over, t)
	}
	return over
}

// lastOne reports whether the answer to the k-th request is to be the last on a connection whose port was given up: no request
// follows it, and none will be read.
func (c *conn) lastOne(p *party, k int) bool {
	if !c.port.retired(c.proxy.config.Linger) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.asked.n != k+1 || c.sending || c.raw != nil {
		return false
	}
	c.closing = true // No request is forwarded after this.
	return true
}

// status keeps the status of the k-th answer for the observers.
func (c *conn) status(p *party, k, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := p.asked.trip(k); t != nil {
		t.Status = status
	}
}

// settle keeps the books after a write: done requests have their answers.
func (c *conn) settle(p *party, done int) {
	var over []*trip
	c.mu.Lock()
	for range done {
		if t := p.asked.trip(0); t != nil {
			over = append(over, t)
		}
		p.asked.pop()
		p.served = true
	}
	if done > 0 && p.last {
		c.ending = true
	}
	c.lockedWake(c.ending)
	c.mu.Unlock()
	c.report(over)
}

// ended is called when nothing more comes from p.
func (c *conn) ended(p *party, err error) {
	// Half a head of the original's is passed on as it is; after a session's comes an answer of ours.
	if held := p.in.bytes(); len(held) > 0 && c.hasLastWord(p) {
		if _, werr := c.client.Write(held); werr != nil {
			err = werr
		}
	}
	c.mu.Lock()
	p.gone, p.err = true, err
	var over []*trip
	if p.final && p.body.kind == endlessBody && p.asked.n > 0 {
		if t := p.asked.trip(0); t != nil {
			over = append(over, t)
		}
		p.asked.pop()
	}
	what := c.lockedAfter(p, errors.Is(err, io.EOF))
	c.lockedWake(what != nothing)
	c.mu.Unlock()
	c.report(over)
	switch what {
	case forget:
		_ = p.Close()
	case reset:
		c.abort()
	case halfClose:
		c.client.closeWrite()
	}
}

// What the end of a party means for the client.
type consequence uint8

const (
	nothing   consequence = iota
	wake                  // the request side decides
	forget                // nothing more will be said to it either
	halfClose             // the client sees the end too
	reset                 // the client must not take it for a proper end
)

func (c *conn) lockedAfter(p *party, proper bool) consequence {
	switch {
	case c.finished || c.dead:
		return nothing
	case c.turn != p:
		c.lockedEndIfAlone()
		return forget
	case c.raw == p && !p.answered && p.claim != nil && !proper:
		return wake // perhaps it never was connected
	case c.raw != p && p.claim != nil && p.asked.n == 0 && !p.final:
		c.lockedEndIfAlone()
		return wake
	case c.raw != p && p.claim != nil && !p.final:
		if p.answered { // with less than a final head
			c.broken, c.ending = true, true
		}
		return wake
	case !proper:
		return reset
	case c.raw != p && p.claim != nil:
		c.ending = true
		return wake
	}
	// HTTP or not, the client reads the end, and what it still says is still heard.
	c.winding = c.raw != p
	c.raw = p
	return halfClose
}

// lockedEndIfAlone lets an idle client go when both sides have closed: nobody is left who would time it out.
func (c *conn) lockedEndIfAlone() {
	idle := c.turn != nil && c.turn.claim != nil && c.turn.gone && c.turn.asked.n == 0
	if o := c.original; idle && o != nil && o.gone && !o.refused {
		c.ending = true
	}
}

// drop closes a party that spoke out of turn.
func (c *conn) drop(p *party) {
	c.mu.Lock()
	p.gone, p.err = true, errOutOfTurn
	c.lockedWake(true)
	c.mu.Unlock()
	_ = p.Close()
}

// hasLastWord reports whether what p leaves unfinished is for the client.
func (c *conn) hasLastWord(p *party) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.turn == p && (p.claim == nil || c.raw == p)
}
