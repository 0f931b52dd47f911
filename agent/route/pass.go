package route

import (
	"context"
	"slices"

	"github.com/magpie-k8s/magpie/filters"
)

// route gives the request whose head is complete at b to whom it belongs.
func (c *conn) route(ctx context.Context, b []byte) error {
	if e := c.choose(b); e != nil {
		if err := c.steal(ctx, e); err != nil {
			return err
		}
		if c.ready > 0 { // lost to the original
			return nil
		}
		return errChanged // A poke meant for later may have been used up: look again at everything.
	}
	err := c.pass(ctx, c.trip(b, nil))
	if err == nil {
		c.ready += c.head.n
		c.intoBody()
	}
	return err
}

// choose asks the claims in their order. The kubelet's probes are nobody's but the original's.
func (c *conn) choose(b []byte) *claim {
	h := &c.head
	if h.probe {
		return nil
	}
	claims := c.port.now()
	if len(claims.filtered) > 0 {
		c.match.Method, c.match.Path = b[:h.name], b[h.name+1:h.target]
		c.match.Fields = c.match.Fields[:0]
		if cap(c.match.Fields) > keptFields {
			c.match.Fields = nil
		}
		for _, f := range h.fields {
			c.match.Fields = append(c.match.Fields, filters.Field{Name: b[f.name:f.colon], Value: b[f.value:f.end]})
		}
		if e := claims.first(&c.match); e != nil {
			return e
		}
	}
	if c.base != nil && !c.base.gone.Load() {
		return c.base
	}
	return nil
}

// intoBody goes on from the head to the body.
func (c *conn) intoBody() {
	c.body = c.head.body()
	c.holds = c.head.upgrade || c.head.method == methodConnect
	c.head.reset()
}

// pass gives the request to the original. Its head is not made ready here.
func (c *conn) pass(ctx context.Context, t *trip) error {
	for !c.ask(t) {
		if err := c.flush(); err != nil {
			return err
		}
		if err := c.toOriginal(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ask notes that the original is about to get the request, if it is its turn and it can take one more.
func (c *conn) ask(t *trip) bool {
	h := &c.head
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.original
	if p == nil || c.turn != p || !p.ready || p.gone || p.asked.n == maxPipelined || c.raw != nil || c.ending || c.closing {
		return false
	}
	p.asked.push(ask{method: h.method, closes: !h.lasts()}, t)
	if h.chunked || h.length > 0 {
		c.sending, c.long = true, true
	}
	return true
}

// toOriginal makes it the original's turn once all else is answered. A client without an original is reset, as the kernel would
// have done.
func (c *conn) toOriginal(ctx context.Context) error {
	err := c.await(func() bool {
		n := c.turn.asked.n
		return !c.closing && (n == 0 || c.turn == c.original && n < maxPipelined)
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	if o := c.original; o == nil || o.gone && !o.refused && c.turn != o {
		c.lockedDial(ctx)
	}
	o := c.original
	c.turn = o
	c.mu.Unlock()
	if err := c.await(func() bool { return o.ready || o.gone }); err != nil {
		return err
	}
	c.mu.Lock()
	gone := o.gone
	c.mu.Unlock()
	if gone {
		c.abort()
		return errOver
	}
	return nil
}

// lockedDial starts to connect to the original. One that has gone is forgotten.
func (c *conn) lockedDial(ctx context.Context) {
	if old := c.original; old != nil {
		c.parties = slices.DeleteFunc(slices.Clone(c.parties), func(p *party) bool { return p == old })
	}
	p := &party{}
	c.original = p
	c.parties = append(c.parties, p)
	c.relays.Add(1)
	go c.dial(ctx, p)
}
