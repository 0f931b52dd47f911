package filters

import (
	"bytes"
	"encoding/json"
	"sync"
	"unsafe"
)

// MaxBody is how much of a body filters look at. Of a longer one it is not known whether a filter chooses it: keep no more.
const MaxBody = 64 << 10

const (
	// maxSteps is how much work one body may be, for all parts of a filter together: values visited, and bytes compared times the
	// size of the expression. A step takes up to 15 ns, and a body that is more work is nobody's.
	maxSteps = 2 << 20
	// maxKept is how many values a document that waits for its next use may have room for: most bodies of 64 KiB have fewer.
	maxKept = 4 << 10
)

// A document is a body as a list of its values. Each container is followed by all that is in it, so that no walk, however deep the
// body nests, looks at a byte twice.
type document struct {
	body    []byte
	values  []value
	open    []int32 // containers not yet closed, while reading
	scratch []byte
	work    int // steps left
}

type value struct {
	kind       valueKind
	start, end int32 // in the body
	name       span  // of a member of an object, in quotes
	next       int32 // the value after this one and all that is in it
}

type span struct{ start, end int32 }

type valueKind uint8

const (
	literalValue valueKind = iota // true, false, null
	numberValue
	stringValue
	objectValue
	arrayValue
)

var documents = sync.Pool{New: func() any { return new(document) }}

// readDocument reads a body. One that is not JSON has no values; one that is too long has no work left.
func readDocument(body []byte) *document {
	d := documents.Get().(*document)
	d.values, d.open, d.work = d.values[:0], d.open[:0], maxSteps
	if len(body) > MaxBody {
		d.work = -1
		return d
	}
	d.body = bytes.TrimPrefix(body, []byte("\ufeff")) // RFC 8259 section 8.1: parsers may ignore it
	if json.Valid(d.body) {
		d.read()
	}
	return d
}

// forget gives the document back. It keeps nothing of the body.
func (d *document) forget() {
	d.body = nil
	if cap(d.values) <= maxKept && cap(d.scratch) <= MaxBody {
		documents.Put(d)
	}
}

// spend takes from the work that is left, and reports whether there was enough.
func (d *document) spend(steps int) bool {
	if d.work >= 0 {
		d.work -= steps
	}
	return d.work >= 0
}

// read lists the values of what is known to be JSON.
func (d *document) read() {
	var name span
	for at := 0; at < len(d.body); {
		end := at + 1
		switch c := d.body[at]; c {
		case ' ', '\t', '\r', '\n', ',', ':':
		case '{', '[':
			kind := objectValue
			if c == '[' {
				kind = arrayValue
			}
			d.open = append(d.open, int32(len(d.values)))
			d.add(kind, at, end, &name)
		case '}', ']':
			container := &d.values[d.open[len(d.open)-1]]
			d.open = d.open[:len(d.open)-1]
			container.end, container.next = int32(end), int32(len(d.values))
		case '"':
			end = stringEnd(d.body, at)
			if name == (span{}) && d.inObject() {
				name = span{int32(at), int32(end)}
			} else {
				d.add(stringValue, at, end, &name)
			}
		default:
			end = at + wordLength(d.body[at:])
			d.add(wordKind(c), at, end, &name)
		}
		at = end
	}
}

func (d *document) inObject() bool {
	return len(d.open) > 0 && d.values[d.open[len(d.open)-1]].kind == objectValue
}

func (d *document) add(kind valueKind, start, end int, name *span) {
	d.values = append(d.values, value{kind: kind, start: int32(start), end: int32(end), name: *name, next: int32(len(d.values) + 1)})
	*name = span{}
}

// stringEnd returns the offset after the string that starts at i.
func stringEnd(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// wordLength returns the length of the number, true, false or null at the beginning of b.
func wordLength(b []byte) int {
	if n := bytes.IndexAny(b, " \t\r\n,]}"); n >= 0 {
		return n
	}
	return len(b)
}

func wordKind(c byte) valueKind {
	if c == '-' || '0' <= c && c <= '9' {
		return numberValue
	}
	return literalValue
}

// text returns what an expression sees of a value: a string as it is, all else as JSON text without white space around its signs.
// It is good until the next call.
func (d *document) text(v *value) []byte {
	switch raw := d.body[v.start:v.end]; v.kind {
	case stringValue:
		return unquote(raw)
	case objectValue, arrayValue:
		d.scratch = appendCompact(d.scratch[:0], raw)
		return d.scratch
	default:
		return raw
	}
}

// unquote returns what stands in a string. Half of a surrogate pair, which stands for nothing, becomes U+FFFD.
func unquote(raw []byte) []byte {
	inner := raw[1 : len(raw)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		panic("filters: a string in JSON is none") // it was found valid
	}
	return unsafe.Slice(unsafe.StringData(s), len(s)) // nobody writes to it
}

// appendCompact appends JSON text without the white space between its parts.
func appendCompact(to, raw []byte) []byte {
	for at := 0; at < len(raw); {
		end := at + 1
		switch raw[at] {
		case ' ', '\t', '\r', '\n':
			at = end
			continue
		case '"':
			end = stringEnd(raw, at)
		}
		to = append(to, raw[at:end]...)
		at = end
	}
	return to
}
