package h2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A local is a connection to the local process of a session. Its writer opens it and writes, so that a slow local process holds
// up nobody; its reader hands on what it says.
type local struct {
	*Relay
	whom   Local
	conn   Conn // nil until open
	wake   sync.Cond
	cancel context.CancelFunc // of Open

	control []byte // frames to be written before any other
	ready   []*stream
	spare   []*stream
	stale   int                // of ready, that have gone
	blocked []*stream          // that wait for window
	streams map[uint32]*stream // that it was told of
	load    int                // streams that it has, or will
	next    uint32
	encoder *hpack.Encoder
	code    bytes.Buffer
	blocks  blocks

	window  int64 // what it takes on the connection
	initial int64 // and on new streams
	most    int   // streams
	credit  int64 // what it may send
	owed    int   // what it was not given back of that
	news    bool  // the client's settings have changed
	leaving bool  // it takes no new streams
	served  bool
	dead    bool
}

// lockedLocal returns a connection to the session that takes one more stream, nil if there are too many.
func (r *Relay) lockedLocal(whom Local) *local {
	for _, l := range r.locals {
		if l.whom == whom && !l.leaving && l.load < l.most {
			return l
		}
	}
	for _, l := range r.locals {
		if l.load == 0 && (l.leaving || l.whom.Gone()) {
			l.lockedKill(errOver)
		}
	}
	if len(r.locals) >= maxLocals || r.aborted {
		return nil
	}
	l := &local{Relay: r, whom: whom, streams: map[uint32]*stream{}, next: 1,
		window: plainWindow, initial: plainWindow, most: modestStreams, credit: localWindow}
	l.wake.L = &r.mu
	l.encoder = hpack.NewEncoder(&l.code)
	l.blocks.init()
	r.locals = append(r.locals, l)
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(context.Background())
	r.work.Go(func() { l.write(ctx) })
	return l
}

// write opens the connection and writes to it.
func (l *local) write(ctx context.Context) {
	defer l.cancel()
	conn, err := l.whom.Open(ctx)
	if err != nil {
		l.fail(err)
		return
	}
	l.mu.Lock()
	l.conn = conn
	if l.dead {
		l.mu.Unlock()
		conn.Reset()
		return
	}
	l.work.Go(l.read)
	l.mu.Unlock()
	for b := l.greeting(); b != nil; b = l.gather(b) {
		if _, err := conn.Write(b); err != nil {
			l.fail(err)
			return
		}
	}
}

// greeting returns the first words of a client.
func (l *local) greeting() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.news = false
	b := l.appendSettings([]byte(Preface))
	return appendWindowUpdate(b, 0, localWindow-plainWindow)
}

// gather waits for something to write; nil means that there will be nothing more.
func (l *local) gather(b []byte) []byte {
	if cap(b) > 2*batch {
		b = nil
	}
	b = b[:0]
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(b) == 0 {
		for len(l.control) == 0 && len(l.ready) == 0 && !l.news && !l.dead {
			l.wake.Wait()
		}
		if l.dead {
			return nil
		}
		b = l.lockedGather(b)
	}
	return b
}

// lockedForget notes that a stream has gone that may be in the list. A client can open and reset more of them than a local process
// takes.
func (l *local) lockedForget(t *theft) {
	const few = 64
	if !t.listed {
		return
	}
	t.listed = false
	if l.stale++; l.stale > few && l.stale > len(l.ready)/2 {
		l.ready = slices.DeleteFunc(l.ready, func(s *stream) bool { return s.theft == nil || s.theft.local != l })
		l.stale = 0
	}
}

// lockedGather appends what is to be written, a frame of each stream in turn.
func (l *local) lockedGather(b []byte) []byte {
	if l.news {
		l.news = false
		b = l.appendSettings(b)
	}
	b = append(b, l.control...)
	l.control = l.control[:0]
	for len(l.ready) > 0 && len(b) < batch {
		turn := l.ready
		l.stale = 0
		l.ready = l.spare[:0]
		for i, s := range turn {
			if len(b) >= batch {
				l.ready = append(l.ready, turn[i:]...)
				break
			}
			if s.theft != nil && s.theft.local == l {
				s.theft.listed = false
				b = l.lockedNext(b, s)
			}
		}
		l.spare = turn[:0]
	}
	l.Relay.lockedRepay()
	return b
}

