package h2

import (
	"errors"
	"io"
	"slices"
	"strings"
	"syscall"
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

// lockedFail is called when the local process of s is gone with err, or will not answer. unseen says that it has not looked at
// the request.
func (r *Relay) lockedFail(s *stream, err error, unseen bool) {
	t := s.theft
	wrote := t.started && !unseen
	safe := isSafe(t.method)
	r.lockedLeave(s, http2.ErrCodeCancel)
	switch {
	case t.down.end: // All of the answer is here.
	case t.heard:
		id := s.id
		r.toClient.add(func(b []byte) []byte { return appendReset(b, id, http2.ErrCodeInternal) })
		r.lockedReport(s)
		r.lockedRemove(s)
		r.lockedOver()
	case t.whole && t.reused && !t.again && !t.whom.Gone() && (!wrote || safe || isIdempotent(t.method)):
		t.again = true
		r.lockedRestart(s)
	case t.whole && (!wrote || safe || unaccepted(err)) && r.lockedPasses(s):
		if s.trip != nil {
			s.trip.Lost, s.trip.Session = s.trip.Session, ""
		}
	default:
		r.lockedAnswer(s, cause(err))
	}
}

// lockedRestart asks the session once more, on another connection.
func (r *Relay) lockedRestart(s *stream) {
	t := s.theft
	t.started, t.up.next, t.up.ended, t.opened = false, 0, false, t.raised
	r.stuck += t.up.unsent()
	r.lockedSend(s)
}

// lockedPasses gives a request that a session lost, or never had, to the original, now or when it takes that much. It reports false
// if the original cannot take it.
func (r *Relay) lockedPasses(s *stream) bool {
	t := s.theft
	n := int64(len(t.up.buf))
	window := last(r.asked, r.askedLater)
	if r.leaving == left || n > window.window || t.granted > 0 && !s.asked || max(s.id, r.passed+2) > r.takes {
		return false
	}
	if t.wants = n > r.up.sink; t.wants {
		r.wanting = append(r.wanting, s)
		return true
	}
	s.theft = nil
	r.stolen--
	r.kept -= t.kept
	r.lockedNumber(s)
	r.lockedSendHead(s, t.fields, t.alone, nil)
	if ends := s.asked && !t.alone && t.up.trailers == nil; n > 0 || ends {
		r.lockedPassData(s, t.up.buf, ends)
	}
	if t.own {
		r.up.overdrawn -= n
	}
	if t.up.trailers != nil {
		r.lockedSendHead(s, t.up.trailers, true, nil)
	}
	if t.raised > 0 {
		r.toOriginal.add(func(b []byte) []byte { return appendWindowUpdate(b, s.at, min(t.raised, maxWindow)) })
	}
	if !s.asked { // The original has seen nothing of the padding.
		r.lockedWiden(s, r.asked.more+int64(t.pads))
	}
	return true
}

// lockedPassWanting goes on with the requests that waited for the original's window, or for its end.
func (r *Relay) lockedPassWanting() {
	wanting := r.wanting
	r.wanting = nil
	for _, s := range wanting {
		if r.streams[s.id] != s || s.theft == nil || !s.theft.wants || r.lockedPasses(s) {
			continue
		}
		if s.theft.wants = false; s.theft.whom == nil {
			r.lockedBreak(s, http2.ErrCodeRefusedStream)
		} else {
			r.lockedAnswer(s, "it was lost to the original, which takes no more")
		}
	}
}

// lockedPassData sends to the original what was taken for a session.
func (r *Relay) lockedPassData(s *stream, data []byte, end bool) {
	r.up.sink -= int64(len(data))
	r.up.overdrawn += int64(len(data))
	r.toOriginal.add(func(b []byte) []byte {
		for len(data) > plainFrame {
			b = appendData(b, s.at, data[:plainFrame], false)
			data = data[plainFrame:]
		}
		return appendData(b, s.at, data, end)
	})
}

// value returns the first value of a field.
func value(fields []hpack.HeaderField, name string) string {
	i := slices.IndexFunc(fields, func(f hpack.HeaderField) bool { return f.Name == name })
	if i < 0 {
		return ""
	}
	return fields[i].Value
}

// isSafe reports whether being asked twice is as being asked once (RFC 9110 section 9.2.1).
func isSafe(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return true
	}
	return false
}

func isIdempotent(method string) bool {
	switch method {
	case "PUT", "DELETE":
		return true
	}
	return isSafe(method)
}

// unaccepted reports whether err can only come from a connection that never was, so that no byte was acted on.
func unaccepted(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
}

func cause(err error) string {
	if errors.Is(err, io.EOF) {
		return "the local process closed the connection"
	}
	return err.Error()
}
