package h2

import (
	"errors"
	"io"
	"slices"
	"syscall"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

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
