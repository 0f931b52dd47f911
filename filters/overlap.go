package filters

import (
	"reflect"
	"regexp/syntax"
	"slices"
)

// maxClauses bounds the alternatives into which a filter is taken apart. With more, filters count as overlapping.
const maxClauses = 64

// Overlap reports whether two filters ask for the same requests, so that the second of two sessions must be refused. When it
// cannot tell within its bounds, it says yes. It says no only where, for each alternative of a and each of b,
//
//   - no request with at most one field of each name, and one member of each name in an object, could match both, or
//   - both ask for header lines, but no line serves both: one has a name that the other does not ask for, or
//   - not both ask for header lines, but both for values in the body, and no value serves both, or
//   - they ask for different kinds of things: one for header lines alone and the other for a path, for example.
//
// In the last three cases a request may still carry both things; it goes to the older session then. To ask for something is to want
// it; what is only ruled out by ! is not asked for, and a filter that asks for nothing overlaps with all that it does not rule out.
func Overlap(a, b *Filter) bool {
	as, ok := clauses(a.root, false)
	if !ok {
		return true
	}
	bs, ok := clauses(b.root, false)
	if !ok {
		return true
	}
	work := maxWork
	for _, x := range as {
		for _, y := range bs {
			if x.overlaps(y, &work) {
				return true
			}
		}
	}
	return false
}

// A clause is one way to match: all that is asked for is there, and nothing of what is ruled out.
type clause struct {
	asked, ruledOut terms
}

// terms are expressions by kind.
type terms struct {
	headers        []line
	paths, methods []*syntax.Prog
	bodies         []selected
}

// A line is a header line asked for.
type line struct {
	names []string // that it can have; nil: not known
	prog  *syntax.Prog
}

// A selected is a value in the body asked for.
type selected struct {
	query *query
	prog  *syntax.Prog
}

func (t terms) join(o terms) terms {
	return terms{slices.Concat(t.headers, o.headers), slices.Concat(t.paths, o.paths), slices.Concat(t.methods, o.methods), slices.Concat(t.bodies, o.bodies)}
}

func (t terms) empty() bool { return len(t.headers)+len(t.paths)+len(t.methods)+len(t.bodies) == 0 }

// clauses takes a filter, or its opposite, apart. It returns false if there would be too many.
func clauses(n node, inverted bool) ([]clause, bool) {
	switch n := n.(type) {
	case not:
		return clauses(n.part, !inverted)
	case and:
		return joinClauses(n, inverted, !inverted)
	case or:
		return joinClauses(n, inverted, inverted)
	}
	var t terms
	switch n := n.(type) {
	case *header:
		t.headers = []line{{n.names(), program(reparse(kindHeader, n.expr), kindHeader)}}
	case *path:
		t.paths = []*syntax.Prog{program(reparse(kindPath, n.expr), kindPath)}
	case *method:
		t.methods = []*syntax.Prog{program(reparse(kindMethod, n.expr), kindMethod)}
	case *body:
		t.bodies = []selected{{n.query, program(reparse(kindBody, n.value), kindBody)}}
	}
	if inverted {
		return []clause{{ruledOut: t}}, true
	}
	return []clause{{asked: t}}, true
}

// joinClauses takes several parts apart of which all must match, or any.
func joinClauses(parts []node, inverted, all bool) (joined []clause, ok bool) {
	if all {
		joined = []clause{{}}
	}
	for _, part := range parts {
		these, ok := clauses(part, inverted)
		if !ok {
			return nil, false
		}
		if all {
			these, joined = pairs(joined, these), nil
		}
		if joined = append(joined, these...); len(joined) > maxClauses {
			return nil, false
		}
	}
	return joined, true
}

// pairs joins each clause of a with each of b.
func pairs(a, b []clause) (joined []clause) {
	for _, x := range a {
		for _, y := range b {
			joined = append(joined, clause{x.asked.join(y.asked), x.ruledOut.join(y.ruledOut)})
		}
	}
	return joined
}

// overlaps answers for two alternatives. First it looks for what keeps any request from matching both, then for what they share.
func (c clause) overlaps(o clause, work *int) bool {
	ruledOut := c.ruledOut.join(o.ruledOut)
	both := c.asked.join(o.asked)
	if !meet(work, kindPath, both.paths, ruledOut.paths) || !meet(work, kindMethod, both.methods, ruledOut.methods) {
		return false
	}
	if !possible(work, both.bodies, ruledOut.bodies) {
		return false
	}
	var no []*syntax.Prog
	for _, l := range ruledOut.headers {
		no = append(no, l.prog)
	}
	for _, l := range both.headers {
		if !meet(work, kindHeader, []*syntax.Prog{l.prog}, no) {
			return false
		}
	}
	shared := false
	for _, l := range c.asked.headers {
		for _, m := range o.asked.headers {
			meets := meet(work, kindHeader, []*syntax.Prog{l.prog, m.prog}, no)
			if !meets && sameName(l, m) {
				return false
			}
			shared = shared || meets
		}
	}
	switch {
	case len(c.asked.headers) > 0 && len(o.asked.headers) > 0:
		return shared
	case len(c.asked.bodies) > 0 && len(o.asked.bodies) > 0:
		return shareValue(work, c.asked.bodies, o.asked.bodies, ruledOut.bodies)
	case c.asked.empty() || o.asked.empty():
		return true
	}
	return len(c.asked.paths) > 0 && len(o.asked.paths) > 0 || len(c.asked.methods) > 0 && len(o.asked.methods) > 0
}

// sameName reports whether both are lines of one and the same name.
func sameName(l, m line) bool {
	if l.names == nil || m.names == nil {
		return false
	}
	return !slices.ContainsFunc(slices.Concat(l.names, m.names), func(name string) bool { return name != l.names[0] })
}

// possible reports whether one body may have all the values asked for, and none of those ruled out. Only values that one path selects
// are told apart.
func possible(work *int, asked, ruledOut []selected) bool {
	for i, v := range asked {
		wanted := []*syntax.Prog{v.prog}
		for _, other := range asked[i+1:] {
			if v.query.single() && v.samePath(other) {
				wanted = append(wanted, other.prog)
			}
		}
		if !meet(work, kindBody, wanted, v.unwanted(ruledOut)) {
			return false
		}
	}
	return true
}

// shareValue reports whether one value in a body may serve both.
func shareValue(work *int, a, b, ruledOut []selected) bool {
	for _, v := range a {
		for _, o := range b {
			if v.query.meets(o.query) && meet(work, kindBody, []*syntax.Prog{v.prog, o.prog}, v.unwanted(ruledOut)) {
				return true
			}
		}
	}
	return false
}

// unwanted returns what no value with the same path may be like.
func (v selected) unwanted(ruledOut []selected) (no []*syntax.Prog) {
	for _, out := range ruledOut {
		if v.samePath(out) {
			no = append(no, out.prog)
		}
	}
	return no
}

func (v selected) samePath(o selected) bool { return reflect.DeepEqual(v.query, o.query) }
