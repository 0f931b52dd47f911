package route

import (
	"context"
	"slices"

	"github.com/magpie-k8s/magpie/filters"
)

// route gives the request whose head is complete at b to whom it belongs.
func (c *conn) route(ctx context.Context, b []byte) error {
	e, undecided := c.choose(b, nil, !c.head.chunked && c.head.length == 0)
	if undecided {
		var err error
		if e, err = c.weigh(ctx); err != nil {
			return err
		}
		b = c.client.in.bytes() // has grown
	}
	if e != nil {
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
		if c.head.upgrade {
			c.wishes(c.client.in.bytes()[c.ready:][:c.head.n]) // b may have been moved
		}
		c.ready += c.head.n
		c.intoBody()
	}
	return err
}

// choose asks the claims in their order. The kubelet's probes are nobody's but the original's. It reports true when the one whose
// turn it is has to see the body first, unless the request was held for that before.
func (c *conn) choose(b, body []byte, known bool) (e *claim, undecided bool) {
	if c.head.probe {
		return nil, false
	}
	if claims := c.port.now(); len(claims.filtered) > 0 {
		match := c.request(b, body, known)
		e, undecided := claims.judge(match)
		if undecided && !c.head.since.IsZero() {
			e, undecided = claims.first(match), false // what cannot be known chooses nobody
		}
		if e != nil || undecided {
			return e, undecided
		}
	}
	if c.base != nil && !c.base.gone.Load() {
		return c.base, false
	}
	return nil, false
}

// judge returns the claim that wants the request, before it one that cannot say yet: then it reports true.
func (o *order) judge(r *filters.Request) (e *claim, undecided bool) {
	for _, c := range o.filtered {
		switch c.Filter.Judge(r) {
		case filters.Yes:
			return c, false
		case filters.NeedsBody:
			return nil, true
		}
	}
	return nil, false
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
	if h.continued {
		p.spared.Store(true)
	}
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
	gone, raw := o.gone, c.raw
	c.mu.Unlock()
	switch {
	case raw != nil: // It has ended properly just now; what the client still says is for it all the same.
		return errChanged
	case gone:
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
