package filters

import (
	"encoding/binary"
	"regexp/syntax"
	"slices"
	"unicode"
)

// form returns what header lines, paths, methods and values in a body are like, beyond what Request and Field say: names and methods are tokens
// (RFC 9110 section 5.6.2).
func form(kind string) string {
	const token = "[!#$%&'*+\\-.^_`|~0-9a-z]+"
	switch kind {
	case kindHeader:
		return token + `: (?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?`
	case kindPath:
		return `[^\x00-\x20\x7f]+`
	case kindBody:
		return `.*` // a string may be anything
	}
	return token
}

// usualPath matches paths in origin form, in absolute form, and *. The authority form belongs to CONNECT alone, which nobody
// chooses by its path: an expression that matches no other form is a mistake.
const usualPath = `^(?:/|https?://|\*$)`

// What one question may cost, in instructions looked at; 100,000 take about 2 ms. Between expressions as people write them a few
// thousand are enough.
const (
	maxWork      = 1 << 20 // whether two filters overlap: asked once per session
	maxMatchWork = 1 << 16 // whether an expression can match: asked for each part of a filter
)

// canMatch reports whether there is a header line, path, method or value that the expression matches. When it cannot tell, it says yes.
func canMatch(re *syntax.Regexp, kind string) bool {
	work := maxMatchWork
	wanted := []*syntax.Prog{program(re, kind)}
	if kind == kindPath {
		wanted = append(wanted, program(reparse(kind, usualPath), kind))
	}
	return meet(&work, kind, wanted, nil)
}

// program compiles an expression as its kind uses it: a path is searched, the others are covered.
func program(re *syntax.Regexp, kind string) *syntax.Prog {
	if kind == kindPath {
		anything := &syntax.Regexp{Op: syntax.OpStar, Sub: []*syntax.Regexp{{Op: syntax.OpAnyChar}}}
		re = sequence(anything, re, anything)
	}
	prog, err := syntax.Compile(covering(re).Simplify())
	if err != nil {
		panic("filters: " + err.Error()) // what was parsed compiles
	}
	return prog
}

// meet reports whether some text of the kind is matched by all of the wanted and none of the unwanted programs. It runs all of
// them at once over all texts, and takes what it looks at from work; when that is used up, it says yes.
func meet(work *int, kind string, wanted, unwanted []*syntax.Prog) bool {
	if len(wanted)+len(unwanted) == 0 {
		return true
	}
	shape := program(reparse(kind, form(kind)), kindMethod)
	p := product{work: work, wanted: 1 + len(wanted)}
	for _, prog := range slices.Concat([]*syntax.Prog{shape}, wanted, unwanted) {
		p.machines = append(p.machines, newMachine(prog))
		*work -= len(prog.Inst)
	}
	return *work <= 0 || p.meet()
}

// reparse parses what is known to be right.
func reparse(kind, expr string) *syntax.Regexp {
	re, err := syntax.Parse(expr, flags(kind))
	if err != nil {
		panic("filters: " + err.Error())
	}
	return re
}

// A product walks through several programs at once.
type product struct {
	work     *int
	machines []*machine
	wanted   int // so many of the machines must match, the others must not
}

// A moment is where all machines are between two characters: before is the last one, and at holds the instructions of each that
// come next, before those that take no character were followed.
type moment struct {
	before rune
	at     [][]uint32
}

// none stands for the character before the first and after the last, as in regexp/syntax.
const none rune = -1

func (p *product) meet() bool {
	first := moment{before: none}
	for _, m := range p.machines {
		first.at = append(first.at, []uint32{uint32(m.prog.Start)})
	}
	alphabet := p.alphabet()
	if alphabet == nil {
		return true
	}
	seen := map[string]bool{first.key(): true}
	for open := []moment{first}; len(open) > 0; {
		now := open[0]
		open = open[1:]
		if p.ends(now) {
			return true
		}
		for _, r := range alphabet {
			next, alive := p.step(now, r)
			if *p.work <= 0 {
				return true
			}
			if key := next.key(); alive && !seen[key] {
				seen[key] = true
				open = append(open, next)
			}
		}
	}
	return false
}

// ends reports whether a text that is over now is what we look for.
func (p *product) ends(now moment) bool {
	for i, m := range p.machines {
		*p.work -= m.follow(now.at[i], syntax.EmptyOpContext(now.before, none))
		if m.matched != (i < p.wanted) {
			return false
		}
	}
	return true
}

