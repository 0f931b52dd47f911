package h2

import (
	"bytes"
	"slices"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A stream is an open one of the client.
type stream struct {
	id, at   uint32 // its number at the client, and at whoever has it
	asked    bool   // the request has ended
	answered bool   // the answer has
	theft    *theft // nil: it passes
	trip     *trip  // nil: nobody observes
}

// A trip is an exchange that is observed.
type trip struct {
	Exchange
	started time.Time
}

// books are what both sides must know of the connection. They are guarded by Relay.mu.
type books struct {
	streams map[uint32]*stream // that are open, by the client's number
	renamed map[uint32]*stream // those that have another number at the original, by that
	unused  []*stream          // to be used again
	last    uint32             // the client's highest
	passed  uint32             // the original's highest
	skipped [][2]uint32        // ranges of numbers that the client left out, as far as we remember

	rewritten bool // a request was stolen: the original's tables are not the client's any more
	encoder   *hpack.Encoder
	code      bytes.Buffer // of encoder
	stolen    int          // open streams that are
	stuck     int          // bytes that wait for local processes
	kept      int          // and bytes for asking somebody else
	heardOf   speakers     // since the client's last ping
	locals    []*local
	waiting   []*stream // stolen ones whose answers wait for the client's window
	wanting   []*stream // lost ones that wait for the original's window
	ended     []*trip   // exchanges that nobody was told of yet

	up, down windows
	settings
	ends
}

// speakers are those who have sent the client of an answer.
type speakers struct{ original, local bool }

func (b *books) init() {
	b.streams, b.renamed = map[uint32]*stream{}, map[uint32]*stream{}
	b.up.sink, b.down.sink = plainWindow, plainWindow
	b.settings.init()
}

// lockedAdd opens the client's stream id.
func (b *books) lockedAdd(id uint32) *stream {
	var s *stream
	if n := len(b.unused); n > 0 {
		s, b.unused = b.unused[n-1], b.unused[:n-1]
	} else {
		s = &stream{}
	}
	*s = stream{id: id, at: id}
	b.streams[id] = s
	if id > b.last+2 && id > 1 && len(b.skipped) < keptSkips {
		b.skipped = append(b.skipped, [2]uint32{b.last, id})
	}
	b.last = id
	return s
}

// wasNever reports whether the client has left out a number for good.
func (b *books) wasNever(id uint32) bool {
	return slices.ContainsFunc(b.skipped, func(s [2]uint32) bool { return s[0] < id && id < s[1] })
}

// lockedNumber gives s its number at the original, which must be higher than all before.
func (b *books) lockedNumber(s *stream) {
	if s.at = s.id; s.at <= b.passed {
		s.at = b.passed + 2
	}
	b.passed = s.at
	if s.at != s.id {
		b.renamed[s.at] = s
	}
}

// lockedOf returns the stream that the original calls by this number, nil if it is not open.
func (b *books) lockedOf(at uint32) *stream {
	if len(b.renamed) > 0 {
		if s := b.renamed[at]; s != nil {
			return s
		}
	}
	if s := b.streams[at]; s != nil && s.theft == nil && s.at == at {
		return s
	}
	return nil
}

// lockedRemove closes a stream.
func (b *books) lockedRemove(s *stream) {
	if b.streams[s.id] != s {
		return
	}
	delete(b.streams, s.id)
	if b.renamed[s.at] == s {
		delete(b.renamed, s.at)
	}
	if s.theft != nil {
		b.stolen--
		b.kept -= s.theft.kept
		s.theft.kept = 0
	}
}

// lockedClosed removes a stream that both sides have ended. Nobody has it in hand then.
func (r *Relay) lockedClosed(s *stream) {
	if !s.asked || !s.answered || r.streams[s.id] != s {
		return
	}
	if s.theft != nil {
		r.lockedLeave(s, http2.ErrCodeCancel)
		r.lockedReport(s)
	}
	r.lockedRemove(s)
	const keptStreams = 256
	if s.theft == nil && len(r.unused) < keptStreams {
		r.unused = append(r.unused, s)
	}
	r.lockedOver()
}

// lockedAsked is called when a request has ended.
func (r *Relay) lockedAsked(s *stream) {
	s.asked = true
	if s.theft != nil {
		s.theft.up.end = true
		r.lockedReady(s)
		r.lockedWeigh(s)
	}
	r.lockedClosed(s)
}

// lockedReport ends the trip of a stolen stream.
func (r *Relay) lockedReport(s *stream) {
	if s.trip != nil {
		r.ended = append(r.ended, s.trip)
		s.trip = nil
	}
}

// tell tells the observers what has ended.
func (r *Relay) tell() {
	r.mu.Lock()
	over := r.ended
	r.ended = nil
	r.mu.Unlock()
	for _, t := range over {
		r.report(t)
	}
}

func (r *Relay) report(t *trip) {
	t.Duration = time.Since(t.started)
	r.config.Observe(t.Exchange)
}

// Follows reports whether the connection is relayed frame by frame. It is not when it turned out to be something else, or what
// nobody can follow.
func (r *Relay) Follows() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.serving && !r.raw.Load()
}

// Open returns the lowest and the highest stream on which the client waits for the original, 0 if there is none.
func (r *Relay) Open() (oldest, newest uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, s := range r.streams {
		if s.theft != nil {
			continue
		}
		if oldest == 0 || id < oldest {
			oldest = id
		}
		newest = max(newest, id)
	}
	return oldest, newest
}
