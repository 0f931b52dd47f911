package h2

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// block deals with the header block that starts at pos: a request, or its trailers.
func (q *requests) block(h header, rest []byte) (more bool, err error) {
	if h.stream == 0 {
		return false, q.nonsense(http2.ErrCodeProtocol)
	}
	n, err := q.extent(rest)
	if err == nil && n == 0 {
		return true, nil
	}
	q.mu.Lock()
	s, last, rewritten, table := q.streams[h.stream], q.last, q.rewritten, q.mostTable
	full, late, large := len(q.streams) >= maxStreams, h.stream > q.said || q.leaving == left, h.length > q.mostFrame
	q.mu.Unlock()
	if err == nil {
		err = q.decode(rest[:n], table)
	}
	switch {
	case err != nil:
		return false, q.nonsense(code(err))
	case large:
		return false, q.nonsense(http2.ErrCodeFrameSize)
	case s != nil:
		q.trailers(s, h, rest[:n])
		q.ease()
	case h.stream%2 == 0 || h.stream <= last:
		return false, q.strange(h, n)
	case full && !rewritten:
		q.raw.Store(true)
	case (full || late) && rewritten:
		q.skip(n)
		q.refuse(h.stream, late)
	default:
		q.assign(h, rest[:n], late)
		q.ease()
	}
	return false, nil
}

// ease waits while the original takes no more heads: a few bytes of the client's can make a long one.
func (q *requests) ease() {
	if q.toOriginal.waiting() > maxWaiting {
		_ = q.toOriginal.write(nil, false) // its reader learns why it fails
	}
}

func code(err error) http2.ErrCode {
	var connection http2.ConnectionError
	if errors.As(err, &connection) {
		return http2.ErrCode(connection)
	}
	return http2.ErrCodeEnhanceYourCalm
}

// assign gives a new request to whom it belongs. One that comes too late for the original is not stolen: the client repeats it elsewhere.
func (q *requests) assign(h header, frames []byte, late bool) {
	var whom Local
	undecided := false
	if r := q.request(); r != nil && !late {
		end := h.has(flagEndStream)
		r.BodyKnown = end
		whom, undecided = q.config.Choose(r, !end && tooLong(q.fields))
		defer q.retire()
	}
	if whom == nil && !undecided {
		q.passHead(nil, h, frames)
		return
	}
	q.skip(len(frames))
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lockedRewrite()
	s := q.lockedAdd(h.stream)
	s.theft = newTheft(whom, slices.Clone(q.fields))
	q.lockedTake(s, h.has(flagEndStream))
	if undecided {
		q.lockedTrip(s, "")
		q.lockedHold(s)
		return
	}
	q.lockedTrip(s, whom.Session())
	q.lockedSend(s)
}

// lockedTrip notes the request if somebody observes.
func (q *requests) lockedTrip(s *stream, session string) {
	if q.config.Observed == nil || !q.config.Observed() {
		return
	}
	s.trip = &trip{started: time.Now()}
	s.trip.Session = session
	for _, f := range q.fields {
		switch f.Name {
		case ":method":
			s.trip.Method = f.Value
		case ":path":
			s.trip.Path = f.Value
		}
	}
}

// passHead gives the head of a request, or its trailers, to the original. s is nil for a new one.
func (q *requests) passHead(s *stream, h header, frames []byte) {
	q.mu.Lock()
	fresh, rewritten := s == nil, q.rewritten
	if fresh {
		s = q.lockedAdd(h.stream)
		q.lockedTrip(s, "")
	}
	if !rewritten {
		q.passed = max(q.passed, s.id)
		q.left = len(frames)
		if h.has(flagEndStream) {
			q.done = s
		} else if fresh {
			q.lockedWiden(s, q.asked.more)
		}
		q.mu.Unlock()
		return
	}
	q.mu.Unlock()
	q.skip(len(frames))
	_, priority, _ := h.fragment(frames[headerLen : headerLen+h.length])
	q.mu.Lock()
	defer q.mu.Unlock()
	if fresh {
		q.lockedNumber(s)
	}
	q.lockedSendHead(s, q.fields, h.has(flagEndStream), priority)
	if h.has(flagEndStream) {
		q.lockedAsked(s)
	} else if fresh {
		q.lockedWiden(s, q.asked.more)
	}
}

// lockedWiden lets the client use all that the original takes on a stream that passes, although it was told of less.
func (r *Relay) lockedWiden(s *stream, more int64) {
	if id := s.id; more > 0 {
		r.toClient.add(func(b []byte) []byte { return appendWindowUpdate(b, id, more) })
	}
}

// lockedRewrite is called before the first request is stolen: what the original's decoder knows differs from the client's encoder
// from then on, so header blocks are encoded anew.
func (r *Relay) lockedRewrite() {
	if r.rewritten {
		return
	}
	r.rewritten = true
	r.encoder = hpack.NewEncoder(&r.code)
	table := min(plainTable, r.originalTable)
	r.encoder.SetMaxDynamicTableSizeLimit(table)
	r.encoder.SetMaxDynamicTableSize(0) // forget what the client has put there
	r.encoder.SetMaxDynamicTableSize(table)
}

// lockedSendHead sends a header block to the original. All blocks leave in the order in which they were encoded.
func (r *Relay) lockedSendHead(s *stream, fields []hpack.HeaderField, end bool, priority []byte) {
	r.code.Reset()
	for _, f := range fields {
		_ = r.encoder.WriteField(f) // into memory
	}
	r.toOriginal.add(func(b []byte) []byte { return appendBlock(b, s.at, r.code.Bytes(), plainFrame, end, priority) })
}

// trailers deals with a further header block of an open stream.
func (q *requests) trailers(s *stream, h header, frames []byte) {
	if s.theft == nil { // Only the client's side takes it away, or the original's failure.
		q.passHead(s, h, frames)
		return
	}
	q.skip(len(frames))
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lockedTrailers(s, slices.Clone(q.fields), h.has(flagEndStream))
}

// strange deals with a header block of a stream that is neither open nor new.
func (q *requests) strange(h header, n int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case !q.rewritten:
		q.left = n
	case h.stream > q.last || q.wasNever(h.stream):
		return http2.ConnectionError(http2.ErrCodeProtocol)
	default:
		q.left, q.lose = n, true
		q.toClient.add(func(b []byte) []byte { return appendReset(b, h.stream, http2.ErrCodeStreamClosed) })
	}
	return nil
}

// refuse says that a request was not looked at, unless the client knows already that it will not be.
func (q *requests) refuse(id uint32, silent bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last = id
	if !silent {
		q.toClient.add(func(b []byte) []byte { return appendReset(b, id, http2.ErrCodeRefusedStream) })
	}
}