// step takes one character. It reports whether all that is wanted can still match.
func (p *product) step(now moment, r rune) (next moment, alive bool) {
	next = moment{before: kindOf(r), at: make([][]uint32, len(p.machines))}
	for i, m := range p.machines {
		*p.work -= m.follow(now.at[i], syntax.EmptyOpContext(now.before, r))
		next.at[i] = m.take(r)
		if i < p.wanted && len(next.at[i]) == 0 {
			return next, false
		}
	}
	return next, true
}

// kindOf returns the character that stands for all those that assertions do not tell from r.
func kindOf(r rune) rune {
	switch {
	case r == '\n':
		return '\n'
	case syntax.IsWordChar(r):
		return 'a'
	}
	return ' '
}

// alphabet returns one character for each set of characters that no machine tells apart; nil when there is no work left.
func (p *product) alphabet() []rune {
	starts := []rune{0, '\n', '\n' + 1, '0', '9' + 1, 'A', 'Z' + 1, '_', '_' + 1, 'a', 'z' + 1}
	for _, m := range p.machines {
		for i := range m.prog.Inst {
			n := len(starts)
			starts = append(starts, bounds(&m.prog.Inst[i])...)
			if *p.work -= len(starts) - n; *p.work <= 0 {
				return nil // classes such as \pL have hundreds
			}
		}
	}
	slices.Sort(starts)
	return slices.Compact(starts)
}

// bounds returns where the characters that an instruction takes begin, and where they end.
func bounds(inst *syntax.Inst) (starts []rune) {
	switch inst.Op {
	case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
	default:
		return nil
	}
	if len(inst.Rune) == 1 {
		r := inst.Rune[0]
		starts = append(starts, r, r+1)
		if syntax.Flags(inst.Arg)&syntax.FoldCase != 0 {
			for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
				starts = append(starts, f, f+1)
			}
		}
		return starts
	}
	for i := 0; i+1 < len(inst.Rune); i += 2 {
		starts = append(starts, inst.Rune[i])
		if inst.Rune[i+1] < unicode.MaxRune {
			starts = append(starts, inst.Rune[i+1]+1)
		}
	}
	return starts
}

// key tells moments apart.
func (m moment) key() string {
	b := binary.AppendVarint(nil, int64(m.before))
	for _, at := range m.at {
		b = binary.AppendUvarint(b, uint64(len(at)))
		for _, pc := range at {
			b = binary.AppendUvarint(b, uint64(pc))
		}
	}
	return string(b)
}

// A machine runs one program.
type machine struct {
	prog    *syntax.Prog
	stack   []uint32
	round   uint32
	seen    []uint32 // by instruction: the last round that saw it
	ready   []uint32 // instructions that take a character, after follow
	matched bool     // the program could end here, after follow
}

func newMachine(prog *syntax.Prog) *machine {
	return &machine{prog: prog, seen: make([]uint32, len(prog.Inst))}
}

// follow goes through the instructions that take no character, where the assertions in context hold. It returns how many
// instructions it looked at.
func (m *machine) follow(from []uint32, context syntax.EmptyOp) (looked int) {
	m.round++
	m.ready, m.matched = m.ready[:0], false
	m.stack = append(m.stack[:0], from...)
	for ; len(m.stack) > 0; looked++ {
		pc := m.stack[len(m.stack)-1]
		m.stack = m.stack[:len(m.stack)-1]
		if m.seen[pc] == m.round {
			continue
		}
		m.seen[pc] = m.round
		switch inst := &m.prog.Inst[pc]; inst.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			m.stack = append(m.stack, inst.Out, inst.Arg)
		case syntax.InstCapture, syntax.InstNop:
			m.stack = append(m.stack, inst.Out)
		case syntax.InstEmptyWidth:
			if syntax.EmptyOp(inst.Arg)&^context == 0 {
				m.stack = append(m.stack, inst.Out)
			}
		case syntax.InstMatch:
			m.matched = true
		case syntax.InstFail:
		default:
			m.ready = append(m.ready, pc)
		}
	}
	return looked + 1
}

// take returns what comes next, in order, if r is the next character.
func (m *machine) take(r rune) (next []uint32) {
	for _, pc := range m.ready {
		if inst := &m.prog.Inst[pc]; inst.MatchRune(r) {
			next = append(next, inst.Out)
		}
	}
	slices.Sort(next)
	return slices.Compact(next)
}
