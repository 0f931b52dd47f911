package filters_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/magpie-k8s/magpie/filters"
)

// expressions are seeds: headers, then paths, then methods.
var expressions = []string{
	`x-user: me`, `x-user: al.*`, `x-user:\s*me`, `x-(user|team): (a|b)+`, `x-user: me\b.*`, `.*: me`, `x-[ab]: \d{1,3}`, `cookie: (.*; ?)?user=me(;.*)?`, `(?-i)X-User: Me`,
	`(?m)^x: y$|z: \Ba`, `(?U)x: a.*?b`, `x: [^a-z]+`, `x:[ \t]*k?s`, `x: ? a`, `x:.+a`, `x-user: \x{fffd}|x: ü`, `x: (|a|bc)(d|)`, `(x|y:)+ z`, `x: a$|x: b$c?`,
	`^/health$`, `/v1/.*\.js(\?|$)`, `^/(a|b)|c$`, `user=\w+`, `PUT|POST`, `P.*T`, `(?-i:get)`,
}

// speak returns a text that re matches, more or less: assertions are not kept. Nil means that there is none.
func speak(re *syntax.Regexp, rnd *rand.Rand) []rune {
	var text []rune
	times := func(n int) {
		for ; n > 0; n-- {
			text = append(text, speak(re.Sub[0], rnd)...)
		}
	}
	switch re.Op {
	case syntax.OpLiteral:
		for _, r := range re.Rune {
			if re.Flags&syntax.FoldCase != 0 && rnd.IntN(2) == 0 {
				r = unicode.SimpleFold(r)
			}
			text = append(text, r)
		}
	case syntax.OpCharClass:
		if n := len(re.Rune) / 2; n > 0 {
			i := rnd.IntN(n) * 2
			text = append(text, re.Rune[i]+rnd.Int32N(min(re.Rune[i+1]-re.Rune[i]+1, 64)))
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		text = append(text, []rune("am: ;/sk0.-ü")[rnd.IntN(12)])
	case syntax.OpStar:
		times(rnd.IntN(3))
	case syntax.OpPlus:
		times(1 + rnd.IntN(2))
	case syntax.OpQuest:
		times(rnd.IntN(2))
	case syntax.OpRepeat:
		times(min(re.Min+rnd.IntN(2), 50))
	case syntax.OpAlternate:
		return speak(re.Sub[rnd.IntN(len(re.Sub))], rnd)
	case syntax.OpConcat, syntax.OpCapture:
		for _, sub := range re.Sub {
			text = append(text, speak(sub, rnd)...)
		}
	}
	return text[:min(len(text), 4096)]
}

// say returns texts that expr matches, and texts near them.
func say(expr string, rnd *rand.Rand, n int) (texts []string) {
	re, err := syntax.Parse(expr, syntax.Perl|syntax.FoldCase)
	if err != nil {
		return nil
	}
	for range n {
		text := speak(re, rnd)
		if len(text) > 0 && rnd.IntN(4) == 0 {
			text = slices.Delete(text, len(text)-1, len(text))
		}
		// Two letters have another case in Unicode alone, which is none for us.
		texts = append(texts, strings.NewReplacer("\u017f", "s", "\u212a", "k").Replace(string(text)))
	}
	return texts
}

var (
	tokenOnly = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
	targetOK  = regexp.MustCompile(`^[^\x00-\x20\x7f]+$`)
	refused   = regexp.MustCompile(`: it is (empty|too large|not UTF-8)$`) // though it could match
	valueOK   = regexp.MustCompile(`^(?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?$`)
)

// lineRequest makes a request of one header line; false if there is no such line.
func lineRequest(line string) (*filters.Request, bool) {
	name, value, ok := strings.Cut(line, ": ")
	return request("GET /", line), ok && tokenOnly.MatchString(name) && valueOK.MatchString(value)
}

// naive is what the documentation says an expression means, in one line. \Q is left out: it would quote what we put behind it.
func naive(expr, before, behind string) *regexp.Regexp {
	if strings.Contains(expr, `\Q`) {
		return nil
	}
	return regexp.MustCompile("(?i:" + before + "(?:" + expr + ")" + behind + ")")
}

func FuzzMatchesMeansWhatTheRegexpSays(f *testing.F) {
	for i, expr := range expressions {
		f.Add(expr, "x-user: me", uint64(i))
	}
	f.Fuzz(func(t *testing.T, expr, text string, seed uint64) {
		if strings.ContainsAny(text+expr, "\u017f\u212a") {
			return
		}
		texts := append(say(expr, rand.New(rand.NewPCG(seed, 1)), 8), text)
		for _, kind := range []struct {
			parse          func(string) (*filters.Filter, error)
			before, behind string
			request        func(string) (*filters.Request, bool)
		}{
			{filters.Header, "^", "$", lineRequest},
			{filters.Path, "", "", func(s string) (*filters.Request, bool) { return request("GET " + s), targetOK.MatchString(s) }},
			{filters.Method, "^", "$", func(s string) (*filters.Request, bool) { return request(s + " /"), tokenOnly.MatchString(s) }},
		} {
			filter, err := kind.parse(expr)
			model := (*regexp.Regexp)(nil)
			if _, bad := syntax.Parse(expr, syntax.Perl); bad == nil && len(expr) < 1000 {
				model = naive(expr, kind.before, kind.behind)
			}
			for _, text := range texts {
				r, ok := kind.request(text)
				if !ok || model == nil {
					continue
				}
				want := model.MatchString(text)
				if err != nil {
					if path := string(r.Path); want && path[0] == '/' && !strings.HasSuffix(expr, ": *") && !refused.MatchString(err.Error()) {
						t.Fatalf("%q matches %q, but: %v", expr, text, err)
					}
					continue
				}
				if got := filter.Matches(r); got != want {
					t.Fatalf("%s on %q: %v", filter, text, got)
				}
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, expr := range expressions {
		f.Add(`header("` + expr + `") & !(path("` + expr + `") | method("` + expr + `"))`)
	}
	golden := []string{`body("$.user: me") & header("x: y")`, `!body("$..a[?@ == ""b""]: .*") | path("a")`, ``, `!`, `header("x-user: (me")`, `path("""")`, `((path("a")))`, `!!!path("a")&path("b")|path("c")`, `path("a`, `path("(?i")`}
	for _, s := range golden {
		f.Add(s)
	}
	r := typical()
	f.Fuzz(func(t *testing.T, s string) {
		filter, err := filters.Parse(s)
		if err != nil {
			var fault *filters.SyntaxError
			if !errors.As(err, &fault) || fault.Offset < 0 || fault.Offset > len(fault.Expr) || fault.Cause == "" || strings.Count(fault.Caret(), "\n") != 1 {
				t.Fatalf("Parse(%q): %#v", s, err)
			}
			return
		}
		text := filter.String()
		again, err := filters.Parse(text)
		if err != nil && len(text) > 8<<10 {
			return // spaces were added
		}
		if err != nil {
			t.Fatalf("Parse(%q), from %q: %v", text, s, err)
		}
		if again.String() != text || again.Judge(r) != filter.Judge(r) || again.NeedsBody() != filter.NeedsBody() || !slices.Equal(again.Necessary(), filter.Necessary()) {
			t.Fatalf("%q is %q, then %q", s, text, again)
		}
	})
}

func FuzzNecessaryIsInEveryRequestThatMatches(f *testing.F) {
	for i, expr := range expressions {
		f.Add(expr, `x-user: me`, `^/a`, byte(i), uint64(i))
	}
	f.Fuzz(func(t *testing.T, one, two, path string, shape byte, seed uint64) {
		var parts []*filters.Filter
		for i, expr := range []string{one, two, path} {
			parse := filters.Header
			if i == 2 {
				parse = filters.Path
			}
			part, err := parse(expr)
			if err != nil {
				continue
			}
			if shape>>i&1 != 0 {
				part = filters.Not(part)
			}
			parts = append(parts, part)
		}
		if len(parts) == 0 {
			return
		}
		filter := parts[0]
		for i, part := range parts[1:] {
			if shape>>(4+i)&1 != 0 {
				filter = filters.All(filter, part)
			} else {
				filter = filters.Any(part, filter)
			}
		}
		necessary := filter.Necessary()
		if necessary == nil {
			return
		}
		for _, n := range necessary {
			if len(n) == 0 || len(n) > 32 || n != strings.ToLower(n) {
				t.Fatalf("%s: %q", filter, necessary)
			}
		}
		rnd := rand.New(rand.NewPCG(seed, 2))
		ones, twos := say(one, rnd, 8), say(two, rnd, 8)
		for i := range min(len(ones), len(twos)) {
			for _, lines := range [][]string{{ones[i]}, {twos[i]}, {ones[i], twos[i]}} {
				r := request("GET /a", lines...)
				if bad := slices.ContainsFunc(lines, func(line string) bool { _, ok := lineRequest(line); return !ok }); bad || !filter.Matches(r) {
					continue
				}
				if !slices.ContainsFunc(r.Fields, func(f filters.Field) bool {
					line := bytes.ToLower(append(append(slices.Clone(f.Name), ": "...), f.Value...))
					return slices.ContainsFunc(necessary, func(n string) bool { return bytes.HasPrefix(line, []byte(n)) })
				}) {
					t.Fatalf("%s chooses %q without any of %q", filter, lines, necessary)
				}
			}
		}
	})
}

func FuzzOverlapIsSeenWhereOneLineMatchesBoth(f *testing.F) {
	for i, expr := range expressions {
		f.Add(expr, expressions[(i+1)%len(expressions)], byte(i), uint64(i))
		f.Add(expr, `x-user: a.*`, byte(i), uint64(i))
		f.Add(expr, `^/`, byte(i), uint64(i))
	}
	f.Fuzz(func(t *testing.T, one, two string, shape byte, seed uint64) {
		inBody := func(expr string) (*filters.Filter, error) { return filters.Body("$.a: " + expr) }
		parse := []func(string) (*filters.Filter, error){filters.Header, filters.Path, filters.Method, inBody}[shape%4]
		a, err := parse(one)
		if err != nil {
			return
		}
		b, err := parse(two)
		if err != nil {
			return
		}
		if shape&8 != 0 {
			b = filters.Not(b)
		}
		if filters.Overlap(a, b) != filters.Overlap(b, a) {
			t.Fatalf("%s and %s overlap one way only", a, b)
		}
		if filters.Overlap(a, b) {
			return
		}
		rnd := rand.New(rand.NewPCG(seed, 3))
		for _, text := range append(say(one, rnd, 16), say(two, rnd, 16)...) {
			r, ok := lineRequest(text)
			switch shape % 4 {
			case 1:
				r, ok = request("GET "+text), targetOK.MatchString(text)
			case 2:
				r, ok = request(text+" /"), tokenOnly.MatchString(text)
			case 3:
				content, err := json.Marshal(map[string]string{"a": text})
				r, ok = withBody(string(content)), err == nil
			}
			if ok && a.Matches(r) && b.Matches(r) {
				t.Fatalf("%s and %s both choose %q", a, b, text)
			}
		}
	})
}
