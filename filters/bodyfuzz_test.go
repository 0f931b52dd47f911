package filters_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/magpie-k8s/magpie/filters"
)

// A pick is a JSONPath as text, and the plainest reading of it.
type pick struct {
	text  string
	nodes []any
}

// names are those that random queries ask for, and the seeds hold.
var names = []string{"a", "b", "id", "it's", `"`, "ü", "", "x\\y"}

// randomPick goes on from the whole document by up to four random segments.
func randomPick(doc any, rnd *rand.Rand) pick {
	p := pick{"$", []any{doc}}
	for range rnd.IntN(5) {
		from := p.nodes
		if deep := rnd.IntN(6) == 0; deep {
			from = nil
			for _, n := range p.nodes {
				from = append(from, below(n)...)
			}
			p.text += ".."
		}
		text, choose := randomSelector(rnd)
		p.text, p.nodes = p.text+text, nil
		for _, n := range from {
			p.nodes = append(p.nodes, choose(n)...)
		}
	}
	return p
}

func below(n any) []any {
	all := []any{n}
	for _, child := range children(n) {
		all = append(all, below(child)...)
	}
	return all
}

func children(n any) (all []any) {
	switch n := n.(type) {
	case []any:
		return n
	case map[string]any:
		for _, child := range n {
			all = append(all, child)
		}
	}
	return all
}

func randomSelector(rnd *rand.Rand) (string, func(any) []any) {
	switch rnd.IntN(5) {
	case 0:
		return "[*]", children
	case 1:
		i := rnd.IntN(7) - 3
		return fmt.Sprintf("[%d]", i), func(n any) []any { return element(n, i) }
	case 2:
		from, to, step := rnd.IntN(9)-4, rnd.IntN(9)-4, rnd.IntN(7)-3
		return fmt.Sprintf("[%d:%d:%d]", from, to, step), func(n any) (all []any) {
			list, _ := n.([]any)
			whole := func(i int) int {
				if i < 0 {
					return i + len(list)
				}
				return i
			}
			first := max(whole(from), 0)
			if step < 0 {
				first = min(whole(from), len(list)-1)
			}
			for i := first; step > 0 && i < whole(to) || step < 0 && i > whole(to); i += step {
				if i >= 0 && i < len(list) {
					all = append(all, list[i])
				}
			}
			return all
		}
	}
	name := names[rnd.IntN(len(names))]
	quoted, _ := json.Marshal(name)
	return "[" + string(quoted) + "]", func(n any) []any {
		members, _ := n.(map[string]any)
		if v, ok := members[name]; ok {
			return []any{v}
		}
		return nil
	}
}

func element(n any, i int) []any {
	list, _ := n.([]any)
	if i < 0 {
		i += len(list)
	}
	if i < 0 || i >= len(list) {
		return nil
	}
	return list[i : i+1]
}

// sees returns what an expression sees of a value; false for what the model cannot say: the order of members is lost.
func sees(n any) (string, bool) {
	switch n := n.(type) {
	case string:
		return n, true
	case json.Number:
		return n.String(), true
	case bool:
		return strconv.FormatBool(n), true
	case nil:
		return "null", true
	}
	return "", false
}

// decode returns false if there are names twice, or signs that JSON does not say what to make of.
func decode(content string) (doc any, ok bool) {
	dec := json.NewDecoder(strings.NewReader(content))
	dec.UseNumber()
	if !utf8.ValidString(content) || dec.Decode(&doc) != nil || dec.More() || !json.Valid([]byte(content)) {
		return nil, false
	}
	again, err := json.Marshal(doc)
	return doc, err == nil && bytes.Count(again, []byte(`":`)) == strings.Count(content, `":`) && !strings.Contains(content, `" `)
}

func FuzzABodyFilterFindsWhatItsPathSelects(f *testing.F) {
	for i, content := range []string{
		`{"a":{"b":[1,2,{"id":"me"}],"it's":null},"b":[[0,1,2,3],[true,false]],"ü":"x","":"y","\"":"z"}`,
		`[[[1,2],[3,4]],[[5,6],[7,8]],{"a":[{"a":1},{"a":2},{"b":3}]}]`, `{"x\\y":"\u00fc\n","id":-1.5e3}`, `"a"`, `[]`, `{"a":[],"b":{}}`,
	} {
		for seed := range uint64(40) {
			f.Add(content, seed*100+uint64(i))
		}
	}
	f.Fuzz(func(t *testing.T, content string, seed uint64) {
		doc, ok := decode(content)
		if !ok || len(content) > 4096 {
			return
		}
		rnd := rand.New(rand.NewPCG(seed, 4))
		for range 8 {
			p := randomPick(doc, rnd)
			exists := mustBody(t, p.text+": .*")
			if got, want := exists.Matches(withBody(content)), len(p.nodes) > 0; got != want {
				t.Fatalf("%s on %s: %v", exists, content, got)
			}
			texts := []string{"me"}
			for _, n := range p.nodes[:min(len(p.nodes), 8)] {
				if text, ok := sees(n); ok {
					texts = append(texts, text)
				}
			}
			for _, text := range texts {
				if len(text) > 100 || strings.ContainsRune(text, utf8.RuneError) {
					continue
				}
				one := mustBody(t, p.text+": (?-i:"+regexp.QuoteMeta(text)+")")
				want := slices.ContainsFunc(p.nodes, func(n any) bool { s, ok := sees(n); return ok && s == text })
				if got := one.Matches(withBody(content)); got != want {
					t.Fatalf("%s on %s: %v", one, content, got)
				}
			}
		}
	})
}

func FuzzAnyBodyIsJudged(f *testing.F) {
	for _, row := range hostile() {
		f.Add(row.expr, row.body[:min(len(row.body), 2000)])
	}
	for _, expr := range []string{`$.user.id: me`, `$..items[?@.sku == 'B-2' && !(@.n > 1 || @['x'])].gift.to: y.u`, `$['a','b'][1:-1:2][*]: \{.*`, `$[?$.a[0] != "\u00fc"]: .*`} {
		f.Add(expr, order)
	}
	f.Fuzz(func(t *testing.T, expr, content string) {
		filter, err := filters.Body(expr)
		if err != nil {
			return
		}
		head, known := request("GET /", "x-user: me"), withBody(content)
		if filter.Judge(head) != filters.NeedsBody {
			t.Fatalf("%s is decided without a body", filter)
		}
		v, opposite := filter.Judge(known), filters.Not(filter).Judge(known)
		if v == filters.NeedsBody || opposite == filters.NeedsBody || v == filters.Yes && opposite == filters.Yes {
			t.Fatalf("%s on %q: %v and %v", filter, content, v, opposite)
		}
		if v == filters.Yes && !json.Valid(bytes.TrimPrefix(known.Body, []byte("\ufeff"))) {
			t.Fatalf("%s matches %q", filter, content)
		}
		if again := mustParse(t, filter.String()); again.Judge(known) != v {
			t.Fatalf("%s has another opinion as text", filter)
		}
		if !filters.Overlap(filter, filter) && v == filters.Yes {
			t.Fatalf("%s does not overlap with itself", filter)
		}
	})
}
