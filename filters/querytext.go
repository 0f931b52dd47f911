package filters

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxIndex is the largest index: beyond it, JSON's numbers are not exact (RFC 9535 section 2.1).
const maxIndex = 1<<53 - 1

const (
	queryExample = "as in '$.user.id: me' or '$.items[*].sku: a.*'"
	namesHint    = "names with other signs than letters, digits and _ are written ['a-b'], elements [0]"
)

// A queryParser reads a JSONPath from the beginning of a text. Between its segments, as outside of all brackets, it takes no blanks.
type queryParser struct {
	text    string
	at      int
	nesting int
}

func (p *queryParser) fault(at int, cause, hint string) error {
	return &SyntaxError{Kind: kindBody, Expr: p.text, Offset: at, Cause: cause, hint: hint}
}

// take takes a sign, if it is what comes next.
func (p *queryParser) take(sign string) bool {
	if strings.HasPrefix(p.text[p.at:], sign) {
		p.at += len(sign)
		return true
	}
	return false
}

func (p *queryParser) blank() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// query reads what follows $ or @, up to what is no segment.
func (p *queryParser) query(relative bool) (*query, error) {
	q := &query{relative: relative}
	for {
		var s segment
		var err error
		switch {
		case p.take(".."):
			s, err = p.dotted()
			s.deep = true
		case p.take("."):
			if strings.HasPrefix(p.text[p.at:], "[") {
				return nil, p.fault(p.at-1, "no dot stands before [", "write $.a[0], or $..[0] for all that is in it")
			}
			s, err = p.dotted()
		case strings.HasPrefix(p.text[p.at:], "["):
			s, err = p.bracketed()
		default:
			return q, nil
		}
		if err != nil {
			return nil, err
		}
		q.segments = append(q.segments, s)
	}
}

// dotted reads what may follow one dot, and two.
func (p *queryParser) dotted() (segment, error) {
	switch {
	case p.take("*"):
		return segment{selectors: []selector{{kind: everything}}}, nil
	case strings.HasPrefix(p.text[p.at:], "["):
		return p.bracketed()
	}
	from := p.at
	for p.at < len(p.text) && isNameChar(p.text[p.at], p.at > from) {
		p.at++
	}
	name := p.text[from:p.at]
	rest := p.text[p.at:]
	if name == "" {
		return segment{}, p.fault(from, "after the dot comes a name or *", namesHint)
	}
	if n := strings.IndexAny(rest, ":.[ ]"); strings.HasPrefix(rest, "-") {
		if n < 0 {
			n = len(rest)
		}
		return segment{}, p.fault(p.at, "no name after a dot has a - in it", "write ['"+shorten(name+rest[:n])+"'] in place of ."+shorten(name+rest[:n]))
	}
	return segment{selectors: []selector{{name: name}}}, nil
}

// isNameChar reports whether a name after a dot may hold c.
func isNameChar(c byte, inside bool) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' || c >= utf8.RuneSelf || inside && '0' <= c && c <= '9'
}

// bracketed reads […].
func (p *queryParser) bracketed() (s segment, err error) {
	open := p.at
	p.at++
	for {
		p.blank()
		one, err := p.selector()
		if err != nil {
			return s, err
		}
		s.selectors = append(s.selectors, one)
		switch p.blank(); {
		case p.take(","):
		case p.take("]"):
			return s, nil
		case p.at == len(p.text):
			return s, p.fault(open, "this [ is never closed", "")
		default:
			return s, p.fault(p.at, "here must be , or ]", bracketHints[p.text[p.at]])
		}
	}
}

// bracketHints are for signs that stand too lonely in a condition.
var bracketHints = map[byte]string{'=': "a comparison is written ==", '&': "and is written &&", '|': "or is written ||"}

