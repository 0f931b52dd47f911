package filters

import (
	"encoding/json"
	"strconv"
	"strings"
)

const conditionExample = "as in [?@.kind == 'book' && @.price < 10]"

// condition reads what follows [?. Its methods stand before a part, blanks included, and leave blanks behind it.
func (p *queryParser) condition() (condition, error) {
	if p.nesting++; p.nesting > maxNesting {
		return nil, p.fault(p.at, "conditions nest deeper than "+strconv.Itoa(maxNesting), "")
	}
	defer func() { p.nesting-- }()
	var any oneOf
	for {
		part, err := p.conjunction()
		if err != nil {
			return nil, err
		}
		if any = append(any, part); !p.takeSign("||") {
			break
		}
	}
	if len(any) == 1 {
		return any[0], nil
	}
	return any, nil
}

func (p *queryParser) takeSign(sign string) bool {
	p.blank()
	return p.take(sign)
}

func (p *queryParser) conjunction() (condition, error) {
	var all allOf
	for {
		part, err := p.basic()
		if err != nil {
			return nil, err
		}
		if all = append(all, part); !p.takeSign("&&") {
			break
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return all, nil
}

// basic reads a part of && and ||: something in parentheses, a comparison, or a query that must select something.
func (p *queryParser) basic() (condition, error) {
	p.blank()
	from := p.at
	inverted := p.take("!")
	p.blank()
	if open := p.at; p.take("(") {
		c, err := p.condition()
		if err != nil {
			return nil, err
		}
		if !p.takeSign(")") {
			return nil, p.fault(open, "this ( is never closed", conditionExample)
		}
		return invertCondition(c, inverted), nil
	}
	left, err := p.operand()
	if err != nil {
		return nil, err
	}
	c, compares := p.operator()
	switch {
	case compares && inverted:
		return nil, p.fault(from, "! stands before a query or (", "write !(…), or use != or the like")
	case compares:
		return p.comparison(c, from, left)
	case left.query == nil:
		return nil, p.fault(p.at, "a comparison must follow", "one of == != < <= > >=, "+conditionExample)
	}
	return invertCondition(exists{left.query}, inverted), nil
}

func invertCondition(c condition, inverted bool) condition {
	if inverted {
		return inverse{c}
	}
	return c
}

// operator reads the sign of a comparison.
func (p *queryParser) operator() (c comparison, ok bool) {
	p.blank()
	switch {
	case p.take("=="):
		c.equal = true
	case p.take("!="):
		c.opposite = true
	case p.take("<="):
		c.less, c.equal = true, true
	case p.take(">="):
		c.less, c.equal, c.swapped = true, true, true
	case p.take("<"):
		c.less = true
	case p.take(">"):
		c.less, c.swapped = true, true
	default:
		return c, false
	}
	return c, true
}

// comparison reads the right side.
func (p *queryParser) comparison(c comparison, from int, left operand) (condition, error) {
	p.blank()
	at := p.at
	right, err := p.operand()
	if err != nil {
		return nil, err
	}
	for _, side := range []struct {
		operand
		at int
	}{{left, from}, {right, at}} {
		if side.query != nil && !side.query.single() {
			return nil, p.fault(side.at, "what is compared must be one value", "without .. * : , and ?")
		}
	}
	c.left, c.right = left, right
	if c.swapped {
		c.left, c.right = right, left
	}
	return c, nil
}

// operand reads a query, a string, a number, true, false or null.
func (p *queryParser) operand() (o operand, err error) {
	from := p.at
	switch {
	case p.take("@"):
		o.query, err = p.query(true)
		return o, err
	case p.take("$"):
		o.query, err = p.query(false)
		return o, err
	case p.at < len(p.text) && (p.text[p.at] == '\'' || p.text[p.at] == '"'):
		o.constant.kind = stringValue
		o.constant.text, err = p.quoted()
		return o, err
	}
	end := p.at
	for end < len(p.text) && (isNameChar(p.text[end], true) || p.text[end] == '-' || p.text[end] == '+' || p.text[end] == '.') {
		end++
	}
	word := p.text[from:end]
	p.at = end
	switch {
	case word == "true" || word == "false" || word == "null":
		o.constant = scalar{kind: literalValue, text: word}
		return o, nil
	case word != "" && wordKind(word[0]) == numberValue && json.Valid([]byte(word)):
		o.constant = scalar{kind: numberValue, text: word}
		o.constant.number, err = strconv.ParseFloat(word, 64)
		if err != nil {
			return o, p.fault(from, "the number is too large", "")
		}
		return o, nil
	case strings.HasPrefix(p.text[end:], "(") && word != "":
		return o, p.fault(from, "there are no functions such as "+shorten(word), "after the path stands an expression, which is for that")
	case word != "":
		return o, p.fault(from, shorten(word)+" is neither a query nor a value", "queries start with @ or $; strings stand in quotes")
	case strings.HasPrefix(p.text[end:], "=~"), strings.HasPrefix(p.text[end:], "="):
		return o, p.fault(from, "nothing stands before the =", conditionExample)
	}
	return o, p.fault(from, "here must be a query or a value", conditionExample)
}
