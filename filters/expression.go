package filters

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// The kinds of expressions, and of faults.
const (
	kindHeader = "header"
	kindPath   = "path"
	kindMethod = "method"
	kindBody   = "body"
	kindFilter = "filter"
)

const (
	// maxExpression is the length of one expression. Each fits into the text of a filter, even when all of it needs quoting.
	maxExpression = 2 << 10
	// maxProgram is about the number of instructions that an expression may compile to: each may cost time for every byte that is
	// looked at. Only counted repetitions get there, as they multiply: (x-user){1000} is too large.
	maxProgram = 4 << 10
)

const tooLargeHint = "repeat with * or + in place of large counts"

// parseExpression parses what the user wrote. It is parsed on its own, without anything of ours around it: nothing in it can reach
// beyond its end, and errors speak of it alone.
func parseExpression(kind, expr string) (*syntax.Regexp, error) {
	fault := func(offset int, cause, hint string) (*syntax.Regexp, error) {
		return nil, &SyntaxError{Kind: kind, Expr: expr, Offset: offset, Cause: cause, hint: hint}
	}
	switch {
	case expr == "":
		return fault(0, "it is empty", "")
	case len(expr) > maxExpression:
		return fault(runeStart(expr, maxExpression), fmt.Sprintf("it is longer than %d bytes", maxExpression), "split it, and join the parts with |")
	case !utf8.ValidString(expr):
		return fault(invalidUTF8(expr), "it is not UTF-8", `write \x{FFFD} for a byte that is not UTF-8`)
	}
	re, err := syntax.Parse(expr, flags(kind))
	if err != nil {
		return nil, explain(kind, expr, err)
	}
	if size(re) > maxProgram {
		return fault(0, "it is too large", tooLargeHint)
	}
	return re, nil
}

// flags returns how expressions of a kind are read. Only the values of a body may hold line ends, which are any text too.
func flags(kind string) syntax.Flags {
	if kind == kindBody {
		return syntax.Perl | syntax.FoldCase | syntax.DotNL
	}
	return syntax.Perl | syntax.FoldCase
}

// runeStart returns the last place at or before i where a character starts.
func runeStart(s string, i int) int {
	for i > 0 && i < len(s) && !utf8.RuneStart(s[i]) {
		i--
	}
	return i
}

func invalidUTF8(s string) int {
	for i, r := range s {
		if _, n := utf8.DecodeRuneInString(s[i:]); r == utf8.RuneError && n == 1 {
			return i
		}
	}
	return len(s)
}

// size is about the number of instructions that re compiles to, with what large classes such as \pL cost beyond. It is known before
// the memory is spent.
func size(re *syntax.Regexp) int {
	const rangesPerInstruction = 8
	n := 1
	switch re.Op {
	case syntax.OpLiteral:
		n = len(re.Rune)
	case syntax.OpCharClass:
		n += len(re.Rune) / 2 / rangesPerInstruction
	}
	for _, sub := range re.Sub {
		one := size(sub)
		if re.Op == syntax.OpRepeat {
			one *= max(re.Min, re.Max, 1)
		}
		n = min(n+1+one, maxProgram+1)
	}
	return n
}

// explain turns a parser's error into ours. The place comes from the parser too: what it quotes is a part of expr itself.
func explain(kind, expr string, err error) error {
	e := &SyntaxError{Kind: kind, Expr: expr}
	var fault *syntax.Error
	if !errors.As(err, &fault) {
		e.Cause = err.Error()
		return e
	}
	part := fault.Expr
	e.Offset = within(expr, part)
	switch fault.Code {
	case syntax.ErrMissingParen:
		open, _ := parens(expr)
		e.Offset, e.Cause, e.hint = open, "this ( is never closed", `write \( for the character itself`
	case syntax.ErrUnexpectedParen:
		_, shut := parens(expr)
		e.Offset, e.Cause, e.hint = shut, "this ) closes nothing", `write \) for the character itself`
	case syntax.ErrMissingBracket:
		e.Cause, e.hint = "this [ is never closed", `write \[ for the character itself`
	case syntax.ErrTrailingBackslash:
		e.Offset = len(expr) - 1
		e.Cause, e.hint = "nothing follows the backslash", `write \\ for the character itself`
	case syntax.ErrInvalidEscape:
		e.Cause, e.hint = explainEscape(part)
	case syntax.ErrInvalidCharRange:
		e.Cause = explainRange(part)
	case syntax.ErrInvalidRepeatOp:
		e.Cause, e.hint = part+" repeats a repetition", "RE2 has no possessive repetition; one sign is enough"
	case syntax.ErrMissingRepeatArgument:
		e.Cause, e.hint = "there is nothing before "+part+" to repeat", ".* stands for any text"
	case syntax.ErrInvalidRepeatSize:
		e.Cause, e.hint = part+" is no count", "counts go up, and to 1000 at most, also when they are nested"
	case syntax.ErrInvalidPerlOp, syntax.ErrInvalidNamedCapture:
		e.Cause, e.hint = explainGroup(expr[e.Offset:], part)
	case syntax.ErrNestingDepth:
		e.Cause = "it nests too deeply"
	case syntax.ErrLarge:
		e.Cause, e.hint = "it is too large", tooLargeHint
	default:
		e.Cause = fault.Code.String()
	}
	return e
}

