package h2

import (
	"encoding/binary"
	"errors"

	"golang.org/x/net/http2"
)

var (
	errOver = errors.New("connection is over")
)

// requests is the client's side while it is read. Bytes go to the original in ranges as long as can be.
type requests struct {
	*Relay
	blocks

	b         []byte
	sent, pos int // b[sent:pos] is for the original, as it is

	left int     // of the frames under way
	to   *stream // whose data they are, when it is stolen
	lead int     // bytes of them before the data
	pad  int     // and after
	lose bool    // nobody has them
	done *stream // whose request ends with them
}

func (q *requests) init(r *Relay) {
	q.Relay = r
	q.left = len(Preface)
	q.blocks.init()
}

// hear deals with what was read of the client, as far as it goes.
func (q *requests) hear() error {
	q.b, q.pos, q.sent = q.client.Bytes(), 0, 0
	if q.isDeaf() {
		q.client.Discard(len(q.b))
		return nil
	}
	for q.pos < len(q.b) && !q.raw.Load() {
		if q.left > 0 {
			q.carry()
			continue
		}
		more, err := q.frame()
		if err != nil {
			return err
		}
		if more {
			break
		}
	}
	if q.raw.Load() {
		q.pos = len(q.b)
	}
	q.handOn()
	q.client.Discard(q.pos)
	return q.settle()
}

// handOn writes to the original what is for it. If it does not listen any more, its reader learns why.
func (q *requests) handOn() {
	if q.sent < q.pos {
		_ = q.toOriginal.write(q.b[q.sent:q.pos], q.left > 0 && q.to == nil && !q.lose)
	}
	q.sent = q.pos
}

// skip goes on without giving the original the next n bytes.
func (q *requests) skip(n int) {
	q.handOn()
	q.pos += n
	q.sent = q.pos
}

// carry goes on in the frame under way.
func (q *requests) carry() {
	n := min(q.left, len(q.b)-q.pos)
	q.left -= n
	switch {
	case q.to != nil:
		part := q.content(q.b[q.pos : q.pos+n])
		q.skip(n)
		q.stolenData(q.to, part)
	case q.lose:
		q.skip(n)
	default:
		q.pos += n
	}
	if q.left > 0 {
		return
	}
	reframed := q.to != nil
	q.to, q.lose = nil, false
	s := q.done
	if q.done = nil; s == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.streams[s.id] != s {
		return
	}
	if reframed && s.theft == nil { // It was lost to the original in the middle of its last frame.
		q.lockedPassData(s, nil, true)
	}
	q.lockedAsked(s)
}

// content returns what of a part of a DATA frame, up to left before its end, is neither header nor padding.
func (q *requests) content(part []byte) []byte {
	k := min(q.lead, len(part))
	q.lead -= k
	part = part[k:]
	return part[:max(0, len(part)-max(0, q.pad-q.left))]
}

// frame deals with the frame that starts at pos. It reports true if more of it is needed.
func (q *requests) frame() (more bool, err error) {
	rest := q.b[q.pos:]
	if len(rest) < headerLen {
		return true, nil
	}
	h := readHeader(rest)
	switch h.kind {
	case http2.FrameHeaders:
		return q.block(h, rest)
	case http2.FrameData:
		return q.data(h, rest)
	case http2.FrameSettings, http2.FrameWindowUpdate, http2.FrameRSTStream, http2.FramePing:
	case http2.FrameContinuation, http2.FramePushPromise:
		return false, q.nonsense(http2.ErrCodeProtocol)
	default:
		return false, q.other(h)
	}
	if !h.whole(rest) {
		if h.length > plainFrame {
			return false, q.nonsense(http2.ErrCodeFrameSize)
		}
		return true, nil
	}
	payload := rest[headerLen : headerLen+h.length]
	switch h.kind {
	case http2.FrameSettings:
		return false, q.settingsFrame(h, payload)
	case http2.FrameWindowUpdate:
		return false, q.windowUpdate(h, payload)
	case http2.FramePing:
		return false, q.ping(h, payload)
	}
	return false, q.reset(h, payload)
}

// pass gives the whole of a frame to the original.
func (q *requests) pass(h header) { q.left = headerLen + h.length }

// drop gives it to nobody.
func (q *requests) drop(h header) { q.left, q.lose = headerLen+h.length, true }

// nonsense ends our following of the client: the original gets the bytes as they are, and judges. If it does not know the
// connection from its beginning, it cannot.
func (q *requests) nonsense(code http2.ErrCode) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.rewritten {
		return http2.ConnectionError(code)
	}
	q.raw.Store(true)
	return nil
}

// other deals with frames that mean nothing to us.
func (q *requests) other(h header) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.streams[h.stream]
	switch {
	case !q.rewritten || h.stream%2 == 0:
		q.pass(h)
	case h.kind == http2.FramePriority && h.length != 5 && (s == nil || s.theft != nil):
		return http2.ConnectionError(http2.ErrCodeFrameSize)
	case s == nil || s.theft != nil:
		q.drop(h) // PRIORITY of a stream that the original does not know, and the like
	default:
		q.renumber(s)
		q.pass(h)
	}
	return nil
}

