package h2

import (
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A theft is what a stream has when it belongs to a session.
type theft struct {
	whom   Local
	local  *local              // nil: it has nothing more to do with the stream
	fields []hpack.HeaderField // while whole, or not started
	method string
	grpc   string // the content type, if that is gRPC's
	alone  bool   // the head ended the request: some servers tell that from a head with empty data (grpc-go waits for those)

	started bool // the local process was sent the head
	heard   bool // and has said something of an answer
	final   bool // all of its head
	quits   bool // after the answer the client is to stop, with quit
	quit    http2.ErrCode
	listed  bool  // for local's writer
	whole   bool  // all of the request is still here
	again   bool  // it is the second time
	reused  bool  // on a connection that had served before
	granted int64 // how much more the client may send than at first
	opened  int64 // window updates for the answer that the local process was not told of
	raised  int64 // all of them

	held  *time.Timer // it is not known yet whose it is
	paid  int         // what the client has sent for it until then
	own   bool        // of which nothing was given back to the client
	wants bool        // it is to pass when the original takes that much
	pads  int         // how much of all that it has sent is padding
	kept  int         // how much of it is here

	up, down pipe
}

// A pipe is what is on its way in one direction of a stolen stream.
type pipe struct {
	buf      []byte
	next     int // what is before was sent
	trailers []hpack.HeaderField
	block    []byte // the head of an answer, or its trailers, encoded
	head     bool   // there is a block, to be sent after buf
	end      bool   // nothing will be added
	ended    bool   // and all was sent
	waits    bool   // for the connection's window

	sink   int64 // what the receiver takes
	credit int64 // what the sender may send
}

func (p *pipe) unsent() int { return len(p.buf) - p.next }

// forget gives up what was sent.
func (p *pipe) forget() {
	if p.next == 0 {
		return
	}
	n := copy(p.buf, p.buf[p.next:])
	p.buf, p.next = p.buf[:n], 0
	if n == 0 && cap(p.buf) > keptMemory {
		p.buf = nil
	}
}

func newTheft(whom Local, fields []hpack.HeaderField) *theft {
	t := &theft{whom: whom, fields: fields, whole: true, method: value(fields, ":method")}
	if kind := value(fields, "content-type"); strings.HasPrefix(kind, "application/grpc") {
		t.grpc = kind
	}
	return t
}

// lockedTake takes a new stream from the original.
func (r *Relay) lockedTake(s *stream, end bool) {
	t := s.theft
	t.up.credit, t.down.sink = r.asked.window, r.answered.window
	s.at = 0
	s.asked, t.up.end, t.alone = end, end, end
	r.stolen++
}

// lockedSend finds a connection to the session for s.
func (r *Relay) lockedSend(s *stream) {
	l := r.lockedLocal(s.theft.whom)
	if l == nil {
		r.lockedBreak(s, http2.ErrCodeRefusedStream)
		return
	}
	s.theft.local, s.theft.reused = l, l.served
	l.load++
	r.lockedReady(s)
}

// lockedReady lets the local process's writer look at s.
func (r *Relay) lockedReady(s *stream) {
	if t := s.theft; t != nil && t.local != nil && !t.listed {
		t.listed = true
		t.local.ready = append(t.local.ready, s)
		t.local.wake.Signal()
	}
}

// lockedSteals deals with a DATA frame of a stolen stream.
func (q *requests) lockedSteals(s *stream, h header, rest []byte) (more bool, err error) {
	lead, pad := headerLen, 0
	if h.has(flagPadded) {
		if len(rest) <= headerLen && h.length > 0 {
			return true, nil
		}
		if h.length == 0 || int(rest[headerLen]) >= h.length {
			return false, http2.ConnectionError(http2.ErrCodeProtocol)
		}
		lead, pad = headerLen+1, int(rest[headerLen])
	}
	t := s.theft
	if t.held != nil {
		t.paid += h.length
	} else {
		q.lockedStolen(h.length)
	}
	t.pads += lead - headerLen + pad
	q.left, q.to, q.lead, q.pad = headerLen+h.length, s, lead, pad
	if t.up.credit -= int64(h.length); t.up.credit+q.lockedAhead() < 0 {
		q.lockedBreak(s, http2.ErrCodeFlowControl)
		return false, nil
	}
	if h.has(flagEndStream) {
		q.done = s
	}
	return false, nil
}

// stolenData takes a part of the data of a stolen stream.
func (q *requests) stolenData(s *stream, part []byte) {
	if len(part) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	t := s.theft
	switch {
	case q.streams[s.id] != s:
		return
	case t == nil: // It was lost to the original meanwhile.
		q.lockedPassData(s, part, false)
		return
	case t.held != nil, t.wants:
		t.up.buf = append(t.up.buf, part...)
		t.kept += len(part)
		q.kept += len(part)
		q.lockedWeigh(s)
		return
	}
	if t.local == nil || t.up.ended {
		return
	}
	t.up.buf = append(t.up.buf, part...)
	q.stuck += len(part)
	if t.whole {
		q.lockedKeep(t, len(part))
	}
	q.lockedReady(s)
}

// lockedKeep keeps n bytes more for asking somebody else, if that is not too much.
func (r *Relay) lockedKeep(t *theft, n int) {
	t.kept += n
	r.kept += n
	if t.kept > maxKept || r.kept > maxStuck {
		r.lockedRelease(t)
	}
}

// lockedRelease gives up asking anybody else.
func (r *Relay) lockedRelease(t *theft) {
	r.kept -= t.kept
	t.kept, t.whole = 0, false
	if t.started {
		t.fields = nil
	}
	t.up.forget()
}

func (r *Relay) lockedTrailers(s *stream, fields []hpack.HeaderField, end bool) {
	switch t := s.theft; {
	case r.streams[s.id] != s:
	case t == nil:
		r.lockedSendHead(s, fields, end, nil)
		if end {
			r.lockedAsked(s)
		}
	case s.asked:
		r.lockedBreak(s, http2.ErrCodeStreamClosed)
	case !end: // RFC 9113 section 8.1: trailers end the request
		r.lockedBreak(s, http2.ErrCodeProtocol)
	default:
		t.up.trailers = fields
		r.lockedAsked(s)
	}
}

// lockedStreamOpened notes that the client takes n bytes more of the answer.
func (r *Relay) lockedStreamOpened(s *stream, n int64) {
	t := s.theft
	if t.down.sink += n; n == 0 || t.down.sink > maxWindow {
		code := http2.ErrCodeFlowControl
		if n == 0 {
			code = http2.ErrCodeProtocol
		}
		r.lockedBreak(s, code)
		return
	}
	t.opened += n
	t.raised += n
	r.lockedReady(s)
	l := t.local
	r.lockedPour(s)
	if l != nil {
		l.lockedReturn()
	}
}

// lockedCancel is called when the client resets a stolen stream.
func (r *Relay) lockedCancel(s *stream, code http2.ErrCode) {
	r.lockedLeave(s, code)
	r.lockedReport(s)
	r.lockedRemove(s)
	r.lockedOver()
}

// lockedCancelUnasked resets the stolen streams whose requests will not be completed.
func (r *Relay) lockedCancelUnasked() {
	for _, s := range r.streams {
		if s.theft != nil && !s.asked {
			r.lockedCancel(s, http2.ErrCodeCancel)
		}
	}
}

// lockedBreak resets a stream on both sides. The original's is the client's to reset.
func (r *Relay) lockedBreak(s *stream, code http2.ErrCode) {
	if s.theft == nil {
		return
	}
	id := s.id
	r.toClient.add(func(b []byte) []byte { return appendReset(b, id, code) })
	r.lockedCancel(s, code)
}

// lockedLeave takes the stream from its local process.
func (r *Relay) lockedLeave(s *stream, code http2.ErrCode) {
	t := s.theft
	if t.held != nil {
		t.held.Stop()
		t.held = nil
		r.lockedStolen(t.paid)
		return
	}
	if t.local != nil {
		r.stuck -= t.up.unsent()
	}
	l := t.local
	if l == nil {
		return
	}
	l.owed += t.down.unsent()
	l.load--
	t.local = nil
	l.lockedForget(t)
	if t.started {
		delete(l.streams, s.at)
		if !t.up.ended || !s.answered {
			l.control = appendReset(l.control, s.at, code)
		}
	}
	l.wake.Signal()
}

// lockedGrant lets the client send what the local process takes beyond what is on its way: the rule of windows.
func (r *Relay) lockedGrant(s *stream) {
	t := s.theft
	if !t.started || s.asked {
		return
	}
	waiting := int64(t.up.unsent())
	n := min(t.up.sink-t.up.credit-waiting, maxOwed-t.up.credit-waiting)
	if n <= 0 || n < grantFrom && t.up.credit > grantFrom {
		return
	}
	t.up.credit += n
	t.granted += n
	id := s.id
	r.toClient.add(func(b []byte) []byte { return appendWindowUpdate(b, id, n) })
}

// lockedRaiseRequests changes what the client may send on stolen streams, as it has acknowledged.
func (r *Relay) lockedRaiseRequests(delta, more int64) {
	if delta == 0 && more == 0 {
		return
	}
	for _, s := range r.streams {
		if s.theft != nil {
			s.theft.up.credit += delta
			r.lockedGrant(s)
		} else if !s.asked {
			r.lockedWiden(s, more)
		}
	}
}

// lockedRaiseAnswers changes what stolen streams may send to the client.
func (r *Relay) lockedRaiseAnswers(delta int64) {
	if delta == 0 {
		return
	}
	for _, s := range r.streams {
		if s.theft != nil {
			s.theft.down.sink += delta
			l := s.theft.local
			r.lockedPour(s)
			if l != nil {
				l.lockedReturn()
			}
		}
	}
}
