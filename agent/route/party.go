package route

import (
	"errors"
	"sync/atomic"
	"syscall"
)

// maxPipelined is how many requests may be on their way to the original before the first is answered. Then the client's bytes
// wait in its socket.
const maxPipelined = 64

// A party is someone who answers on a client connection: the original or a session. Its relay forwards what it says.
type party struct {
	*socket        // nil until ready
	claim   *claim // nil: the original

	// The relay's own.
	reply    reply
	body     body        // what is left of the answer's body
	final    bool        // the head of a final answer was read
	last     bool        // nothing follows this answer
	unframed bool        // bytes are forwarded without being read
	spared   atomic.Bool // the client has had its 100 from us: the next one is left out

	// Guarded by conn.mu.
	ready    bool
	gone     bool  // nothing more will come from it
	err      error // why; io.EOF for a proper end
	asked    asked
	answered bool // something came since the latest request of a session, or since the start
	served   bool // has answered a request
	refused  bool // never was connected
}

// fill waits for what p says. It leaves out the 100 that the client has had from us, if p says it: the one byte that we keep back.
func (p *party) fill() (int, error) {
	n, err := p.socket.fill()
	if n > 0 && p.spared.Load() && !p.unframed {
		p.spare()
	}
	return n, err
}

// spare looks for the first 100 before a final answer and cuts it out.
func (p *party) spare() {
	for at := 0; ; {
		var r reply
		switch v := r.parse(p.in.bytes()[at:]); {
		case v == incomplete:
			return
		case v == clean && r.status == 100:
			p.in.cut(at, at+r.n)
			p.reply = reply{} // of what may have been read of it
		case v == clean && r.interim():
			at += r.n
			continue
		}
		p.spared.Store(false)
		return
	}
}

// An ask is what must be known about a request to read its answer.
type ask struct {
	method method
	closes bool // the client takes no further answer
	seen   bool // somebody observes
}

// asked is the queue of requests without a final answer.
type asked struct {
	asks    [maxPipelined]ask
	trips   []*trip // of the same places; nil until somebody observes
	head, n int
}

func (a *asked) push(q ask, t *trip) {
	i := (a.head + a.n) % maxPipelined
	q.seen = t != nil
	a.asks[i] = q
	if t != nil && a.trips == nil {
		a.trips = make([]*trip, maxPipelined)
	}
	if a.trips != nil {
		a.trips[i] = t
	}
	a.n++
}

func (a *asked) at(k int) ask { return a.asks[(a.head+k)%maxPipelined] }

// trip returns the observed trip of the k-th request, nil if nobody observed.
func (a *asked) trip(k int) *trip {
	if a.trips == nil {
		return nil
	}
	return a.trips[(a.head+k)%maxPipelined]
}

func (a *asked) pop() {
	if a.trips != nil {
		a.trips[a.head] = nil
	}
	a.head = (a.head + 1) % maxPipelined
	a.n--
}

// unaccepted reports whether err can only come from a connection that never was, so that no byte was acted on.
func unaccepted(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
}
