package h2

import (
	"bytes"
	"context"
	"slices"
	"sync"

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
	r.lockedGo(func() { l.write(ctx) })
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
		l.lockedGo(func() { _ = l.conn.Close() })
	}
}
