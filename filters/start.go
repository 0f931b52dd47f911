package filters

import (
	"regexp/syntax"
	"slices"
	"strings"
)

// maxStarts bounds the alternatives that one expression is taken apart into. Beyond it, the rest is left to the regular expression.
const maxStarts = 16

// maxLetters bounds the characters of a class that are taken for alternatives: [ab] is, \d is not.
const maxLetters = 4

// A start is one way in which a text that an expression matches can begin.
type start struct {
	anchored bool   // at the beginning of the text
	literal  string // ASCII in lower case; letters stand for both cases
	rest     *chain // what the literal is followed by; nil: nothing
}

// A chain lists expressions that follow each other. Chains share their tails.
type chain struct {
	head *syntax.Regexp
	tail *chain
}

func (c *chain) list() (all []*syntax.Regexp) {
	for ; c != nil; c = c.tail {
		all = append(all, c.head)
	}
	return all
}

// starts takes an expression apart: each text that it matches, from where the match begins, begins with one of the literals, and
// the literals with their rests match just what the expression matches. One difference is wanted: in a literal only ASCII letters
// have two cases, while in Unicode U+212A is a case of k as well, and U+017F of s.
//
// Where line is set, the text is a header line: its first colon is followed by one space, and the value after it has no space at
// its ends. Literals that no line can begin with are left out.
func starts(re *syntax.Regexp, anchored, line bool) []start {
	t := taker{line: line, open: []start{{anchored: anchored, rest: &chain{head: re}}}}
	for len(t.open) > 0 {
		s := t.open[len(t.open)-1]
		t.open = t.open[:len(t.open)-1]
		for t.step(&s) {
		}
	}
	slices.Reverse(t.done) // the order in which they were written
	return t.done
}

type taker struct {
	line       bool
	open, done []start
}

// room reports whether a start may become n.
func (t *taker) room(n int) bool { return len(t.open)+len(t.done)+n <= maxStarts }

// step takes one expression from the rest of s, and reports whether it could. In the end s is among the done, or left out.
func (t *taker) step(s *start) bool {
	if t.line && impossible(s.literal) {
		return false
	}
	if s.rest == nil {
		return t.finish(s)
	}
	re, tail := s.rest.head, s.rest.tail
	if t.line && strings.IndexByte(s.literal, ':') == len(s.literal)-1 && s.literal != "" {
		if taken, ok := t.takeSpace(s, re, tail); ok {
			return taken
		}
	}
	switch re.Op {
	case syntax.OpEmptyMatch:
		s.rest = tail
	case syntax.OpBeginText:
		if s.literal != "" {
			return t.finish(s)
		}
		s.anchored, s.rest = true, tail
	case syntax.OpCapture:
		s.rest = &chain{re.Sub[0], tail}
	case syntax.OpConcat:
		s.rest = tail
		for _, sub := range slices.Backward(re.Sub) {
			s.rest = &chain{sub, s.rest}
		}
	case syntax.OpLiteral:
		return t.takeLiteral(s, re, tail)
	case syntax.OpCharClass:
		return t.fork(s, classLiterals(re), tail)
	case syntax.OpAlternate:
		return t.fork(s, re.Sub, tail)
	case syntax.OpQuest:
		return t.fork(s, []*syntax.Regexp{re.Sub[0], {Op: syntax.OpEmptyMatch}}, tail)
	default:
		return t.finish(s)
	}
	return true
}

func (t *taker) finish(s *start) bool {
	t.done = append(t.done, *s)
	return false
}

// fork puts each of the alternatives before tail, if there is room for them all.
func (t *taker) fork(s *start, alternatives []*syntax.Regexp, tail *chain) bool {
	if len(alternatives) == 0 || !t.room(len(alternatives)) {
		return t.finish(s)
	}
	for _, alternative := range alternatives[:len(alternatives)-1] {
		t.open = append(t.open, start{s.anchored, s.literal, &chain{alternative, tail}})
	}
	s.rest = &chain{alternatives[len(alternatives)-1], tail}
	return true
}

// takeLiteral takes as many characters as have but the cases that a start can stand for.
func (t *taker) takeLiteral(s *start, re *syntax.Regexp, tail *chain) bool {
	taken := make([]byte, 0, len(re.Rune))
	for _, r := range re.Rune {
		letter := 'a' <= r|0x20 && r|0x20 <= 'z'
		if r > 0x7f || letter && re.Flags&syntax.FoldCase == 0 {
			break
		}
		taken = append(taken, lower(byte(r)))
		if t.line && r == ':' && !strings.Contains(s.literal, ":") {
			break // what follows a name's colon is special
		}
	}
	s.literal += string(taken)
	if len(taken) == len(re.Rune) {
		s.rest = tail
		return true
	}
	left := &syntax.Regexp{Op: syntax.OpLiteral, Flags: re.Flags, Rune: re.Rune[len(taken):]}
	s.rest = &chain{left, tail}
	if len(taken) > 0 {
		return true
	}
	return t.finish(s)
}

