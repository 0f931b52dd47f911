package filters

// A query is a JSONPath (RFC 9535): where to look for values.
type query struct {
	relative bool // it starts at @, the value that a condition is asked about; else at $, the whole
	segments []segment
}

// A segment goes from a value to some of its members or elements.
type segment struct {
	deep      bool // from all that is in the value too
	selectors []selector
}

// A selector chooses among the members of an object, or the elements of an array.
type selector struct {
	kind      selectorKind
	name      string
	index     int // from the end if negative
	slice     slice
	condition condition
}

type selectorKind uint8

const (
	byName selectorKind = iota
	byIndex
	bySlice
	byCondition
	everything
)

// A slice chooses elements from, inclusive, to, exclusive, every step-th.
type slice struct {
	from, to       int
	fromSet, toSet bool
	step           int
}

// single reports whether the query selects at most one value, where no object has two members of one name.
func (q *query) single() bool {
	for _, s := range q.segments {
		if s.deep || len(s.selectors) != 1 || s.selectors[0].kind != byName && s.selectors[0].kind != byIndex {
			return false
		}
	}
	return true
}

// meets reports whether there may be a value that both queries select.
func (q *query) meets(o *query) bool {
	deep := func(q *query) bool {
		for _, s := range q.segments {
			if s.deep {
				return true
			}
		}
		return false
	}
	a, b := q.segments, o.segments
	if deep(q) || deep(o) { // the ways there differ; the last step is all that can be compared
		a, b = a[max(len(a)-1, 0):], b[max(len(b)-1, 0):]
	}
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].meets(&b[i]) {
			return false
		}
	}
	return true
}

func (s *segment) meets(o *segment) bool {
	for _, x := range s.selectors {
		for _, y := range o.selectors {
			if x.meets(&y) {
				return true
			}
		}
	}
	return false
}

func (s *selector) meets(o *selector) bool {
	elements := func(k selectorKind) bool { return k == byIndex || k == bySlice }
	switch {
	case s.kind == byName && o.kind == byName:
		return s.name == o.name
	case s.kind == byIndex && o.kind == byIndex && s.index < 0 == (o.index < 0):
		return s.index == o.index
	case s.kind == byName:
		return !elements(o.kind)
	case o.kind == byName:
		return !elements(s.kind)
	}
	return true
}

// A walk goes from value to value, and stops when found says so, or when the document has no work left.
type walk struct {
	doc   *document
	found func(at int32) (stop bool)
}

func (w *walk) from(at int32, segments []segment) (stop bool) {
	if len(segments) == 0 {
		return w.found(at)
	}
	s, end := &segments[0], at+1
	if s.deep {
		end = w.doc.values[at].next
	}
	for ; at < end; at++ {
		for i := range s.selectors {
			if !w.doc.spend(1) || w.into(at, &s.selectors[i], segments[1:]) {
				return true
			}
		}
	}
	return false
}

// into goes on from what the selector chooses in one value.
func (w *walk) into(at int32, s *selector, rest []segment) (stop bool) {
	values := w.doc.values
	in, n := &values[at], 0
	if s.kind == bySlice || s.kind == byIndex {
		if in.kind != arrayValue {
			return false
		}
		if n = w.doc.length(at); !w.doc.spend(n) {
			return true
		}
	}
	i := 0
	for c := at + 1; c < in.next; c = values[c].next {
		if !w.doc.spend(1) || w.chooses(s, c, i, n) && w.from(c, rest) {
			return true
		}
		i++
	}
	return false
}

// length returns how many elements an array has.
func (d *document) length(at int32) (n int) {
	for c := at + 1; c < d.values[at].next; c = d.values[c].next {
		n++
	}
	return n
}

// chooses reports whether the selector chooses the value at, the i-th of n.
func (w *walk) chooses(s *selector, at int32, i, n int) bool {
	switch s.kind {
	case byName:
		name := w.doc.values[at].name
		return name != (span{}) && string(unquote(w.doc.body[name.start:name.end])) == s.name
	case byIndex:
		return i == s.index || i == s.index+n
	case bySlice:
		return s.slice.has(i, n)
	case byCondition:
		return s.condition.holds(w.doc, at)
	}
	return true
}

// has reports whether the i-th of n elements is in the slice (RFC 9535 section 2.3.4.2.2).
func (s slice) has(i, n int) bool {
	at := func(set bool, bound, otherwise int) int {
		switch {
		case !set:
			return otherwise
		case bound < 0:
			return bound + n
		}
		return bound
	}
	switch {
	case s.step > 0:
		from, to := max(at(s.fromSet, s.from, 0), 0), at(s.toSet, s.to, n)
		return from <= i && i < to && (i-from)%s.step == 0
	case s.step < 0:
		from, to := min(at(s.fromSet, s.from, n-1), n-1), at(s.toSet, s.to, -1)
		return to < i && i <= from && (from-i)%-s.step == 0
	}
	return false
}
