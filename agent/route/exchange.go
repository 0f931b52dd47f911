package route

import (
	"net/netip"
	"time"
)

// An Exchange is one request with its final answer.
type Exchange struct {
	Session  string // who answered; empty: the original
	Lost     string // the session that was to answer and could not
	Client   netip.AddrPort
	Method   string
	Path     string // with the query, as sent
	Status   int
	Duration time.Duration // from the head of the request to the last byte of the answer
}

// A trip is an exchange under way.
type trip struct {
	Exchange
	started time.Time
}

// trip notes the request whose head is b, if the port has observers. It costs nothing otherwise.
func (c *conn) trip(b []byte, e *claim) *trip {
	if len(c.port.now().observers) == 0 {
		return nil
	}
	h := &c.head
	t := &trip{started: h.since}
	if h.since.IsZero() {
		t.started = time.Now()
	}
	t.Client = c.remote
	t.Method = string(b[:h.name])
	t.Path = string(b[h.name+1 : h.target])
	if e != nil {
		t.Session = e.Session
	}
	return t
}

// report tells the observers of the port that the trips are over.
func (c *conn) report(trips []*trip) {
	for _, t := range trips {
		t.Duration = time.Since(t.started)
		for _, observe := range c.port.now().observers {
			observe(t.Exchange)
		}
	}
}
