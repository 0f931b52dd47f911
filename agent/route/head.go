package route

import "time"

const (
	// maxHead is where a head stops being ours to follow.
	maxHead = largeBuffer
	// maxMethod is twice the longest registered method. Bytes without a space for longer than this are no request.
	maxMethod = 32
	// maxFields bounds what a head of many short lines makes us keep.
	maxFields = 1024
	// keptFields is what an idle connection keeps memory for.
	keptFields = 64
)

// A method that changes what we do with the request.
type method uint8

const (
	methodOther method = iota
	methodSafe         // RFC 9110 section 9.2.1
	methodIdempotent
	methodHead // is safe
	methodConnect
)

// A head is the head of a request as far as it was read. The zero value is ready for a first byte; offsets count from there.
type head struct {
	framing
	n      int // length of the whole head, when clean
	reason string

	since     time.Time // when it began to wait for its body, if it did
	continued bool      // the client was told by us to send it
	method    method
	minor     byte // '0' or '1'
	name      int  // end of the method
	target    int  // end of the target
	fields    []field
	pos, scan int // start of the line that is being read, and how much of it was searched for its end
}

// reset makes h ready for the next request, keeping memory for an ordinary one.
func (h *head) reset() {
	fields := h.fields[:0]
	if cap(fields) > keptFields {
		fields = nil
	}
	*h = head{fields: fields}
}

// safe reports whether asking twice is as good as asking once.
func (h *head) safe() bool { return h.method == methodSafe || h.method == methodHead }

// lasts reports whether the client means to keep the connection (RFC 9112 section 9.3).
func (h *head) lasts() bool { return !h.close && (h.minor == '1' || h.keepAlive) }

// body returns the tracker of what follows the head.
func (h *head) body() body {
	switch {
	case h.chunked:
		return body{kind: chunkedBody}
	case h.length > 0:
		return body{kind: lengthBody, left: h.length}
	}
	return body{}
}

// parse reads on in b, which starts at the request's first byte and has grown since the last call. It looks at no byte twice,
// except those of a line that was not complete.
func (h *head) parse(b []byte) verdict {
	if h.pos == 0 {
		if v := h.requestLine(b); v != clean {
			return h.bound(b, v)
		}
	}
	for {
		end, next, reason := nextLine(b, h.pos, max(h.pos, h.scan))
		switch {
		case reason != "":
			return h.doubt(reason)
		case next == 0:
			h.scan = len(b)
			return h.bound(b, incomplete)
		case end == h.pos:
			h.n = next
			return h.check()
		case len(h.fields) == maxFields:
			return oversized
		}
		f, reason := h.note(b, h.pos, end)
		if reason != "" {
			return h.doubt(reason)
		}
		h.fields = append(h.fields, f)
		h.pos = next
	}
}

func (h *head) bound(b []byte, v verdict) verdict {
	if v == incomplete && len(b) >= maxHead {
		return oversized
	}
	return v
}

func (h *head) doubt(reason string) verdict {
	h.reason = reason
	return doubtful
}

// check judges the head as a whole.
func (h *head) check() verdict {
	switch {
	case h.n > maxHead:
		return oversized
	case h.hasEncoding && h.minor == '0':
		return h.doubt(oldEncoding)
	case h.method == methodConnect && (h.hasEncoding || h.length > 0):
		return h.doubt(connectBody)
	}
	return clean
}

// requestLine reads the first line, or says at the first byte that cannot be in one that this is not HTTP/1. It goes by
// RFC 9112 section 3 to the letter: one space each, no empty line before, HTTP/1.0 or HTTP/1.1.
func (h *head) requestLine(b []byte) verdict {
	i := 0
	for i < len(b) && tokens[b[i]] {
		i++
	}
	if i > maxMethod {
		return foreign
	}
	if i == len(b) {
		return incomplete
	}
	if i == 0 || b[i] != ' ' {
		return foreign
	}
	h.name = i
	return h.targetAndVersion(b, i+1)
}