// lockedNext appends what s has for the local process: its head, a frame of data, its end.
func (l *local) lockedNext(b []byte, s *stream) []byte {
	t := s.theft
	if !t.started {
		b = l.lockedStart(b, s)
	}
	if t.opened > 0 {
		b = appendWindowUpdate(b, s.at, t.opened)
		t.opened = 0
	}
	p := &t.up
	n := int(min(int64(p.unsent()), p.sink, l.window, plainFrame))
	if n > 0 {
		end := p.end && n == p.unsent() && p.trailers == nil
		b = appendData(b, s.at, p.buf[p.next:p.next+n], end)
		p.next += n
		p.sink -= int64(n)
		p.ended = p.ended || end
		l.window -= int64(n)
		l.stuck -= n
		if !t.whole {
			p.forget()
		}
	}
	switch {
	case p.unsent() == 0 && p.end && !p.ended:
		b = l.lockedFinish(b, s)
	case p.unsent() > 0 && p.sink > 0 && l.window > 0:
		l.lockedReady(s)
	case p.unsent() > 0 && p.sink > 0 && !p.waits:
		p.waits = true
		l.blocked = append(l.lockedCurrent(l.blocked, l.load), s)
	}
	l.lockedGrant(s)
	return b
}

func (l *local) lockedStart(b []byte, s *stream) []byte {
	t := s.theft
	t.started = true
	s.at = l.next
	l.next += 2
	l.leaving = l.leaving || l.next >= maxWindow-1
	l.streams[s.at] = s
	t.up.sink = l.initial
	t.up.ended = t.alone
	b = appendBlock(b, s.at, l.encode(t.fields), plainFrame, t.alone, nil)
	if !t.whole {
		t.fields = nil
	}
	return b
}

func (l *local) encode(fields []hpack.HeaderField) []byte {
	l.code.Reset()
	for _, f := range fields {
		_ = l.encoder.WriteField(f) // into memory
	}
	return l.code.Bytes()
}

// lockedFinish appends the end of a request of which all else was sent.
func (l *local) lockedFinish(b []byte, s *stream) []byte {
	p := &s.theft.up
	p.ended = true
	if p.trailers != nil {
		return appendBlock(b, s.at, l.encode(p.trailers), plainFrame, true, nil)
	}
	return appendData(b, s.at, nil, true)
}

// lockedTellLocals lets the local processes know the client's new settings.
func (r *Relay) lockedTellLocals() {
	for _, l := range r.locals {
		l.news = true
		l.wake.Signal()
	}
}

// read hands on what the local process says.
func (l *local) read() {
	for {
		err := l.hear()
		if err == nil {
			err = l.toClient.write(nil, false) // A slow client slows those who talk to it.
		}
		if err == nil {
			l.repay()
			l.tell()
			err = l.conn.Fill()
		}
		if err != nil {
			l.fail(err)
			return
		}
	}
}

// repay gives back to the local process what the client has taken.
func (l *local) repay() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lockedReturn()
}

func (l *local) lockedReturn() {
	if l.owed >= localWindow/4 {
		l.control = appendWindowUpdate(l.control, 0, int64(l.owed))
		l.credit += int64(l.owed)
		l.owed = 0
		l.wake.Signal()
	}
}

var errSpeech = errors.New("the local process does not speak HTTP/2 as it should")

// hear deals with what was read, frame by frame.
func (l *local) hear() error {
	for {
		rest := l.conn.Bytes()
		if len(rest) < headerLen {
			return nil
		}
		h := readHeader(rest)
		if h.length > plainFrame {
			return errSpeech
		}
		if !h.whole(rest) {
			return nil
		}
		n := headerLen + h.length
		if h.kind == http2.FrameHeaders {
			var err error
			if n, err = l.blocks.extent(rest); n == 0 || err != nil {
				return err
			}
			if err = l.blocks.decode(rest[:n], plainTable); err != nil {
				return err
			}
		}
		if err := l.frame(h, rest[headerLen:headerLen+h.length]); err != nil {
			return err
		}
		l.conn.Discard(n)
	}
}

