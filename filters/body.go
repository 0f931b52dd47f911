package filters

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// separator stands between a JSONPath and the expression for what it selects.
const separator = ": "

// body chooses by a value in a JSON body.
type body struct {
	expr       string
	query      *query
	value      string // the expression
	whole      *regexp.Regexp
	steps      int  // for each byte compared
	anything   bool // it covers every text: to be there is enough
	containers bool // it may cover the text of an object or an array
}

func newBody(expr string) (*body, error) {
	switch {
	case expr == "":
		return nil, &SyntaxError{Kind: kindBody, Cause: "it is empty", hint: queryExample}
	case len(expr) > maxExpression:
		return nil, &SyntaxError{Kind: kindBody, Expr: expr, Offset: runeStart(expr, maxExpression), Cause: fmt.Sprintf("it is longer than %d bytes", maxExpression)}
	case !utf8.ValidString(expr):
		return nil, &SyntaxError{Kind: kindBody, Expr: expr, Offset: invalidUTF8(expr), Cause: "it is not UTF-8", hint: `write \x{FFFD} for a byte that is not UTF-8`}
	}
	p := queryParser{text: expr}
	if !p.take("$") {
		return nil, noQuery(expr)
	}
	q, err := p.query(false)
	if err != nil {
		return nil, err
	}
	at := p.at + len(separator)
	if !p.take(separator) {
		return nil, noSeparator(expr, p.at)
	}
	if expr[at:] == "" {
		return nil, &SyntaxError{Kind: kindBody, Expr: expr, Offset: at, Cause: "no expression follows", hint: "^$ is the empty text, .* is any"}
	}
	re, err := parseExpression(kindBody, expr[at:])
	var fault *SyntaxError
	if errors.As(err, &fault) {
		fault.Expr, fault.Offset = expr, at+fault.Offset
	}
	if err != nil {
		return nil, err
	}
	return compileBody(expr, q, expr[at:], re)
}

func compileBody(expr string, q *query, text string, re *syntax.Regexp) (*body, error) {
	if !canMatch(re, kindBody) {
		return nil, &SyntaxError{Kind: kindBody, Expr: expr, Offset: len(expr) - len(text), Cause: "no value is like this", hint: queryExample}
	}
	b := &body{expr: expr, query: q, value: text, whole: compile(covering(re)), anything: isAnything(re) && re.Sub[0].Op == syntax.OpAnyChar}
	b.steps = len(program(re, kindBody).Inst)
	work := maxMatchWork
	b.containers = meet(&work, kindBody, []*syntax.Prog{program(re, kindBody), program(reparse(kindBody, `[\[{].*`), kindBody)}, nil)
	return b, nil
}

func (b *body) judge(_ *Request, doc *document) Verdict {
	if doc == nil || doc.work < 0 {
		return NeedsBody
	}
	if len(doc.values) == 0 {
		return No // not JSON
	}
	chosen := false
	w := walk{doc, func(at int32) bool {
		chosen = b.covers(doc, &doc.values[at])
		return chosen || doc.work < 0
	}}
	w.from(0, b.query.segments)
	if doc.work < 0 {
		return NeedsBody // nobody can tell in time
	}
	return decided(chosen)
}

func (b *body) covers(doc *document, v *value) bool {
	switch {
	case b.anything:
		return true
	case !b.containers && (v.kind == objectValue || v.kind == arrayValue):
		return false
	}
	return doc.spend(int(v.end-v.start)*b.steps) && b.whole.Match(doc.text(v))
}

// noQuery explains a text that does not begin with a JSONPath.
func noQuery(expr string) error {
	e := &SyntaxError{Kind: kindBody, Expr: expr}
	meant := "$." + strings.TrimPrefix(expr, ".")
	if strings.HasPrefix(expr, "[") {
		meant = "$" + expr
	}
	if !strings.Contains(expr, separator) {
		meant += separator + ".*"
	}
	e.propose(0, "a JSONPath begins with $", meant)
	return e
}

// noSeparator explains a text in which something other than a colon and a space follows the JSONPath.
func noSeparator(expr string, at int) error {
	e := &SyntaxError{Kind: kindBody, Expr: expr}
	path, rest := expr[:at], expr[at:]
	const cause = "after the path come a colon, one space and an expression"
	switch {
	case rest == "" || rest == ":":
		e.propose(len(expr), cause, path+": .*")
	case rest[0] == ':', strings.HasPrefix(strings.TrimLeft(rest, " "), "="):
		e.propose(at, cause, path+separator+strings.TrimLeft(rest, "=: "))
	default:
		e.Offset, e.Cause, e.hint = at, cause, namesHint
	}
	return e
}

// propose names what was probably meant, if that is right.
func (e *SyntaxError) propose(at int, cause, meant string) {
	e.Offset, e.Cause, e.hint = at, cause, queryExample
	if _, err := newBody(meant); err == nil {
		e.hint = "did you mean '" + meant + "'?"
	}
}