// within returns the offset of part in whole, of which it is a slice. The same text may come earlier, where it is no fault.
func within(whole, part string) int {
	at := uintptr(unsafe.Pointer(unsafe.StringData(part))) - uintptr(unsafe.Pointer(unsafe.StringData(whole)))
	if part != "" && at <= uintptr(len(whole)-len(part)) {
		return int(at)
	}
	return max(strings.Index(whole, part), 0)
}

func explainEscape(part string) (cause, hint string) {
	if len(part) > 1 && '1' <= part[1] && part[1] <= '9' {
		return "RE2 has no back-references such as " + part, ""
	}
	if part == `\x` {
		return `\x needs two hexadecimal digits, or more in braces`, `as in \x2f or \x{2f}`
	}
	return part + " is no escape", `punctuation stands for itself after a backslash, letters do not`
}

func explainRange(part string) string {
	if strings.HasPrefix(part, "[:") || strings.HasPrefix(part, `\p`) || strings.HasPrefix(part, `\P`) {
		return "there is no class " + part
	}
	return "the range " + part + " runs backwards"
}

func explainGroup(rest, part string) (cause, hint string) {
	const inverted = "say it with a filter of its own, inverted by ! where need be, and let all match"
	for _, known := range []struct{ start, name string }{
		{"(?=", "lookahead"}, {"(?!", "lookahead"}, {"(?<=", "lookbehind"}, {"(?<!", "lookbehind"},
	} {
		if strings.HasPrefix(rest, known.start) {
			return "RE2 has no " + known.name + " " + known.start, inverted
		}
	}
	switch {
	case strings.HasPrefix(rest, "(?>"):
		return "RE2 has no atomic group (?>", "it never backtracks, so write (?:"
	case strings.HasPrefix(rest, "(?#"):
		return "RE2 has no comment (?#", ""
	case strings.HasPrefix(rest, "(?P"), strings.HasPrefix(rest, "(?<"):
		return "this is no name of a group", "nothing is captured here: ( without a name will do"
	}
	return part + " opens no group", "there are (…), (?:…) and flags as in (?-i:…)"
}

// parens returns the offsets of the innermost ( that nothing closes, and of the first ) that closes nothing. It reads an
// expression as RE2 does: escapes, \Q…\E and classes hide what they hold.
func parens(expr string) (open, shut int) {
	var opened []int
	for i := 0; i < len(expr); {
		switch {
		case strings.HasPrefix(expr[i:], `\Q`):
			quoted, _, _ := strings.Cut(expr[i:], `\E`)
			i += len(quoted) + len(`\E`)
			continue
		case expr[i] == '\\':
			i++
		case expr[i] == '[':
			i = classEnd(expr, i)
			continue
		case expr[i] == '(':
			opened = append(opened, i)
		case expr[i] == ')' && len(opened) == 0:
			return 0, i
		case expr[i] == ')':
			opened = opened[:len(opened)-1]
		}
		i++
	}
	if len(opened) == 0 {
		return 0, 0
	}
	return opened[len(opened)-1], 0
}

// classEnd returns the offset after the class that starts at i.
func classEnd(expr string, i int) int {
	i++
	if i < len(expr) && expr[i] == '^' {
		i++
	}
	for first := true; i < len(expr); first = false {
		switch {
		case expr[i] == ']' && !first:
			return i + 1
		case expr[i] == '\\':
			i += 2
		case strings.HasPrefix(expr[i:], "[:"):
			if end := strings.Index(expr[i+2:], ":]"); end >= 0 {
				i += 2 + end + 2
			} else {
				i++
			}
		default:
			i++
		}
	}
	return len(expr)
}

// sequence joins expressions that follow each other.
func sequence(parts ...*syntax.Regexp) *syntax.Regexp {
	return &syntax.Regexp{Op: syntax.OpConcat, Sub: parts}
}

// covering makes an expression that must match a text as a whole.
func covering(parts ...*syntax.Regexp) *syntax.Regexp {
	return sequence(&syntax.Regexp{Op: syntax.OpBeginText}, sequence(parts...), &syntax.Regexp{Op: syntax.OpEndText})
}

// compile makes a matcher of what was parsed before. That it has a text form that parses again is the word of regexp/syntax.
func compile(re *syntax.Regexp) *regexp.Regexp { return regexp.MustCompile(re.String()) }
