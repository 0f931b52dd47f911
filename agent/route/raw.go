package route

import (
	"context"
	"time"
)

// giveRaw gives all bytes from the current request's first one on to the party that has what no filter wants.
func (c *conn) giveRaw(ctx context.Context) error {
	c.tellSealed()
	if err := c.flush(); err != nil {
		return err
	}
	frames := false
	if c.fresh() {
		var err error
		if frames, err = c.prefaced(); err != nil {
			return err
		}
	}
	if frames && c.deserted() {
		return c.serveAlone(ctx)
	}
	if err := c.toBase(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if frames {
		c.lockedFrames(c.turn)
		c.turn.poke() // Its relay is to leave its answers to those who follow frames.
	}
	c.raw = c.turn
	return errChanged
}

// tellSealed lets sessions know that their filters cannot look into what begins here.
func (c *conn) tellSealed() {
	isTLS := c.proxy.config.IsTLS
	if isTLS == nil || !isTLS(c.client.in.bytes()[c.ready:]) {
		return
	}
	for _, e := range c.port.now().filtered {
		if e.Sealed != nil {
			e.Sealed()
		}
	}
}

// toBase makes it that party's turn.
func (c *conn) toBase(ctx context.Context) error {
	if c.base == nil || c.base.gone.Load() {
		return c.toOriginal(ctx)
	}
	if err := c.await(func() bool { return c.turn.asked.n == 0 && !c.closing }); err != nil {
		return err
	}
	p, err := c.stream(ctx, c.base, Raw)
	if err != nil {
		return c.toOriginal(ctx)
	}
	c.mu.Lock()
	c.turn = p
	c.mu.Unlock()
	return nil
}

// pipe is the request side of a raw connection. What a session has not begun to answer is kept, as far as the buffer goes:
// a session that turns out never to have been connected loses the connection to the original.
func (c *conn) pipe(ctx context.Context, p *party) error {
	if relay := c.framesWith(p); relay != nil {
		if done, err := c.serveFrames(ctx, relay); done {
			return err
		}
	}
	in := &c.client.in
	keep, sent := p.claim != nil, 0
	for {
		if b := in.bytes()[sent:]; len(b) > 0 {
			if _, err := p.Write(b); err != nil {
				break
			}
			sent = in.len()
		}
		keep = keep && !c.hasAnswered(p) && !in.full()
		if !keep {
			in.discard(sent)
			sent = 0
		}
		if c.eof {
			c.tellEnd()
			break
		}
		if over, err := c.pipeFill(p); over || err != nil {
			if err != nil {
				return err
			}
			break
		}
	}
	return c.pipeEnd(ctx, p, keep)
}

// pipeFill reads on. It reports true when there is no use in more bytes.
func (c *conn) pipeFill(p *party) (bool, error) {
	c.mu.Lock()
	winding, failed := c.winding, p.gone && p.claim != nil && !p.answered && !isEnd(p.err)
	c.mu.Unlock()
	if failed {
		return true, nil
	}
	if winding {
		_ = c.client.SetReadDeadline(time.Now().Add(windingUp))
	}
	n, err := c.fill()
	return winding && n == 0 && !c.eof, err
}

// pipeEnd waits for the other direction.
func (c *conn) pipeEnd(ctx context.Context, p *party, keep bool) error {
	c.mu.Lock()
	for !p.gone && !c.dead {
		c.change.Wait()
	}
	dead, silent, err := c.dead, !p.answered, p.err
	c.mu.Unlock()
	switch {
	case dead:
		return errOver
	case keep && silent && unaccepted(err):
		return c.pipeOriginal(ctx)
	case p.claim != nil && silent && !isEnd(err):
		c.abort()
		return errOver
	}
	return c.finish()
}

// pipeOriginal starts the raw connection again with the original.
func (c *conn) pipeOriginal(ctx context.Context) error {
	c.mu.Lock()
	c.raw = nil
	c.mu.Unlock()
	if err := c.toOriginal(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	c.raw = c.turn
	c.mu.Unlock()
	return errChanged
}

func (c *conn) hasAnswered(p *party) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return p.answered
}