// takeSpace takes the space after a name's colon from an expression that can be one. It reports whether it did anything, and if so,
// what step shall report.
func (t *taker) takeSpace(s *start, re *syntax.Regexp, tail *chain) (taken, ok bool) {
	one, repeats, skips := re, false, false
	switch re.Op {
	case syntax.OpStar:
		one, repeats, skips = re.Sub[0], true, true
	case syntax.OpPlus:
		one, repeats = re.Sub[0], true
	case syntax.OpQuest:
		one, skips = re.Sub[0], true
	}
	space, others := covers(one)
	if !space {
		return false, false
	}
	if skips {
		if !t.room(2) {
			return t.finish(s), true
		}
		t.open = append(t.open, start{s.anchored, s.literal, tail})
	}
	s.literal += " "
	s.rest = tail
	if repeats && others { // no value begins with white space, but with the others it may
		s.rest = &chain{&syntax.Regexp{Op: syntax.OpStar, Flags: re.Flags, Sub: []*syntax.Regexp{one}}, tail}
	}
	return true, true
}

// covers reports whether an expression for one character can be a space, and whether it can be anything but white space.
func covers(re *syntax.Regexp) (space, others bool) {
	switch re.Op {
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return true, true
	case syntax.OpLiteral:
		return len(re.Rune) == 1 && re.Rune[0] == ' ', false
	case syntax.OpCharClass:
		for i := 0; i+1 < len(re.Rune); i += 2 {
			lo, hi := re.Rune[i], re.Rune[i+1]
			space = space || lo <= ' ' && ' ' <= hi
			others = others || hi > ' '
		}
	}
	return space, others
}

// impossible reports whether no header line begins with the literal.
func impossible(literal string) bool {
	name, value, colon := strings.Cut(literal, ":")
	for i := range len(name) {
		if !isToken(name[i]) {
			return true
		}
	}
	return colon && (name == "" || value != "" && value[0] != ' ' || len(value) > 1 && (value[1] == ' ' || value[1] == '\t'))
}

// isToken reports whether a header's name may hold c (RFC 9110 section 5.6.2).
func isToken(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// classLiterals returns the characters of a small class, one literal each; nil if it is not small, or has letters in one case alone.
func classLiterals(re *syntax.Regexp) (literals []*syntax.Regexp) {
	has := func(r rune) bool {
		for i := 0; i+1 < len(re.Rune); i += 2 {
			if re.Rune[i] <= r && r <= re.Rune[i+1] {
				return true
			}
		}
		return false
	}
	for i := 0; i+1 < len(re.Rune); i += 2 {
		for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
			switch {
			case r == '\u212a' && has('k'), r == '\u017f' && has('s'):
				continue // in a literal they are no cases of k and s
			case r > 0x7f:
				return nil
			case 'A' <= r && r <= 'Z' && has(r|0x20):
				continue
			case 'A' <= r && r <= 'Z', 'a' <= r && r <= 'z' && !has(r&^0x20), len(literals) == maxLetters:
				return nil
			}
			literals = append(literals, &syntax.Regexp{Op: syntax.OpLiteral, Flags: syntax.FoldCase, Rune: []rune{r}})
		}
	}
	return literals
}

// looksBack reports whether what an expression matches can depend on the text before it.
func looksBack(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpBeginText, syntax.OpBeginLine, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return true
	}
	return slices.ContainsFunc(re.Sub, looksBack)
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// equals reports whether b is the literal, in any case.
func equals(b []byte, literal string) bool { return len(b) == len(literal) && begins(b, literal) }

// begins reports whether b begins with the literal, in any case.
func begins(b []byte, literal string) bool {
	if len(b) < len(literal) {
		return false
	}
	for i := range len(literal) {
		if lower(b[i]) != literal[i] {
			return false
		}
	}
	return true
}

// contains reports whether the literal is in b, in any case.
func contains(b []byte, literal string) bool {
	for ; len(b) >= len(literal); b = b[1:] {
		if begins(b, literal) {
			return true
		}
		if len(b) == 0 {
			break
		}
	}
	return false
}
