package filters

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
)

// header chooses by a header line, `Name: value`.
type header struct {
	expr   string
	starts []headerStart
	whole  *regexp.Regexp // of a whole line; nil if no start needs it
	lines  sync.Pool      // *[]byte, for whole
}

// A headerStart is one way in which a line that matches can begin, and how the rest of the line is judged.
type headerStart struct {
	name  string // lower-case; the beginning of one if the expression leaves its end open
	named bool   // name is a whole name
	value string // what the value begins with, lower-case
	then  then
	rest  *regexp.Regexp // for thenRest
}

// then says what may follow the literal that a text begins with.
type then uint8

const (
	thenEnd   then = iota // nothing
	thenAny               // anything
	thenRest              // what an expression of its own covers
	thenWhole             // to be seen by the whole expression only
)

func newHeader(expr string) (*header, error) {
	re, err := parseExpression(kindHeader, expr)
	if err != nil {
		return nil, err
	}
	if name, ok := strings.CutSuffix(expr, ": *"); ok {
		e := &SyntaxError{Kind: kindHeader, Expr: expr}
		e.suggest(len(expr)-1, "* repeats the space before it: only an empty value is like this", name+": .*")
		return nil, e
	}
	h := &header{expr: expr}
	for _, s := range starts(re, true, true) {
		if start, ok := newHeaderStart(s); ok {
			h.starts = append(h.starts, start)
		}
	}
	if len(h.starts) == 0 || !canMatch(re, kindHeader) {
		return nil, noLine(expr)
	}
	if slices.ContainsFunc(h.starts, func(s headerStart) bool { return s.then == thenWhole }) {
		h.whole = compile(covering(re))
	}
	return h, nil
}

// newHeaderStart returns false for a start that no line has.
func newHeaderStart(s start) (headerStart, bool) {
	name, value, named := strings.Cut(s.literal, ":")
	rest := s.rest.list()
	if len(rest) > 0 && isEnd(rest[len(rest)-1]) {
		rest = rest[:len(rest)-1]
	}
	h := headerStart{name: name, named: named, then: thenWhole}
	value, spaced := strings.CutPrefix(value, " ")
	switch {
	case !spaced && len(rest) == 0:
		return h, false
	case !spaced:
		return h, true
	}
	h.value = value
	switch {
	case len(rest) == 0:
		h.then = thenEnd
	case len(rest) == 1 && isAnything(rest[0]):
		h.then = thenAny
	case !looksBack(sequence(rest...)):
		h.then, h.rest = thenRest, compile(covering(rest...))
	}
	return h, true
}

func isEnd(re *syntax.Regexp) bool { return re.Op == syntax.OpEndText || re.Op == syntax.OpEndLine }

// isAnything reports whether re is .*; there are no line ends in what filters look at.
func isAnything(re *syntax.Regexp) bool {
	return re.Op == syntax.OpStar && (re.Sub[0].Op == syntax.OpAnyChar || re.Sub[0].Op == syntax.OpAnyCharNotNL)
}

func (h *header) judge(r *Request, _ *document) Verdict { return decided(h.matches(r)) }

func (h *header) matches(r *Request) bool {
	for i := range r.Fields {
		if h.matchesField(&r.Fields[i]) {
			return true
		}
	}
	return false
}

func (h *header) matchesField(f *Field) bool {
	undecided := false
	for i := range h.starts {
		s := &h.starts[i]
		if len(f.Name) < len(s.name) || s.named && len(f.Name) != len(s.name) || !begins(f.Name, s.name) || !begins(f.Value, s.value) {
			continue
		}
		switch s.then {
		case thenAny:
			return true
		case thenEnd:
			if len(f.Value) == len(s.value) {
				return true
			}
		case thenRest:
			if s.rest.Match(f.Value[len(s.value):]) {
				return true
			}
		case thenWhole:
			undecided = true
		}
	}
	return undecided && h.matchesLine(f)
}

// matchesLine puts the line together and asks the whole expression.
func (h *header) matchesLine(f *Field) bool {
	line, _ := h.lines.Get().(*[]byte)
	if line == nil {
		line = new([]byte)
	}
	*line = append(append(append((*line)[:0], f.Name...), ": "...), f.Value...)
	ok := h.whole.Match(*line)
	h.lines.Put(line)
	return ok
}

// names returns the names, in lower case, that lines which match can have; nil if there can be others.
func (h *header) names() (names []string) {
	for _, s := range h.starts {
		if !s.named {
			return nil
		}
		names = append(names, s.name)
	}
	return names
}

// noLine explains an expression that no header line can match: there is nothing wrong with it, except that it would wait for ever.
func noLine(expr string) error {
	e := &SyntaxError{Kind: kindHeader, Expr: expr, Cause: "no header line `Name: value` is like this"}
	bare := strings.TrimPrefix(expr, "^")
	n := 0
	for n < len(bare) && isToken(bare[n]) && strings.IndexByte("$*+.^|", bare[n]) < 0 {
		n++
	}
	name, after := bare[:n], bare[n:]
	at := len(expr) - len(after)
	trimmed := strings.TrimRight(expr, " ")
	switch {
	case name != "" && (after == "" || after == "$"):
		e.suggest(at, "it must cover the whole line `Name: value`, and has no colon", name+": .*")
	case name != "" && after[0] == '=':
		e.suggest(at, "it must cover the whole line `Name: value`, and has no colon", name+": "+after[1:])
	case name != "" && (after == ":" || after == ":$"):
		e.suggest(len(expr), "one space follows the colon, then the value", name+": .*")
	case name != "" && after[0] == ':' && after[1] != ' ':
		e.suggest(at+1, "one space follows the colon", name+": "+after[1:])
	case name != "" && strings.HasPrefix(after, ":  "):
		e.suggest(at+2, "one space follows the colon, no more", name+": "+strings.TrimLeft(after[1:], " "))
	case name != "" && after[0] == ' ':
		e.suggest(at, "no name has a space in it", name+": "+after[1:])
	case trimmed != expr:
		e.suggest(len(trimmed), "no value ends with a space", trimmed)
	case !strings.Contains(expr, ":"):
		e.Offset, e.Cause, e.hint = len(expr), "it must cover the whole line `Name: value`, and has no colon", "write the name, a colon and one space, as in 'x-user: me'"
	default:
		e.hint = "a line is the name, a colon, one space and the value, without space at its ends"
	}
	return e
}

// suggest names what was probably meant, if that is right.
func (e *SyntaxError) suggest(at int, cause, meant string) {
	e.Offset, e.Cause = at, cause
	e.hint = "as in 'x-user: me'"
	re, err := parseExpression(e.Kind, meant)
	if err == nil && canMatch(re, e.Kind) {
		e.hint = "did you mean '" + meant + "'?"
	}
}
