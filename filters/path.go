package filters

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// path chooses by the path with its query.
type path struct {
	expr   string
	starts []pathStart
	whole  *regexp.Regexp // nil if no start needs it
}

// A pathStart is one way in which a match can begin. Unlike a header line, a path is not covered but searched.
type pathStart struct {
	anchored bool   // at the beginning of the path
	ends     bool   // at the end of the path; else anything may follow
	literal  string // lower-case
	then     then   // thenEnd: the literal is all; else thenWhole
}

func newPath(expr string) (*path, error) {
	re, err := parseExpression(kindPath, expr)
	if err != nil {
		return nil, err
	}
	if !canMatch(re, kindPath) {
		return nil, noPath(expr)
	}
	p := &path{expr: expr}
	for _, s := range starts(re, false, false) {
		p.starts = append(p.starts, newPathStart(s))
	}
	if slices.ContainsFunc(p.starts, func(s pathStart) bool { return s.then == thenWhole }) {
		p.whole = compile(re)
	}
	return p, nil
}

func newPathStart(s start) pathStart {
	p := pathStart{anchored: s.anchored, literal: s.literal}
	if rest := s.rest.list(); len(rest) == 1 && rest[0].Op == syntax.OpEndText {
		p.ends = true
	} else if len(rest) > 0 {
		p.then = thenWhole
	}
	return p
}

func (p *path) judge(r *Request, _ *document) Verdict { return decided(p.matches(r)) }

func (p *path) matches(r *Request) bool {
	undecided := false
	for i := range p.starts {
		s := &p.starts[i]
		if s.then == thenWhole {
			undecided = undecided || !s.anchored || begins(r.Path, s.literal)
		} else if s.in(r.Path) {
			return true
		}
	}
	return undecided && p.whole.Match(r.Path)
}

func (s *pathStart) in(path []byte) bool {
	switch {
	case s.anchored && s.ends:
		return equals(path, s.literal)
	case s.anchored:
		return begins(path, s.literal)
	case s.ends:
		return len(path) >= len(s.literal) && begins(path[len(path)-len(s.literal):], s.literal)
	}
	return contains(path, s.literal)
}

// noPath explains an expression that is found in no path.
func noPath(expr string) error {
	e := &SyntaxError{Kind: kindPath, Expr: expr, Cause: "no path is like this", hint: "as in '^/beta/'"}
	switch blank := strings.IndexByte(expr, ' '); {
	case blank >= 0:
		e.Offset, e.Cause, e.hint = blank, "no path has a space in it", "clients send it as %20, in a query also as +, which is \\+ here"
	case len(expr) > 1 && expr[0] == '^' && expr[1] != '/':
		e.suggest(1, "every path starts with /", "^/"+expr[1:])
	}
	return e
}