// selector reads one of the things that commas separate.
func (p *queryParser) selector() (s selector, err error) {
	switch {
	case p.at == len(p.text):
		return s, p.fault(p.at, "the [ is never closed", queryExample)
	case p.take("*"):
		return selector{kind: everything}, nil
	case p.take("?"):
		s.kind = byCondition
		s.condition, err = p.condition()
		return s, err
	}
	switch c := p.text[p.at]; {
	case c == '\'' || c == '"':
		s.name, err = p.quoted()
		return s, err
	case c == ':' || c == '-' || '0' <= c && c <= '9':
		return p.indices()
	case c == ']' || c == ',':
		return s, p.fault(p.at, "nothing stands here", "there are 'name', 0, -1, 1:3, * and ?@.a == 1")
	case c == '(':
		return s, p.fault(p.at, "there are no scripts", "-1 is the last element; a condition starts with ?")
	case isNameChar(c, false):
		return s, p.fault(p.at, "a name in brackets stands in quotes", "as in ['user']")
	}
	return s, p.fault(p.at, "here must be a name, an index, a slice, * or a condition", "there are 'name', 0, -1, 1:3, * and ?@.a == 1")
}

// indices reads an index, or a slice such as 1:3 or ::2.
func (p *queryParser) indices() (s selector, err error) {
	s.kind, s.slice.step = byIndex, 1
	if s.index, s.slice.fromSet, err = p.integer(); err != nil {
		return s, err
	}
	s.slice.from = s.index
	if p.blank(); !p.take(":") {
		s.slice = slice{}
		return s, nil
	}
	s.kind, s.index = bySlice, 0
	p.blank()
	if s.slice.to, s.slice.toSet, err = p.integer(); err != nil {
		return s, err
	}
	if p.blank(); !p.take(":") {
		return s, nil
	}
	p.blank()
	step, set, err := p.integer()
	if set {
		s.slice.step = step
	}
	return s, err
}

// integer reads a whole number, if there is one.
func (p *queryParser) integer() (n int, set bool, err error) {
	from := p.at
	p.take("-")
	for p.at < len(p.text) && '0' <= p.text[p.at] && p.text[p.at] <= '9' {
		p.at++
	}
	text := p.text[from:p.at]
	if text == "" {
		return 0, false, nil
	}
	digits := strings.TrimPrefix(text, "-")
	n64, err := strconv.ParseInt(text, 10, 64)
	switch {
	case digits == "":
		return 0, false, p.fault(from, "a number must follow the -", "-1 is the last element")
	case digits[0] == '0' && text != "0":
		return 0, false, p.fault(from, "no index is written "+shorten(text), "it has no zeros in front, and 0 no sign")
	case err != nil || max(n64, -n64) > maxIndex:
		return 0, false, p.fault(from, shorten(text)+" is too large for an index", "")
	}
	return int(n64), true, nil
}

// quoted reads a string in single or double quotes.
func (p *queryParser) quoted() (string, error) {
	open, quote := p.at, p.text[p.at]
	asJSON := []byte{'"'}
	for p.at++; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; {
		case c == quote:
			p.at++
			return p.unquote(open, append(asJSON, '"'))
		case c == '"':
			asJSON = append(asJSON, `\"`...)
		case c == '\\' && p.at+1 < len(p.text):
			p.at++
			if p.text[p.at] == '\'' {
				if quote != '\'' {
					return "", p.fault(p.at-1, `\' is no escape between double quotes`, "write ' alone")
				}
				asJSON = append(asJSON, '\'')
			} else {
				if p.text[p.at] == '"' && quote != '"' {
					return "", p.fault(p.at-1, `\" is no escape between single quotes`, `write " alone`)
				}
				asJSON = append(asJSON, '\\', p.text[p.at])
			}
		default:
			asJSON = append(asJSON, c)
		}
	}
	return "", p.fault(open, "this "+string(quote)+" is never closed", "")
}

func (p *queryParser) unquote(open int, asJSON []byte) (s string, err error) {
	if json.Unmarshal(asJSON, &s) != nil {
		return "", p.fault(open, "this string has an escape or a sign in it that no string has", `escapes are those of JSON: \n, \\, \u00fc`)
	}
	return s, nil
}
