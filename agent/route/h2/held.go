package h2

import (
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// tooLong reports whether a request says that its body is longer than we hold.
func tooLong(fields []hpack.HeaderField) bool {
	n, err := strconv.ParseInt(value(fields, "content-length"), 10, 64)
	return err == nil && n > maxKept
}

// lockedHold keeps a request for which a filter has to see the body. Other streams go on meanwhile.
func (r *Relay) lockedHold(s *stream) {
	s.theft.held = time.AfterFunc(heldFor, func() { r.weigh(s) })
}

// weigh gives a held request to whom it belongs, whether its body has come or not.
func (r *Relay) weigh(s *stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.streams[s.id] == s && s.theft != nil && s.theft.held != nil && !r.aborted {
		r.lockedJudge(s)
	}
}

// lockedWeigh does so if it is time.
func (r *Relay) lockedWeigh(s *stream) {
	if t := s.theft; t != nil && t.held != nil && (s.asked || len(t.up.buf) > maxKept || r.kept > maxStuck) {
		r.lockedJudge(s)
	}
}

// lockedJudge ends the holding of a request.
func (r *Relay) lockedJudge(s *stream) {
	t := s.theft
	t.held.Stop()
	t.held = nil
	var k blocks
	var whom Local
	if q := k.requestOf(t.fields); q != nil {
		q.Body, q.BodyKnown = t.up.buf, s.asked && len(t.up.buf) <= maxKept
		whom, _ = r.config.Choose(q, true)
	}
	if whom == nil {
		r.lockedLetGo(s)
		return
	}
	t.whom = whom
	if s.trip != nil {
		s.trip.Session = whom.Session()
	}
	r.lockedStolen(t.paid)
	r.stuck += t.up.unsent()
	r.lockedKeep(t, 0)
	r.lockedSend(s)
	r.lockedRepay()
}

// lockedLetGo gives a request that was held to the original. Its bytes were not given back to the client: they are what the
// original has still to take.
func (r *Relay) lockedLetGo(s *stream) {
	t := s.theft
	n := len(t.up.buf)
	if t.own = true; r.lockedPasses(s) {
		r.lockedStolen(t.paid - n)
		return
	}
	r.lockedStolen(t.paid)
	r.lockedBreak(s, http2.ErrCodeRefusedStream)
}
