package filters

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	// maxText is the length of a filter as text, in bytes: it travels in one message.
	maxText = 8 << 10
	// maxNesting bounds parentheses within parentheses, and with them recursion.
	maxNesting = 32
	// maxParts bounds the expressions of one filter: each costs time for every request, and memory.
	maxParts = 64
	// maxPrograms bounds the size of all expressions of one filter together.
	maxPrograms = 2 * maxProgram
)

// Parse reads the textual form:
//
//	header("x-user: me") & !path("^/health") | method("PUT|POST")
//
// ! binds before &, & before |, and parentheses group. Between double quotes stands the expression as it is, save that a double
// quote is written twice. Errors are of type *SyntaxError.
func Parse(s string) (*Filter, error) {
	p := parser{text: s}
	if len(s) > maxText {
		return nil, p.fault(runeStart(s, maxText), fmt.Sprintf("it is longer than %d bytes", maxText), "")
	}
	if !utf8.ValidString(s) {
		return nil, p.fault(invalidUTF8(s), "it is not UTF-8", "")
	}
	root, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if p.blank(); p.at < len(s) {
		return nil, p.unexpected()
	}
	return newFilter(root), nil
}

// A parser reads one text from left to right. Its methods stand where a part may begin, blanks before it included.
type parser struct {
	text  string
	at    int
	parts int // read so far
	size  int // of their programs
}

func (p *parser) fault(at int, cause, hint string) error {
	return &SyntaxError{Kind: kindFilter, Expr: p.text, Offset: at, Cause: cause, hint: hint}
}

func (p *parser) unexpected() error {
	switch p.text[p.at] {
	case ')':
		return p.fault(p.at, "this ) closes nothing", "")
	case '"':
		return p.fault(p.at, "here must be & or |, or the end", `a double quote in an expression is written twice: ""`)
	}
	return p.fault(p.at, "here must be & or |, or the end", `as in `+example)
}

const example = `header("x-user: me") & !path("^/health")`

func (p *parser) blank() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// take takes a sign, if it is what comes next.
func (p *parser) take(sign byte) bool {
	p.blank()
	if p.at == len(p.text) || p.text[p.at] != sign {
		return false
	}
	p.at++
	return true
}

func (p *parser) or(depth int) (node, error) {
	return p.join('|', joinOr, func() (node, error) { return p.and(depth) })
}

func (p *parser) and(depth int) (node, error) {
	return p.join('&', joinAnd, func() (node, error) { return p.not(depth) })
}

func (p *parser) join(sign byte, join func([]node) node, next func() (node, error)) (node, error) {
	var parts []node
	for {
		part, err := next()
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
		if !p.take(sign) {
			return join(parts), nil
		}
		if p.at < len(p.text) && p.text[p.at] == sign {
			return nil, p.fault(p.at, fmt.Sprintf("one %c is enough", sign), "")
		}
	}
}

func (p *parser) not(depth int) (node, error) {
	inverted := false
	for p.take('!') {
		inverted = !inverted
	}
	n, err := p.part(depth)
	if err == nil && inverted {
		n = invert(n)
	}
	return n, err
}

// part reads what stands in parentheses, or one expression.
func (p *parser) part(depth int) (node, error) {
	if !p.take('(') {
		return p.expression()
	}
	open := p.at - 1
	if depth == maxNesting {
		return nil, p.fault(open, fmt.Sprintf("parentheses nest deeper than %d", maxNesting), "")
	}
	n, err := p.or(depth + 1)
	if err != nil {
		return nil, err
	}
	if !p.take(')') {
		if p.at < len(p.text) {
			return nil, p.unexpected()
		}
		return nil, p.fault(open, "this ( is never closed", "")
	}
	return n, nil
}

