package route

import (
	"context"
	"io"
	"time"

	"github.com/magpie-k8s/magpie/filters"
)

const (
	// maxHeld is how long a request may be, head and body as they were sent, whose body has to be looked at. It waits in the
	// client's buffer, which holds no more.
	maxHeld = largeBuffer
	// heldFor is how long after its head the body may take to come. A filter is no reason to make a slow client's request slower
	// than that; the original hears nothing of it meanwhile.
	heldFor = time.Second
)

const goOn = "HTTP/1.1 100 Continue\r\n\r\n"

// weigh finds who gets the request at the start of the buffer, for which some filter has to see the body. A body that is too long,
// too slow or cannot be read chooses nobody who asks for it.
func (c *conn) weigh(ctx context.Context) (*claim, error) {
	if err := c.flush(); err != nil {
		return nil, err
	}
	n, err := c.hold()
	if err != nil {
		return nil, err
	}
	b := c.client.in.bytes()
	var body []byte
	known := n > 0
	if known {
		body, known = c.content(b[:n])
	}
	e, _ := c.choose(b, body, known)
	c.match.Body = nil // an idle connection keeps nothing
	return e, nil
}

// hold waits until the request at the start of the buffer is there as a whole, and returns its length; 0 when it is not to be
// waited for any longer. Answers to earlier requests go on meanwhile.
func (c *conn) hold() (int, error) {
	h, in := &c.head, &c.client.in
	h.since = time.Now()
	if h.length > int64(maxHeld-h.n) {
		return 0, nil
	}
	limit := h.since.Add(heldFor)
	b, n := h.body(), h.n
	for {
		fed, ok := b.feed(in.bytes()[n:])
		n += fed
		switch {
		case !ok || b.open() && (c.eof || in.full() || !time.Now().Before(limit)):
			return 0, nil
		case !b.open():
			return n, nil
		}
		if err := c.waitHeld(limit, n == h.n); err != nil {
			return 0, err
		}
	}
}

// waitHeld waits for the next bytes of a request that is held, or for something else to change. A client that has sent nothing of
// its body may be waiting to be told to; it is told once all before is answered.
func (c *conn) waitHeld(limit time.Time, nothing bool) error {
	// From here on a poke ends the wait; so what it is about is looked at after this.
	_ = c.client.SetReadDeadline(limit)
	defer func() { _ = c.client.SetReadDeadline(time.Time{}) }()
	c.mu.Lock()
	expects := nothing && c.head.expects && c.head.minor == '1' && !c.head.continued
	quiet := c.turn.asked.n == 0
	changed := c.dead || c.raw != nil || c.ending
	c.impatient = expects && !quiet && !changed
	c.mu.Unlock()
	switch {
	case changed:
		return errChanged
	case expects && quiet:
		c.head.continued = true
		if _, err := io.WriteString(c.client, goOn); err != nil {
			c.abort()
			return errOver
		}
	}
	_, err := c.fill()
	c.mu.Lock()
	c.impatient = false
	c.mu.Unlock()
	return err
}

// content returns the body of the request b, which is whole, as its sender wrote it: without chunks, and inflated. It reports false
// if it does not know how.
func (c *conn) content(b []byte) ([]byte, bool) {
	h := &c.head
	content := b[h.n:]
	if h.chunked {
		content = unchunk(content)
	}
	var coding []byte
	for _, f := range h.fields {
		if fold(b[f.name:f.colon], "content-encoding") {
			if coding != nil {
				return nil, false
			}
			coding = b[f.value:f.end]
		}
	}
	return inflate(content, coding)
}

// request is what filters get to see of the request whose head is clean at the start of b.
func (c *conn) request(b, body []byte, known bool) *filters.Request {
	h := &c.head
	r := &c.match
	r.Method, r.Path = b[:h.name], b[h.name+1:h.target]
	r.Fields = r.Fields[:0]
	if cap(r.Fields) > keptFields {
		r.Fields = nil
	}
	for _, f := range h.fields {
		r.Fields = append(r.Fields, filters.Field{Name: b[f.name:f.colon], Value: b[f.value:f.end]})
	}
	r.Body, r.BodyKnown = body, known
	return r
}
