package filters

import (
	"slices"
	"strconv"
)

// A condition stands in [?…]: one of oneOf, allOf, inverse, exists, comparison.
type condition interface {
	holds(doc *document, at int32) bool
}

type (
	oneOf   []condition
	allOf   []condition
	inverse struct{ condition }
	exists  struct{ query *query }
)

func (c oneOf) holds(doc *document, at int32) bool {
	return slices.ContainsFunc(c, func(part condition) bool { return part.holds(doc, at) })
}

func (c allOf) holds(doc *document, at int32) bool {
	return !slices.ContainsFunc(c, func(part condition) bool { return !part.holds(doc, at) })
}

func (c inverse) holds(doc *document, at int32) bool { return !c.condition.holds(doc, at) }

func (c exists) holds(doc *document, at int32) (found bool) {
	w := walk{doc, func(int32) bool { found = true; return true }}
	w.from(c.query.start(at), c.query.segments)
	return found
}

func (q *query) start(at int32) int32 {
	if q.relative {
		return at
	}
	return 0
}

// A comparison compares two operands as RFC 9535 section 2.3.5.2.2 has it, save that an object or an array equals nothing.
type comparison struct {
	left, right operand
	less, equal bool // which outcomes make it hold
	opposite    bool // !=
	swapped     bool // > and >= are < and <= with the sides changed
}

// An operand is what a query for a single value selects, or a constant.
type operand struct {
	query    *query // nil: constant
	constant scalar
}

// comparisonSteps is what an operand costs beside its length.
const comparisonSteps = 8

// A scalar is a value that can be compared. Its kind is that of a container for one that cannot.
type scalar struct {
	missing bool
	kind    valueKind
	text    string
	number  float64
}

func (c comparison) holds(doc *document, at int32) bool {
	a, b := c.left.value(doc, at), c.right.value(doc, at)
	if c.opposite {
		return !a.equals(b)
	}
	return c.equal && a.equals(b) || c.less && a.less(b)
}

func (o operand) value(doc *document, at int32) scalar {
	if o.query == nil {
		return o.constant
	}
	last := int32(-1) // of members with one name, as most parsers
	w := walk{doc, func(at int32) bool { last = at; return false }}
	w.from(o.query.start(at), o.query.segments)
	if last < 0 {
		return scalar{missing: true}
	}
	return doc.scalar(last)
}

func (d *document) scalar(at int32) scalar {
	v := &d.values[at]
	s := scalar{kind: v.kind}
	if v.kind == objectValue || v.kind == arrayValue || !d.spend(comparisonSteps+int(v.end-v.start)) {
		return s
	}
	s.text = string(d.text(v))
	if v.kind == numberValue {
		s.number, _ = strconv.ParseFloat(s.text, 64) // beyond its range it is infinite
	}
	return s
}

func (s scalar) equals(o scalar) bool {
	switch {
	case s.missing || o.missing:
		return s.missing && o.missing
	case s.kind != o.kind || s.kind == objectValue || s.kind == arrayValue:
		return false
	case s.kind == numberValue:
		return s.number == o.number
	}
	return s.text == o.text
}

func (s scalar) less(o scalar) bool {
	switch {
	case s.missing || o.missing || s.kind != o.kind:
		return false
	case s.kind == numberValue:
		return s.number < o.number
	}
	return s.kind == stringValue && s.text < o.text
}
