package filters

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A SyntaxError is a fault in what the user wrote.
type SyntaxError struct {
	Kind   string // header, path, method or body: the kind of the faulty expression; filter: the text around it
	Expr   string // as the user wrote it: an expression, or the whole text of a filter
	Offset int    // of the fault, in bytes; len(Expr) when something is missing at the end
	Cause  string
	hint   string
}

func (e *SyntaxError) Error() string {
	what := e.Kind
	if what != kindFilter {
		what += " expression"
	}
	return fmt.Sprintf("parse %s: column %d: %s", what, utf8.RuneCountInString(e.Expr[:e.Offset])+1, e.Cause)
}

// Hint says what to write instead, in one line; "" when the cause says it all.
func (e *SyntaxError) Hint() string { return e.hint }

// maxBefore and maxAfter are how many characters of a long expression Caret shows before and after the fault: both fit on a line of 80.
const (
	maxBefore = 50
	maxAfter  = 20
)

// Caret returns two lines: the expression, and a ^ under the fault. Of a long expression it shows the part around the fault.
func (e *SyntaxError) Caret() string {
	before, after := []rune(e.Expr[:e.Offset]), []rune(e.Expr[e.Offset:])
	var line strings.Builder
	if len(before) > maxBefore {
		line.WriteRune('…')
		before = before[len(before)-maxBefore+1:]
	}
	columns := line.Len() / len("…")
	for _, r := range before {
		r = visible(r)
		line.WriteRune(r)
		columns += width(r)
	}
	for i, r := range after {
		if i == maxAfter-1 && len(after) > maxAfter {
			line.WriteRune('…')
			break
		}
		line.WriteRune(visible(r))
	}
	return line.String() + "\n" + strings.Repeat(" ", columns) + "^"
}

// visible replaces what would move the terminal's cursor in other ways.
func visible(r rune) rune {
	if r == ' ' || unicode.IsPrint(r) {
		return r
	}
	return utf8.RuneError
}

// width is the number of columns that terminals give a character.
func width(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana):
		return 2
	}
	return 1
}