// expression reads one of header("…"), path("…"), method("…") and body("…").
func (p *parser) expression() (node, error) {
	p.blank()
	from := p.at
	for p.at < len(p.text) && ('a' <= p.text[p.at] && p.text[p.at] <= 'z' || p.text[p.at] == '-') {
		p.at++
	}
	kind := p.text[from:p.at]
	switch kind {
	case kindHeader, kindPath, kindMethod, kindBody:
	case "":
		return nil, p.fault(from, "here must be header, path, method or body", "as in "+example)
	default:
		return nil, p.fault(from, "there is no "+shorten(kind)+"; there are header, path, method and body", "as in "+example)
	}
	if p.parts++; p.parts > maxParts {
		return nil, p.fault(from, fmt.Sprintf("there are more than %d expressions", maxParts), "join some: | works inside an expression too")
	}
	if !p.take('(') {
		return nil, p.fault(p.at, "( is missing", "as in "+example)
	}
	expr, places, err := p.quoted()
	if err != nil {
		return nil, err
	}
	if !p.take(')') {
		if p.at < len(p.text) && p.text[p.at] == '"' {
			return nil, p.unexpected()
		}
		return nil, p.fault(p.at, ") is missing", "as in "+example)
	}
	n, err := newNode(kind, expr)
	var fault *SyntaxError
	if errors.As(err, &fault) {
		fault.Expr, fault.Offset = p.text, places[fault.Offset]
	}
	if err != nil {
		return nil, err
	}
	if b, ok := n.(*body); ok {
		expr = b.value
	}
	if p.size += size(reparse(kind, expr)); p.size > maxPrograms {
		return nil, p.fault(from, "the expressions are too large together", tooLargeHint)
	}
	return n, nil
}

// shorten keeps a word of the user's from filling the line.
func shorten(word string) string {
	const enough = 20
	if len(word) > enough {
		return word[:enough] + "…"
	}
	return word
}

// quoted reads an expression in quotes. It also tells where in the text each byte of it stands, and where it ends.
func (p *parser) quoted() (expr string, places []int, err error) {
	if !p.take('"') {
		return "", nil, p.fault(p.at, "here must be an expression in double quotes", "as in "+example)
	}
	open := p.at - 1
	var b strings.Builder
	for ; p.at < len(p.text); p.at++ {
		if p.text[p.at] == '"' {
			if !strings.HasPrefix(p.text[p.at:], `""`) {
				places = append(places, p.at)
				p.at++
				return b.String(), places, nil
			}
			p.at++
		}
		b.WriteByte(p.text[p.at])
		places = append(places, p.at)
	}
	return "", nil, p.fault(open, `this " is never closed`, "")
}

func newNode(kind, expr string) (node, error) {
	switch kind {
	case kindHeader:
		return newHeader(expr)
	case kindPath:
		return newPath(expr)
	case kindBody:
		return newBody(expr)
	}
	return newMethod(expr)
}

// String returns the textual form, from which Parse makes the same filter.
func (f *Filter) String() string {
	var b strings.Builder
	write(&b, f.root)
	return b.String()
}

func write(b *strings.Builder, n node) {
	switch n := n.(type) {
	case *header:
		quote(b, kindHeader, n.expr)
	case *path:
		quote(b, kindPath, n.expr)
	case *method:
		quote(b, kindMethod, n.expr)
	case *body:
		quote(b, kindBody, n.expr)
	case not:
		b.WriteByte('!')
		writeGrouped(b, n.part)
	case and:
		for i, part := range n {
			if i > 0 {
				b.WriteString(" & ")
			}
			writeGrouped(b, part)
		}
	case or:
		for i, part := range n {
			if i > 0 {
				b.WriteString(" | ")
			}
			write(b, part) // | binds last
		}
	}
}

// writeGrouped writes a part of ! or &.
func writeGrouped(b *strings.Builder, n node) {
	switch n.(type) {
	case and, or:
		b.WriteByte('(')
		write(b, n)
		b.WriteByte(')')
	default:
		write(b, n)
	}
}

func quote(b *strings.Builder, kind, expr string) {
	b.WriteString(kind + `("` + strings.ReplaceAll(expr, `"`, `""`) + `")`)
}
