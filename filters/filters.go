// Package filters is the language in which a session says which requests are its own: by a header line, the path or the method,
// joined with and, or, not. It never sees a body, and it never changes what it is asked about. docs/FILTERS.md is for users.
package filters

import "slices"

// A Request is what filters look at. It stays the caller's: no filter keeps any of it.
type Request struct {
	Method []byte
	Path   []byte // the request target as sent, with its query, without blanks and control bytes
	Fields []Field
}

// A Field is one header line as sent: Name is a token, Value has neither white space around it nor control bytes in it.
type Field struct {
	Name, Value []byte
}

// A Filter chooses requests. It never changes and is safe for concurrent use. There is no empty one: a nil *Filter, where it is
// allowed at all, means that there is no filter.
type Filter struct {
	root node
}

// A node is one of *header, *path, *method, and, or, not.
type node interface {
	matches(r *Request) bool
}

type (
	and []node
	or  []node
	not struct{ part node }
)

// Header chooses requests with a header line `Name: value` that the expression covers as a whole, in any case: `x-user: al` is
// not alice's. Where a name comes more than once, one of its lines is enough. Errors are of type *SyntaxError.
func Header(expr string) (*Filter, error) {
	h, err := newHeader(expr)
	return wrap(h, err)
}

// Path chooses requests in whose path, with its query, the expression is found, in any case; ^ and $ stand for its ends.
// Errors are of type *SyntaxError.
func Path(expr string) (*Filter, error) {
	p, err := newPath(expr)
	return wrap(p, err)
}

// Method chooses requests whose method the expression covers as a whole, in any case. Errors are of type *SyntaxError.
func Method(expr string) (*Filter, error) {
	m, err := newMethod(expr)
	return wrap(m, err)
}

func wrap(n node, err error) (*Filter, error) {
	if err != nil {
		return nil, err
	}
	return &Filter{root: n}, nil
}

// All chooses the requests that each of the parts chooses. There must be one, and none may be nil.
// Like Any and Not it sets no bounds: the text of what it makes may be more than Parse takes.
func All(parts ...*Filter) *Filter {
	nodes := make([]node, len(parts))
	for i, p := range parts {
		nodes[i] = p.root
	}
	return &Filter{root: joinAnd(nodes)}
}

// Any chooses the requests that at least one of the parts chooses. There must be one, and none may be nil.
func Any(parts ...*Filter) *Filter {
	nodes := make([]node, len(parts))
	for i, p := range parts {
		nodes[i] = p.root
	}
	return &Filter{root: joinOr(nodes)}
}

// Not chooses the requests that f, which must not be nil, does not choose.
func Not(f *Filter) *Filter { return &Filter{root: invert(f.root)} }

// joinAnd keeps the tree flat, so that a filter and its text say the same in the same shape.
func joinAnd(parts []node) node {
	flat := and{}
	for _, p := range parts {
		if inner, ok := p.(and); ok {
			flat = append(flat, inner...)
		} else {
			flat = append(flat, p)
		}
	}
	return only(flat, flat)
}

func joinOr(parts []node) node {
	flat := or{}
	for _, p := range parts {
		if inner, ok := p.(or); ok {
			flat = append(flat, inner...)
		} else {
			flat = append(flat, p)
		}
	}
	return only(flat, flat)
}

// only returns the only part, if there is only one, else the whole.
func only(parts []node, whole node) node {
	switch len(parts) {
	case 0:
		panic("filters: nothing to join") // it would choose all requests, or none, and nobody asked for that
	case 1:
		return parts[0]
	}
	return whole
}

func invert(n node) node {
	if inner, ok := n.(not); ok {
		return inner.part
	}
	return not{n}
}

// Matches reports whether the filter chooses the request. It does not allocate, save that an expression that needs the whole of
// a line in one piece fills a buffer that it keeps.
func (f *Filter) Matches(r *Request) bool { return f.root.matches(r) }

func (n and) matches(r *Request) bool {
	for _, p := range n {
		if !p.matches(r) {
			return false
		}
	}
	return true
}

func (n or) matches(r *Request) bool {
	return slices.ContainsFunc(n, func(p node) bool { return p.matches(r) })
}

func (n not) matches(r *Request) bool { return !n.part.matches(r) }
