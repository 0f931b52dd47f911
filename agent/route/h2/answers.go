package h2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// answers is the original's side while it is read. All of it goes to the client, as it is.
type answers struct {
	*Relay

	b         []byte
	sent, pos int // b[sent:pos] is for the client

	left   int     // of the frame under way
	lose   bool    // nobody has it
	inner  bool    // a header block is under way
	adrift bool    // raw bytes were handed on
	done   *stream // whose answer ends with the frame, or the block

	// What holds once all this was written.
	ends  []ending
	acked int  // settings of the client
	table int  // that the client's is smaller from there on; -1: it is not
	named bool // by a block of the original, which names its table
	over  []*trip

	decoder *hpack.Decoder
	blind   bool // header blocks cannot be followed any more: nobody learns a status
	status  int  // in the block under way
	of      *stream
}

// An ending is that of a stream, by an answer or by a reset.
type ending struct {
	*stream
	reset bool
}

func (a *answers) init(r *Relay) {
	a.Relay, a.table = r, -1
	a.decoder = hpack.NewDecoder(plainTable, func(f hpack.HeaderField) {
		if f.Name == ":status" {
			a.status = number(f.Value)
		}
	})
	a.decoder.SetAllowedMaxDynamicTableSize(maxTable)
	a.decoder.SetMaxStringLength(maxBlock)
}

func number(s string) (n int) {
	if len(s) != 3 {
		return 0
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0
		}
		n = n*10 + int(s[i]-'0')
	}
	return n
}

// hear deals with what was read of the original, as far as it goes.
func (a *answers) hear() error {
	a.b, a.pos, a.sent = a.original.Bytes(), 0, 0
	for a.pos < len(a.b) && !a.raw.Load() {
		if a.left > 0 {
			a.carry()
			continue
		}
		if more := a.frame(); more {
			break
		}
	}
	err := a.handOn()
	if a.raw.Load() && err == nil {
		// Where frames end is not looked at any more, so nothing may come between bytes from here on.
		a.pos, a.adrift = len(a.b), true
		err = a.handOn()
	}
	a.original.Discard(a.pos)
	if len(a.ends) > 0 || a.acked > 0 {
		a.settle()
	}
	return err
}

// news tells those who add to what is written what comes with it.
func (a *answers) news() {
	if a.named {
		a.toClient.shrunk = -1
	}
	if a.table >= 0 {
		a.toClient.shrunk = a.table
	}
}

// settle keeps the books after a write. Had others known before, what they say could have overtaken what was to be written.
func (a *answers) settle() {
	a.mu.Lock()
	for ; a.acked > 0; a.acked-- {
		a.lockedRaiseAnswers(max(0, a.lockedOriginalAcks()))
	}
	for i, e := range a.ends {
		if a.streams[e.id] == e.stream {
			a.lockedSettle(e)
		}
		a.ends[i] = ending{}
	}
	a.mu.Unlock()
	a.ends = a.ends[:0]
	for i, t := range a.over {
		a.report(t)
		a.over[i] = nil
	}
	a.over = a.over[:0]
}

func (a *answers) lockedSettle(e ending) {
	if e.trip != nil {
		a.over = append(a.over, e.trip)
		e.trip = nil
	}
	if e.reset {
		a.lockedRemove(e.stream)
		a.lockedOver()
		return
	}
	e.answered = true
	a.lockedClosed(e.stream)
}

func (a *answers) handOn() error {
	if a.sent == a.pos {
		return nil
	}
	err := a.toClient.writeThen(a.b[a.sent:a.pos], a.left > 0 && !a.lose || a.inner || a.adrift, a.news)
	a.sent, a.named, a.table = a.pos, false, -1
	return err
}

// carry goes on in the frame under way.
func (a *answers) carry() {
	n := min(a.left, len(a.b)-a.pos)
	a.left -= n
	if a.lose {
		_ = a.handOn() // which fails again at the end
		a.sent += n
		a.lose = a.left > 0
	}
	a.pos += n
	if a.left == 0 && !a.inner && a.done != nil {
		a.ends = append(a.ends, ending{stream: a.done})
		a.done = nil
	}
}

// frame deals with the frame that starts at pos. It reports true if more of it is needed.
func (a *answers) frame() (more bool) {
	rest := a.b[a.pos:]
	if len(rest) < headerLen {
		return true
	}
	h := readHeader(rest)
	if a.mayWait(h, rest) {
		return true
	}
	switch h.kind {
	case http2.FrameData:
		return a.data(h)
	case http2.FrameHeaders, http2.FrameContinuation, http2.FramePushPromise:
		a.block(h, rest)
	case http2.FrameSettings, http2.FrameWindowUpdate, http2.FrameRSTStream, http2.FrameGoAway:
		a.control(h, rest)
	default:
		a.rename(h)
	}
	a.left = headerLen + h.length
	return false
}