// renumber writes the original's number into the frame at pos.
func (q *requests) renumber(s *stream) {
	if s.at != s.id {
		binary.BigEndian.PutUint32(q.b[q.pos+5:], s.at)
	}
}

func (q *requests) data(h header, rest []byte) (more bool, err error) {
	if h.stream == 0 {
		return false, q.nonsense(http2.ErrCodeProtocol)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.streams[h.stream]
	switch {
	case s == nil && h.stream%2 == 0, !q.rewritten && (s == nil || s.asked):
		q.up.sink -= int64(h.length)
		q.pass(h)
	case s == nil && h.stream > q.last:
		return false, http2.ConnectionError(http2.ErrCodeProtocol)
	case h.length > q.mostFrame && q.rewritten:
		return false, http2.ConnectionError(http2.ErrCodeFrameSize)
	case s == nil || s.asked:
		q.lockedStolen(h.length)
		q.drop(h)
		q.lockedClosedBefore(h.stream, s)
	case s.theft != nil:
		return q.lockedSteals(s, h, rest)
	default:
		if q.up.overdrawn > 0 && q.up.sink < int64(h.length) {
			return false, q.lockedAwaitRoom(h.length)
		}
		q.up.sink -= int64(h.length)
		q.renumber(s)
		q.pass(h)
		if h.has(flagEndStream) {
			q.done = s
		}
	}
	return false, nil
}

// lockedClosedBefore tells the client that it has spoken on a stream after its end.
func (q *requests) lockedClosedBefore(id uint32, s *stream) {
	if s != nil && s.theft != nil {
		q.lockedBreak(s, http2.ErrCodeStreamClosed)
		return
	}
	q.toClient.add(func(b []byte) []byte { return appendReset(b, id, http2.ErrCodeStreamClosed) })
}

func (q *requests) settingsFrame(h header, payload []byte) error {
	if h.stream != 0 || h.length%6 != 0 || h.has(flagAck) && h.length > 0 {
		return q.nonsense(http2.ErrCodeFrameSize)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pass(h)
	if h.has(flagAck) {
		delta, more := q.lockedClientAcks()
		q.lockedRaiseRequests(delta, more)
		return nil
	}
	if len(q.answeredLater) == maxUnacked {
		if q.rewritten {
			return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
		}
		q.raw.Store(true)
		return nil
	}
	q.lockedClient(payload)
	q.lockedTellLocals()
	return nil
}

// ping answers for the original where it must. Clients ping on every burst of answers to measure the way, and servers of gRPC count the
// pings of those whom they have sent nothing: an original would take offence at the answers of sessions.
func (q *requests) ping(h header, payload []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.rewritten && q.heardOf.local && !q.heardOf.original && h.flags == 0 && h.length == 8 && h.stream == 0 {
		q.drop(h)
		q.heardOf.local = false
		q.toClient.add(func(b []byte) []byte {
			return append(appendHeader(b, header{8, http2.FramePing, flagAck, 0}), payload...)
		})
		return nil
	}
	if !h.has(flagAck) {
		q.heardOf = speakers{}
	}
	q.pass(h)
	return nil
}

func (q *requests) windowUpdate(h header, payload []byte) error {
	if h.length != 4 {
		return q.nonsense(http2.ErrCodeFrameSize)
	}
	n := int64(word(payload))
	q.mu.Lock()
	defer q.mu.Unlock()
	if h.stream == 0 {
		return q.lockedClientOpened(h, n)
	}
	s := q.streams[h.stream]
	switch {
	case !q.rewritten || h.stream%2 == 0: // The original has promised a push, or will know what to say.
		q.pass(h)
	case s == nil && h.stream > q.last:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	case s == nil:
		q.drop(h)
	case s.theft != nil:
		q.drop(h)
		q.lockedStreamOpened(s, n)
	default:
		q.renumber(s)
		q.pass(h)
	}
	return nil
}

// lockedClientOpened deals with a window update for the connection.
func (q *requests) lockedClientOpened(h header, n int64) error {
	if q.rewritten && (n == 0 || q.down.sink+n > maxWindow) {
		code := http2.ErrCodeFlowControl
		if n == 0 {
			code = http2.ErrCodeProtocol
		}
		return http2.ConnectionError(code)
	}
	more := q.down.lockedReturned(n)
	q.change.Broadcast()
	if more > 0 || n == 0 {
		binary.BigEndian.PutUint32(q.b[q.pos+headerLen:], uint32(more))
		q.pass(h)
	} else {
		q.drop(h)
	}
	q.lockedDrain()
	return nil
}

func (q *requests) reset(h header, payload []byte) error {
	if h.length != 4 || h.stream == 0 {
		return q.nonsense(http2.ErrCodeFrameSize)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.streams[h.stream]
	switch {
	case s == nil && (!q.rewritten || h.stream%2 == 0):
		q.pass(h)
	case s == nil && h.stream > q.last:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	case s == nil:
		q.drop(h)
	case s.theft != nil:
		q.drop(h)
		q.lockedCancel(s, http2.ErrCode(binary.BigEndian.Uint32(payload)))
	default:
		q.renumber(s)
		q.pass(h)
		q.lockedRemove(s)
	}
	return nil
}
