// Package filters is the language in which a session says which requests are its own: by a header line, the path, the method or
// a JSON body, joined with and, or, not. It never reads a body itself, and it never changes what it is asked about.
// docs/FILTERS.md is for users.
package filters

import "slices"

// A Request is what filters look at. It stays the caller's: no filter keeps any of it.
type Request struct {
	Method []byte
	Path   []byte // the request target as sent, with its query, without blanks and control bytes
	Fields []Field

	// Body is the whole content, without transfer and content codings, once BodyKnown is set. A request that has none has an empty one.
	Body      []byte
	BodyKnown bool
}

// A Field is one header line as sent: Name is a token, Value has neither white space around it nor control bytes in it.
type Field struct {
	Name, Value []byte
}

// A Filter chooses requests. It never changes and is safe for concurrent use. There is no empty one: a nil *Filter, where it is
// allowed at all, means that there is no filter.
type Filter struct {
	root node
	body bool // some part looks at bodies
}

// A Verdict is what a filter says of a request.
type Verdict uint8

// The verdicts. The zero value is the one that does no harm.
const (
	No        Verdict = iota // the filter does not choose the request
	Yes                      // it does
	NeedsBody                // that depends on a body which is not known
)

// A node is one of *header, *path, *method, *body, and, or, not. It judges by the head alone where doc is nil.
type node interface {
	judge(r *Request, doc *document) Verdict
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

// Body chooses requests whose body is JSON with a value that is selected by a JSONPath and covered by an expression, in any case:
// `$.user.id: me`. One of several selected values is enough. Errors are of type *SyntaxError.
func Body(expr string) (*Filter, error) {
	b, err := newBody(expr)
	return wrap(b, err)
}

func wrap(n node, err error) (*Filter, error) {
	if err != nil {
		return nil, err
	}
	return newFilter(n), nil
}

func newFilter(root node) *Filter { return &Filter{root: root, body: looksAtBody(root)} }

func looksAtBody(n node) bool {
	switch n := n.(type) {
	case *body:
		return true
	case and:
		return slices.ContainsFunc(n, looksAtBody)
	case or:
		return slices.ContainsFunc(n, looksAtBody)
	case not:
		return looksAtBody(n.part)
	}
	return false
}

// All chooses the requests that each of the parts chooses. There must be one, and none may be nil.
// Like Any and Not it sets no bounds: the text of what it makes may be more than Parse takes.
func All(parts ...*Filter) *Filter {
	nodes := make([]node, len(parts))
	for i, p := range parts {
		nodes[i] = p.root
	}
	return newFilter(joinAnd(nodes))
}

// Any chooses the requests that at least one of the parts chooses. There must be one, and none may be nil.
func Any(parts ...*Filter) *Filter {
	nodes := make([]node, len(parts))
	for i, p := range parts {
		nodes[i] = p.root
	}
	return newFilter(joinOr(nodes))
}

// Not chooses the requests that f, which must not be nil, does not choose.
func Not(f *Filter) *Filter { return newFilter(invert(f.root)) }

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

// Matches reports whether the filter chooses the request, by what is known of it: where that depends on a body that is not known,
// it does not.
func (f *Filter) Matches(r *Request) bool { return f.Judge(r) == Yes }

// Judge says whether the filter chooses the request. By the head alone, if the head decides: NeedsBody means that it does not, and
// that the body is not known. It does not allocate unless it looks at a body, save that an expression that needs the whole of a
// line in one piece fills a buffer that it keeps.
func (f *Filter) Judge(r *Request) Verdict {
	v := f.root.judge(r, nil)
	if v != NeedsBody || !r.BodyKnown {
		return v
	}
	doc := readDocument(r.Body)
	defer doc.forget()
	if f.root.judge(r, doc) == Yes {
		return Yes
	}
	return No // also where a body is too much work: the request passes
}

// NeedsBody reports whether any part of the filter looks at bodies.
func (f *Filter) NeedsBody() bool { return f.body }

func decided(chosen bool) Verdict {
	if chosen {
		return Yes
	}
	return No
}

func (n and) judge(r *Request, doc *document) Verdict {
	all := Yes
	for _, p := range n {
		switch p.judge(r, doc) {
		case No:
			return No
		case NeedsBody:
			all = NeedsBody
		}
	}
	return all
}

func (n or) judge(r *Request, doc *document) Verdict {
	some := No
	for _, p := range n {
		switch p.judge(r, doc) {
		case Yes:
			return Yes
		case NeedsBody:
			some = NeedsBody
		}
	}
	return some
}

func (n not) judge(r *Request, doc *document) Verdict {
	switch n.part.judge(r, doc) {
	case No:
		return Yes
	case Yes:
		return No
	}
	return NeedsBody
}