func (l *local) frame(h header, payload []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.control) > maxWaiting {
		return errSpeech // it asks and asks, and does not read
	}
	switch h.kind {
	case http2.FrameHeaders:
		return l.lockedHead(h)
	case http2.FrameData:
		return l.lockedData(h, payload)
	case http2.FrameContinuation, http2.FramePushPromise:
		return errSpeech
	case http2.FrameSettings:
		return l.lockedSettings(h, payload)
	case http2.FramePing:
		if !h.has(flagAck) && h.length == 8 {
			l.control = append(appendHeader(l.control, header{8, http2.FramePing, flagAck, 0}), payload...)
			l.wake.Signal()
		}
	case http2.FrameGoAway:
		if h.length >= 8 {
			l.lockedGoesAway(word(payload))
		}
	case http2.FrameWindowUpdate:
		if h.length == 4 {
			return l.lockedOpens(h, int64(word(payload)))
		}
	case http2.FrameRSTStream:
		if s := l.streams[h.stream]; s != nil && h.length == 4 {
			l.lockedResets(s, http2.ErrCode(binary.BigEndian.Uint32(payload)))
		}
	}
	return nil
}

func (l *local) lockedSettings(h header, payload []byte) error {
	if h.has(flagAck) {
		return nil
	}
	eachSetting(payload, func(id http2.SettingID, v uint32) uint32 {
		switch id {
		case http2.SettingInitialWindowSize:
			for _, s := range l.streams {
				s.theft.up.sink += int64(v) - l.initial
				l.lockedReady(s)
			}
			l.initial = int64(v)
		case http2.SettingMaxConcurrentStreams:
			l.most = int(min(v, maxStreams))
		case http2.SettingHeaderTableSize:
			l.encoder.SetMaxDynamicTableSizeLimit(min(v, plainTable))
		}
		return v
	})
	l.control = appendHeader(l.control, header{0, http2.FrameSettings, flagAck, 0})
	l.wake.Signal()
	return nil
}

func (l *local) lockedOpens(h header, n int64) error {
	if h.stream != 0 {
		if s := l.streams[h.stream]; s != nil {
			s.theft.up.sink += n
			l.lockedReady(s)
		}
		return nil
	}
	if l.window += n; l.window > maxWindow {
		return errSpeech
	}
	for _, s := range l.blocked {
		if s.theft != nil && s.theft.local == l {
			s.theft.up.waits = false
			l.lockedReady(s)
		}
	}
	l.blocked = l.blocked[:0]
	return nil
}

func (l *local) lockedResets(s *stream, code http2.ErrCode) {
	if code == http2.ErrCodeRefusedStream && !s.theft.heard {
		l.lockedFail(s, errRefused, true)
		return
	}
	if s.theft.down.end && !s.answered { // All of the answer is here, and comes first.
		s.theft.quits, s.theft.quit = true, code
		s.theft.up.ended = true
		l.lockedLeave(s, code)
		return
	}
	id := s.id
	l.toClient.add(func(b []byte) []byte { return appendReset(b, id, code) })
	s.answered, s.theft.up.ended = true, true // It needs no answer to its reset.
	l.lockedLeave(s, code)
	l.lockedReport(s)
	l.lockedRemove(s)
	l.lockedOver()
}

var (
	errRefused = errors.New("the local process refused the request")
	errLeft    = errors.New("the local process closed the connection")
)

// lockedGoesAway is called when the local process takes no new requests. Those above last it has not looked at.
func (l *local) lockedGoesAway(last uint32) {
	l.leaving = true
	for at, s := range l.streams {
		if at > last {
			l.lockedFail(s, errLeft, true)
		}
	}
	for _, s := range slices.Clone(l.ready) {
		if s.theft != nil && s.theft.local == l && !s.theft.started {
			l.lockedFail(s, errLeft, true)
		}
	}
}

// fail ends the connection: requests without an answer are lost.
func (l *local) fail(err error) {
	l.mu.Lock()
	l.lockedKill(err)
	conn := l.conn
	l.mu.Unlock()
	if conn != nil {
		_ = conn.Close()
	}
	l.tell()
}

func (l *local) lockedKill(err error) {
	if l.dead {
		return
	}
	l.dead, l.leaving = true, true
	for i, other := range l.locals {
		if other == l {
			l.locals = append(append([]*local(nil), l.locals[:i]...), l.locals[i+1:]...)
			break
		}
	}
	for _, s := range l.Relay.streams {
		if s.theft == nil || s.theft.local != l {
			continue
		}
		if l.aborted {
			l.lockedReport(s)
			continue
		}
		l.lockedFail(s, err, false)
	}
	l.cancel()
	l.wake.Broadcast()
	if l.conn != nil {
		l.work.Go(func() { _ = l.conn.Close() })
	}
}
