package route

import (
	"context"
	"errors"
	"io"
	"time"
)

// finishHalf ends a connection whose client says no more. What is left of a request goes on as it came; answers that are owed come.
func (c *conn) finishHalf(ctx context.Context) error {
	c.mu.Lock()
	p, served := c.turn, c.turn.served || c.turn.asked.n > 0
	c.mu.Unlock()
	if c.client.in.len() > 0 || !served {
		return c.giveRaw(ctx)
	}
	c.tellEnd()
	err := c.await(func() bool { return p.gone || p.claim != nil && p.asked.n == 0 })
	if err != nil {
		return err
	}
	return errOver
}

// finish ends the connection from our side, after the answer that is written, or missing.
func (c *conn) finish() error {
	c.mu.Lock()
	c.finished = true
	broken, parties := c.broken, c.parties
	c.mu.Unlock()
	if broken {
		p := c.turn // has ended
		c.refuse(p.claim, p.asked.at(0), p.asked.trip(0), "it ended in the middle of its answer")
	}
	for _, p := range parties {
		c.hangUp(p)
	}
	c.client.closeWrite()
	limit := time.Now().Add(lingering)
	for !c.eof && time.Now().Before(limit) {
		c.client.in.discard(c.client.in.len())
		_ = c.client.SetReadDeadline(limit)
		if _, err := c.fill(); err != nil {
			return err
		}
	}
	return errOver
}

// refuse answers for a session that cannot.
func (c *conn) refuse(e *claim, a ask, t *trip, cause string) {
	head := a.method == methodHead
	if _, err := c.client.Write(failure(e.Session, cause, head)); err != nil {
		return // finish notices
	}
	if t != nil {
		t.Status = 502
		c.report([]*trip{t})
	}
}

// hangUp closes p if it ever was connected.
func (c *conn) hangUp(p *party) {
	c.mu.Lock()
	s := p.socket
	c.mu.Unlock()
	if s != nil {
		_ = s.Close()
	}
}

// abort ends everything at once, so that nobody takes it for a proper end. Safe for concurrent use.
func (c *conn) abort() {
	c.mu.Lock()
	c.dead = true
	var open []*socket
	for _, p := range c.parties {
		if p.socket != nil {
			open = append(open, p.socket)
		}
	}
	c.change.Broadcast()
	c.mu.Unlock()
	c.client.reset()
	for _, s := range open {
		s.reset()
	}
}

// close frees what the connection had, and waits for its relays.
func (c *conn) close() {
	c.mu.Lock()
	c.dead = true
	parties := c.parties
	c.mu.Unlock()
	for _, p := range parties {
		c.hangUp(p)
	}
	_ = c.client.Close()
	c.relays.Wait()
	c.client.in.free()
}

func isEnd(err error) bool { return errors.Is(err, io.EOF) }
