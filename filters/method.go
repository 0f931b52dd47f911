package filters

import "regexp"

// method chooses by the method.
type method struct {
	expr   string
	starts []methodStart
	whole  *regexp.Regexp // nil if no start needs it
}

type methodStart struct {
	literal string // lower-case
	then    then   // thenEnd, thenAny or thenWhole
}

func newMethod(expr string) (*method, error) {
	re, err := parseExpression(kindMethod, expr)
	if err != nil {
		return nil, err
	}
	if !canMatch(re, kindMethod) {
		return nil, &SyntaxError{Kind: kindMethod, Expr: expr, Cause: "no method is like this", hint: "as in 'PUT|POST'"}
	}
	m := &method{expr: expr}
	for _, s := range starts(re, true, false) {
		start := newMethodStart(s)
		if start.then == thenWhole && m.whole == nil {
			m.whole = compile(covering(re))
		}
		m.starts = append(m.starts, start)
	}
	return m, nil
}

func newMethodStart(s start) methodStart {
	m := methodStart{literal: s.literal}
	rest := s.rest.list()
	if len(rest) > 0 && isEnd(rest[len(rest)-1]) {
		rest = rest[:len(rest)-1]
	}
	switch {
	case len(rest) == 1 && isAnything(rest[0]):
		m.then = thenAny
	case len(rest) > 0:
		m.then = thenWhole
	}
	return m
}

func (m *method) judge(r *Request, _ *document) Verdict { return decided(m.matches(r)) }

func (m *method) matches(r *Request) bool {
	undecided := false
	for i := range m.starts {
		s := &m.starts[i]
		if !begins(r.Method, s.literal) {
			continue
		}
		switch s.then {
		case thenAny:
			return true
		case thenEnd:
			if len(r.Method) == len(s.literal) {
				return true
			}
		case thenWhole:
			undecided = true
		}
	}
	return undecided && m.whole.Match(r.Method)
}
