package route

import (
	"bytes"
	"context"
	"encoding/base64"
	"strings"
	"time"

	"github.com/magpie-k8s/magpie/agent/route/h2"
	"github.com/magpie-k8s/magpie/filters"
)

// frames is what a conn knows of HTTP/2.
type frames struct {
	relay *h2.Relay // nil: there was only a wish
	party *party    // in the place of the original

	wish     bool   // the last request wishes to go on in HTTP/2 (RFC 7540 section 3.2)
	settings []byte // and these are the client's then
}

// A side is a socket as package h2 knows it.
type side struct{ *socket }

func (s side) Fill() error {
	_, err := s.fill()
	return err
}

func (s side) Bytes() []byte { return s.in.bytes() }
func (s side) Discard(n int) { s.in.discard(n) }
func (s side) CloseWrite()   { s.closeWrite() }
func (s side) Reset()        { s.reset() }

// A framedClaim is a claim on the streams of one connection.
type framedClaim struct {
	conn  *conn
	claim *claim
}

func (f framedClaim) Session() string { return f.claim.Session }
func (f framedClaim) Gone() bool      { return f.claim.gone.Load() }

func (f framedClaim) Open(ctx context.Context) (h2.Conn, error) {
	p, err := f.conn.connect(ctx, f.claim, HTTP2)
	if err != nil {
		return nil, err
	}
	return side{p.socket}, nil
}

// fresh reports whether nobody was asked anything on the connection yet.
func (c *conn) fresh() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lockedFresh()
}

func (c *conn) lockedFresh() bool {
	for _, p := range c.parties {
		if p.served || p.asked.n > 0 || p.claim != nil && p.claim != c.base {
			return false
		}
	}
	return true
}

// prefaced reports whether the client begins as HTTP/2 does. It waits for the bytes that tell.
func (c *conn) prefaced() (bool, error) {
	for {
		b := c.client.in.bytes()
		n := min(len(b), len(h2.Preface))
		if string(b[:n]) != h2.Preface[:n] {
			return false, nil
		}
		if n == len(h2.Preface) {
			return true, nil
		}
		c.mu.Lock()
		changed := c.dead || c.ending || c.turn != nil && c.turn.gone
		c.mu.Unlock()
		if c.eof || changed {
			return false, nil
		}
		if _, err := c.fill(); err != nil {
			return false, err
		}
	}
}

// lockedFrames makes frames of the connection with p, who is asked the first time.
func (c *conn) lockedFrames(p *party) {
	if c.frames != nil || !c.lockedFresh() {
		return
	}
	c.frames = &frames{party: p, relay: c.newRelay(side{p.socket})}
}

func (c *conn) newRelay(original h2.Conn) *h2.Relay {
	return h2.New(h2.Config{
		Choose:   c.chooseFrames,
		Retired:  func() bool { return c.port.retired(c.proxy.config.Linger) },
		Observed: func() bool { return len(c.port.now().observers) > 0 },
		Observe:  c.observeFrames,
	}, side{c.client}, original)
}

// wishes notes whether a request that passes, with an Upgrade field, wishes to go on in HTTP/2.
func (c *conn) wishes(head []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frames = nil; !wishesHTTP2(head) {
		return
	}
	for name, value := range fieldLines(head) {
		if fold(name, "http2-settings") {
			settings, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(string(bytes.TrimSpace(value)), "="))
			if err == nil {
				c.frames = &frames{wish: true, settings: settings}
			}
		}
	}
}

// grants reports whether p fulfils such a wish with an answer of this head: frames follow.
func (c *conn) grants(p *party, head []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frames == nil || !c.frames.wish || p != c.turn || p.claim != c.base || !wishesHTTP2(head) {
		return false
	}
	c.frames.party, c.frames.relay = p, c.newRelay(side{p.socket})
	c.frames.relay.Upgraded(c.frames.settings)
	return true
}

// framesWith returns the relay if p has the connection and it speaks HTTP/2, or may; else nil.
func (c *conn) framesWith(p *party) *h2.Relay {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frames == nil || c.frames.party != p {
		return nil
	}
	return c.frames.relay
}

// serveFrames relays frames to the end of the connection. It reports false if it turns out that there are none.
func (c *conn) serveFrames(ctx context.Context, relay *h2.Relay) (bool, error) {
	ok, err := c.prefaced()
	if err != nil {
		return true, err
	}
	if ok && relay.ServeClient(ctx) {
		return true, errOver
	}
	relay.GiveRaw()
	return false, nil
}

// deserted waits until the original can be asked, and reports whether it never will.
func (c *conn) deserted() bool {
	c.mu.Lock()
	o := c.original
	c.mu.Unlock()
	if o == nil || c.base != nil {
		return false
	}
	err := c.await(func() bool { return o.ready || o.gone })
	c.mu.Lock()
	defer c.mu.Unlock()
	return err == nil && o.gone && o.refused
}

// serveAlone relays frames without an original. A client that does not soon ask for what a session has is let down as by the kernel.
func (c *conn) serveAlone(ctx context.Context) error {
	nobody := h2.NewAbsent()
	relay := c.newRelay(nobody)
	nobody.Use(relay)
	timer := time.AfterFunc(unserved, func() { nobody.Leave(relay) })
	defer timer.Stop()
	c.relays.Go(func() { _ = relay.ServeOriginal(nil) })
	relay.ServeClient(ctx)
	return errOver
}

// greets reports whether p, whom nobody has asked, begins as HTTP/2 servers may: with settings, before the client has said
// a word. The client's first bytes will tell; it may be waiting for the server's until then.
func (c *conn) greets(p *party) bool {
	b := p.in.bytes()
	if p.unframed || !h2.IsSettings(b) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turn != p || c.raw != nil || p.claim != c.base {
		return false
	}
	c.lockedFrames(p)
	if c.frames == nil {
		return false
	}
	c.raw, p.unframed, p.answered = p, true, true
	c.lockedWake(true)
	return true
}

// chooseFrames asks the claims in their order, as choose does.
func (c *conn) chooseFrames(r *filters.Request, final bool) (whom h2.Local, undecided bool) {
	var coding []byte
	for _, f := range r.Fields {
		switch string(f.Name) {
		case "user-agent":
			if probes(f.Value) {
				return nil, false
			}
		case "content-encoding":
			coding = f.Value
		}
	}
	if r.BodyKnown && len(r.Body) > 0 {
		if r.Body, r.BodyKnown = inflate(r.Body, coding); !r.BodyKnown {
			r.Body, final = nil, true
		}
	}
	claims := c.port.now()
	e, undecided := claims.judge(r)
	if undecided && final {
		e, undecided = claims.first(r), false // what cannot be known chooses nobody
	}
	if e == nil {
		return nil, undecided
	}
	return framedClaim{c, e}, false
}

func (c *conn) observeFrames(e h2.Exchange) {
	for _, observe := range c.port.now().observers {
		observe(Exchange{
			Session: e.Session, Lost: e.Lost, Client: c.remote,
			Method: e.Method, Path: e.Path, Status: e.Status, Duration: e.Duration,
		})
	}
}