// mayWait reports whether the frame is to be read to its end first: we must see all of it, or others want to write to the client
// and should not have to wait for a frame that stands still.
func (a *answers) mayWait(h header, rest []byte) bool {
	if h.whole(rest) || headerLen+h.length > maxBlock {
		return false
	}
	if h.kind != http2.FrameData {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stolen > 0
}

// rename writes the client's number of a stream into the frame at pos, and returns the stream.
func (a *answers) rename(h header) *stream {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lockedRename(h)
}

func (a *answers) lockedRename(h header) *stream {
	s := a.lockedOf(h.stream)
	if s != nil && s.at != s.id {
		binary.BigEndian.PutUint32(a.b[a.pos+5:], s.id)
	}
	return s
}

func (a *answers) data(h header) (more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.rewritten && a.lockedWants(h.length) {
		a.lockedAwaitClient(h.length)
		return false
	}
	a.down.sink -= int64(h.length)
	a.heardOf.original = true
	if a.rewritten {
		a.lockedRename(h)
	}
	if h.has(flagEndStream) {
		a.done = a.lockedOf(h.stream)
	}
	a.left = headerLen + h.length
	return false
}

// block follows a frame of a header block, so far as it must be for the status of answers.
func (a *answers) block(h header, rest []byte) {
	if s := a.rename(h); h.kind != http2.FrameContinuation {
		a.of, a.status = s, 0
		if h.has(flagEndStream) && h.kind == http2.FrameHeaders {
			a.done = s
		}
	}
	a.inner = !h.has(flagEndHeaders)
	a.decode(h, rest)
	if a.inner {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heardOf.original, a.named, a.table = true, true, -1
	if a.of != nil && a.of.trip != nil && a.status/100 != 1 && a.status > 0 {
		a.of.trip.Status = a.status
	}
	a.of = nil
}

func (a *answers) decode(h header, rest []byte) {
	if a.blind {
		return
	}
	if !h.whole(rest) {
		a.blind = true
		return
	}
	fragment, ok := rest[headerLen:headerLen+h.length], true
	switch h.kind {
	case http2.FrameHeaders:
		fragment, _, ok = h.fragment(fragment)
	case http2.FramePushPromise:
		const promised = 4
		if fragment, ok = h.unpad(fragment); ok && len(fragment) >= promised {
			fragment = fragment[promised:]
		}
	}
	if !ok {
		a.blind = true
		return
	}
	_, err := a.decoder.Write(fragment)
	if err == nil && !a.inner {
		err = a.decoder.Close()
	}
	a.blind = err != nil
}

// control deals with frames that change the books.
func (a *answers) control(h header, rest []byte) {
	if !h.whole(rest) {
		return // far too large for what it says it is: the client will say so
	}
	payload := rest[headerLen : headerLen+h.length]
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case h.kind == http2.FrameSettings && h.has(flagAck):
		before, after := a.lockedPeek(a.acked)
		a.acked++
		if after.table < before.table {
			a.table = int(after.table)
		}
		if less := after.window - before.window; less < 0 {
			a.lockedRaiseAnswers(less) // more only when the client knows that it was heard
		}
	case h.kind == http2.FrameSettings:
		a.lockedOriginalSays(payload)
	case h.kind == http2.FrameGoAway && h.length >= 8:
		a.lockedGoAway(payload)
	case h.length != 4:
	case h.kind == http2.FrameRSTStream:
		if s := a.lockedRename(h); s != nil {
			a.ends = append(a.ends, ending{s, true})
		}
	case h.kind == http2.FrameWindowUpdate && h.stream == 0:
		more := a.up.lockedOpened(int64(word(payload)))
		a.change.Broadcast()
		a.lockedPassWanting()
		if more == 0 && word(payload) != 0 {
			a.lose = true // the original has been sent more than the client knows
		} else {
			binary.BigEndian.PutUint32(payload, uint32(more))
		}
	case h.kind == http2.FrameWindowUpdate:
		a.lockedRename(h)
	}
}

// lockedOriginalSays keeps what the original sets.
func (a *answers) lockedOriginalSays(payload []byte) {
	if len(a.askedLater) == maxUnacked {
		if !a.rewritten {
			a.raw.Store(true)
			return
		}
		a.askedLater = a.askedLater[1:] // The client does not acknowledge, or the original does not wait: nobody can tell.
	}
	a.lockedOriginal(payload)
	if a.rewritten {
		a.encoder.SetMaxDynamicTableSizeLimit(min(plainTable, a.originalTable))
	}
}
