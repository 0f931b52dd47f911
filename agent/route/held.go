package route

import (
	"context"
	"time"
)

// glance is the pause between two looks at who still waits for an answer.
const glance = 5 * time.Millisecond

// Held returns how many connections nobody can bring to an end in peace: those that are raw with the original, and those whose client has been
// waiting for one and the same answer of the original for all of patience. It returns early when it knows.
func (p *Proxy) Held(ctx context.Context, patience time.Duration) int {
	waiting, raw := p.engaged()
	if raw > 0 {
		return raw + len(waiting)
	}
	tick := time.NewTicker(glance)
	defer tick.Stop()
	for end := time.Now().Add(patience); len(waiting) > 0 && time.Now().Before(end) && ctx.Err() == nil; <-tick.C {
		now, _ := p.engaged()
		for c, at := range waiting {
			if again, still := now[c]; !still || !again.same(at) {
				delete(waiting, c)
			}
		}
	}
	return len(waiting)
}

// A place is that of the answer that a client is waiting for.
type place struct {
	turn int // HTTP/1: in the queue
	// HTTP/2: the lowest and the highest stream that are open
	oldest, newest uint32
}

// same reports whether somebody who waited then, waits still.
func (p place) same(then place) bool { return p.turn == then.turn && p.oldest <= then.newest }

// engaged returns which connections wait for an answer of the original, each with the place of that answer, and counts the raw ones.
func (p *Proxy) engaged() (waiting map[*conn]place, raw int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting = map[*conn]place{}
	for c := range p.conns {
		c.mu.Lock()
		switch o := c.original; {
		case o == nil || c.dead || c.finished:
		case c.frames != nil && c.frames.party == o && c.frames.relay.Follows():
			if oldest, newest := c.frames.relay.Open(); newest > 0 {
				waiting[c] = place{oldest: oldest, newest: newest}
			}
		case c.raw == o:
			raw++
		case o.asked.n > 0:
			waiting[c] = place{turn: o.asked.head}
		}
		c.mu.Unlock()
	}
	return waiting, raw
}
