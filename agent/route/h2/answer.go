package h2

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// lockedHead hands on the head of an answer, or its trailers.
func (l *local) lockedHead(h header) error {
	s := l.streams[h.stream]
	if s == nil {
		return nil
	}
	t, end := s.theft, h.has(flagEndStream)
	status := 0
	if fields := l.blocks.fields; len(fields) > 0 && fields[0].Name == ":status" {
		status = number(fields[0].Value)
	}
	if (status == 0) != t.final || t.down.end || end && status/100 == 1 || t.final && !end {
		l.lockedMisspoke(s)
		return nil
	}
	if !t.heard {
		t.heard = true
		l.lockedRelease(t)
	}
	t.final = t.final || status/100 != 1
	l.served = true
	if s.trip != nil && status/100 != 1 && status > 0 {
		s.trip.Status = status
	}
	t.down.block, t.down.head = encodePlain(l.blocks.fields), true
	t.down.end = end
	l.lockedPour(s)
	return nil
}

// lockedMisspoke ends a stream on which the local process has said what is no answer.
func (l *local) lockedMisspoke(s *stream) {
	if s.theft.heard {
		l.lockedBreak(s, http2.ErrCodeInternal)
		return
	}
	l.lockedLeave(s, http2.ErrCodeProtocol)
	l.lockedAnswer(s, errSpeech.Error())
}

// lockedData hands on data of an answer.
func (l *local) lockedData(h header, payload []byte) error {
	if l.credit -= int64(h.length); l.credit < 0 {
		return errSpeech
	}
	data, ok := h.unpad(payload)
	if !ok {
		return errSpeech
	}
	s := l.streams[h.stream]
	if s == nil {
		l.owed += h.length
		return nil
	}
	t := s.theft
	if !t.final || t.down.end {
		l.owed += h.length
		l.lockedMisspoke(s)
		return nil
	}
	if padding := h.length - len(data); padding > 0 { // It does not reach the client, who cannot give it back.
		l.owed += padding
		l.control = appendWindowUpdate(l.control, s.at, int64(padding))
		l.wake.Signal()
	}
	t.down.buf = append(t.down.buf, data...)
	t.down.end = h.has(flagEndStream)
	l.lockedPour(s)
	return nil
}

// lockedPour sends to the client what its windows have room for.
func (r *Relay) lockedPour(s *stream) {
	t := s.theft
	p := &t.down
	if p.head && p.unsent() == 0 {
		end := p.end
		r.toClient.addBlock(s.id, p.block, end)
		p.block, p.head, p.ended = nil, false, end
		r.heardOf.local = true
	}
	for p.unsent() > 0 {
		n := r.down.lockedLend(int(min(int64(p.unsent()), p.sink, plainFrame)))
		if n <= 0 {
			if p.sink > 0 && !p.waits {
				p.waits = true
				r.waiting = append(r.lockedCurrent(r.waiting, r.stolen), s)
			}
			break
		}
		part := p.buf[p.next : p.next+n]
		p.next += n
		p.sink -= int64(n)
		p.ended = p.end && p.unsent() == 0 && !p.head
		ended := p.ended
		r.heardOf.local = true
		r.toClient.add(func(b []byte) []byte { return appendData(b, s.id, part, ended) })
		if t.local != nil {
			t.local.owed += n
		}
	}
	p.forget()
	if p.unsent() > 0 {
		return
	}
	if p.head {
		r.lockedPour(s)
		return
	}
	if p.end && !p.ended {
		p.ended = true
		r.toClient.add(func(b []byte) []byte { return appendData(b, s.id, nil, true) })
	}
	if !p.ended || s.answered {
		return
	}
	s.answered = true
	if t.quits && !s.asked {
		r.toClient.add(func(b []byte) []byte { return appendReset(b, s.id, t.quit) })
		s.asked = true
	}
	r.lockedClosed(s)
}

// lockedCurrent frees a list of what has been reset since, when that is most of it.
func (r *Relay) lockedCurrent(list []*stream, open int) []*stream {
	const few = 64
	if len(list) < 2*open+few {
		return list
	}
	return slices.DeleteFunc(list, func(s *stream) bool { return r.streams[s.id] != s || s.theft == nil })
}

// lockedDrain goes on with the answers that waited for the client's window.
func (r *Relay) lockedDrain() {
	if len(r.waiting) == 0 {
		return
	}
	waiting := r.waiting
	r.waiting = nil
	for _, s := range waiting {
		if s.theft != nil && r.streams[s.id] == s {
			s.theft.down.waits = false
			l := s.theft.local
			r.lockedPour(s)
			if l != nil {
				l.lockedReturn()
			}
		}
	}
}

// lockedAnswer answers for a session that cannot.
func (r *Relay) lockedAnswer(s *stream, cause string) {
	t := s.theft
	text := fmt.Sprintf("Magpie: session %s did not answer: %s\n", t.whom.Session(), cause)
	fields := []hpack.HeaderField{
		{Name: ":status", Value: "502"},
		{Name: "content-type", Value: "text/plain; charset=utf-8"},
		{Name: "content-length", Value: strconv.Itoa(len(text))},
	}
	if t.grpc != "" {
		const unavailable = "14"
		fields = []hpack.HeaderField{
			{Name: ":status", Value: "200"},
			{Name: "content-type", Value: t.grpc},
			{Name: "grpc-status", Value: unavailable},
			{Name: "grpc-message", Value: percent(strings.TrimSpace(text))},
		}
	}
	if s.trip != nil {
		s.trip.Status = 502
	}
	p := &t.down
	p.block, p.head, p.end = encodePlain(fields), true, true
	if t.grpc == "" && t.method != "HEAD" {
		p.end = false
		r.lockedPour(s)
		p.buf, p.end = append(p.buf, text...), true
	}
	t.quits, t.quit = true, http2.ErrCodeNo // The rest of the request is of no use.
	r.lockedPour(s)
}

// percent writes s as gRPC wants messages to be.
func percent(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// encodePlain encodes the head of an answer without the client's table, which is the original's.
func encodePlain(fields []hpack.HeaderField) []byte {
	var b []byte
	for _, f := range fields {
		const indexed = 0x80
		if i, ok := statuses[f.Value]; ok && f.Name == ":status" {
			b = append(b, indexed|i)
			continue
		}
		const literal, never = 0x00, 0x10
		if f.Sensitive {
			b = append(b, never)
		} else {
			b = append(b, literal)
		}
		b = appendString(appendString(b, f.Name), f.Value)
	}
	return b
}

// statuses are those in the static table (RFC 7541 appendix A).
var statuses = map[string]byte{"200": 8, "204": 9, "206": 10, "304": 11, "400": 12, "404": 13, "500": 14}

func appendString(b []byte, s string) []byte {
	const huffman = 0x80
	if n := hpack.HuffmanEncodeLength(s); n < uint64(len(s)) {
		return hpack.AppendHuffmanString(appendInteger(b, huffman, 7, n), s)
	}
	return append(appendInteger(b, 0, 7, uint64(len(s))), s...)
}

// appendInteger appends i with a prefix of so many bits (RFC 7541 section 5.1).
func appendInteger(b []byte, first byte, bits int, i uint64) []byte {
	most := uint64(1)<<bits - 1
	if i < most {
		return append(b, first|byte(i))
	}
	b = append(b, first|byte(most))
	for i -= most; i >= 0x80; i >>= 7 {
		b = append(b, byte(i)|0x80)
	}
	return append(b, byte(i))
}