func (h *head) targetAndVersion(b []byte, i int) verdict {
	start := i
	i = max(i, h.scan) // what was seen of a long target needs no second look
	for i < len(b) && b[i] > ' ' && b[i] != 0x7f {
		i++
	}
	if i == len(b) {
		h.scan = i
		return incomplete
	}
	if i == start || b[i] != ' ' {
		return foreign
	}
	h.target, h.scan = i, i
	const version = "HTTP/1.x\r\n"
	got := b[i+1:]
	if len(got) < len(version) {
		return partialVersion(got)
	}
	if string(got[:7]) != version[:7] || got[7] != '0' && got[7] != '1' || got[8] != '\r' || got[9] != '\n' {
		return foreign
	}
	h.minor = got[7]
	h.pos = i + 1 + len(version)
	h.method = methodOf(b[:h.name])
	return clean
}

func partialVersion(got []byte) verdict {
	const prefix = "HTTP/1."
	n := min(len(got), len(prefix))
	if string(got[:n]) != prefix[:n] {
		return foreign
	}
	if len(got) > 7 && got[7] != '0' && got[7] != '1' || len(got) > 8 && got[8] != '\r' {
		return foreign
	}
	return incomplete
}

func methodOf(name []byte) method {
	switch string(name) {
	case "GET", "OPTIONS", "TRACE":
		return methodSafe
	case "HEAD":
		return methodHead
	case "PUT", "DELETE":
		return methodIdempotent
	case "CONNECT":
		return methodConnect
	}
	return methodOther
}

// A reply is the head of an answer as far as it was read.
type reply struct {
	framing
	n         int
	status    int
	minor     byte
	pos, scan int
}

// parse reads on in b, which starts at the answer's first byte. An answer that is not clean cannot be followed to its end.
func (r *reply) parse(b []byte) verdict {
	if r.pos == 0 {
		if v := r.statusLine(b); v != clean {
			return v
		}
	}
	for {
		end, next, reason := nextLine(b, r.pos, max(r.pos, r.scan))
		switch {
		case reason != "":
			return doubtful
		case next == 0 && len(b) >= maxHead:
			return oversized
		case next == 0:
			r.scan = len(b)
			return incomplete
		case end == r.pos && r.hasEncoding && r.minor == '0':
			return doubtful
		case end == r.pos:
			r.n = next
			return clean
		}
		if _, reason := r.note(b, r.pos, end); reason != "" {
			return doubtful
		}
		r.pos = next
	}
}

// statusLine reads "HTTP/1.x NNN", then anything up to the end of the line (RFC 9112 section 4; a missing reason with its space
// is common and harmless).
func (r *reply) statusLine(b []byte) verdict {
	const form = "HTTP/1.x NNN"
	for i := range min(len(b), len(form)) {
		c := b[i]
		switch form[i] {
		case 'x':
			if c != '0' && c != '1' {
				return foreign
			}
		case 'N':
			if c < '0' || c > '9' {
				return foreign
			}
		default:
			if c != form[i] {
				return foreign
			}
		}
	}
	if len(b) <= len(form) {
		return incomplete
	}
	end, next, reason := nextLine(b, 0, len(form))
	switch {
	case reason != "":
		return doubtful
	case next == 0 && len(b) >= maxHead:
		return oversized
	case next == 0:
		return incomplete
	case end > len(form) && b[len(form)] != ' ', b[len(form)-3] == '0', !plain(b[:end]):
		return doubtful
	}
	r.minor = b[7]
	r.status = int(b[9]-'0')*100 + int(b[10]-'0')*10 + int(b[11]-'0')
	r.pos = next
	return clean
}

// interim reports whether another answer to the same request follows.
func (r *reply) interim() bool { return r.status >= 100 && r.status < 200 && r.status != 101 }

// lasts reports whether the connection goes on after this answer.
func (r *reply) lasts() bool { return !r.close && (r.minor == '1' || r.keepAlive) }

// body returns the tracker of what follows the head of the answer to such a request (RFC 9112 section 6.3).
func (r *reply) body(asked method) body {
	switch {
	case r.status < 200, r.status == 204, r.status == 304, asked == methodHead:
		return body{}
	case r.chunked:
		return body{kind: chunkedBody}
	case !r.hasLength:
		return body{kind: endlessBody}
	case r.length > 0:
		return body{kind: lengthBody, left: r.length}
	}
	return body{}
}
