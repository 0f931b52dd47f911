package filters_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/filters"
)

// withBody makes a request whose body is known.
func withBody(content string, lines ...string) *filters.Request {
	r := request("POST /orders", lines...)
	r.Body, r.BodyKnown = []byte(content), true
	return r
}

func mustBody(tb testing.TB, expr string) *filters.Filter {
	tb.Helper()
	f, err := filters.Body(expr)
	if err != nil {
		tb.Fatalf("Body(%q): %v", expr, err)
	}
	return f
}

const order = `{
  "user": {"id": "me", "team": "Shop", "tags": ["a", "b c", ""], "age": 42, "admin": false, "boss": null},
  "items": [
    {"sku": "A-1", "price": 8.95, "n": 1},
    {"sku": "B-2", "price": 12.99, "n": 2e0, "gift": {"to": "you"}},
    {"sku": "C-3", "price": 8.99}
  ],
  "odd names": {"a.b": 1, "it's": 2, "\"": 3, "ü": "grün", "": "empty", "☺": "smile", "x\\y": "slash"},
  "text": "two\nlines", "quoted": "say \"hi\" \u00fc \ud83d\ude00 \ud800"
}`

func TestABodyFilterChooses(t *testing.T) {
	for _, row := range []struct {
		expr string
		want bool
	}{
		// The expression covers one value as a whole, in any case.
		{`$.user.id: me`, true},
		{`$.user.id: ME`, true},
		{`$.user.id: (?-i:ME)`, false},
		{`$.user.id: m`, false},
		{`$.user.id: m.*`, true},
		{`$.user.id: ^me$`, true},
		{`$.user.id: you|me`, true},
		{`$.user.id: .*`, true},
		{`$.user.ID: me`, false}, // names have but one case
		{`$.user.nobody: .*`, false},
		{`$.user.id.more: .*`, false},
		// Numbers, true, false and null are as in JSON text, objects and arrays without white space.
		{`$.user.age: 42`, true},
		{`$.user.age: \d+`, true},
		{`$.items[1].n: 2e0`, true},
		{`$.items[1].n: 2`, false},
		{`$.user.admin: false`, true},
		{`$.user.boss: null`, true},
		{`$.user.tags: \["a","b c",""\]`, true},
		{`$.items[1].gift: \{"to":"you"\}`, true},
		{`$.items[1].gift: .*`, true},
		{`$.items[1].gift: you`, false},
		{`$.user.tags[2]: ^$`, true},
		{`$.text: two.lines`, true},
		{`$.text: (?-s:two.lines)`, false},
		{`$.text: .*`, true},
		{`$.text: two\nlines`, true},
		{`$.quoted: say "hi" ü 😀 \x{fffd}`, true},
		{`$: \{"user":.*\}`, true},
		{`$: .*`, true},
		// What JSONPath can select.
		{`$['user']['id']: me`, true},
		{`$["user"]["id"]: me`, true},
		{`$[ 'user' ].id: me`, true},
		{`$.items[0].sku: a-1`, true},
		{`$.items[-1].sku: c-3`, true},
		{`$.items[-3].sku: a-1`, true},
		{`$.items[-4].sku: .*`, false},
		{`$.items[3]: .*`, false},
		{`$.user[0]: .*`, false},
		{`$.items['0']: .*`, false},
		{`$.items[*].sku: b-2`, true},
		{`$.items.*.sku: b-2`, true},
		{`$.user.*: shop`, true},
		{`$.items[1:].sku: a-1`, false},
		{`$.items[1:].sku: c-3`, true},
		{`$.items[:-1].sku: c-3`, false},
		{`$.items[::2].sku: b-2`, false},
		{`$.items[::2].sku: c-3`, true},
		{`$.items[::-1].sku: a-1`, true},
		{`$.items[2:0:-1].sku: a-1`, false},
		{`$.items[2:0:-1].sku: b-2`, true},
		{`$.items[-1:-9:-2].sku: b-2`, false},
		{`$.items[0:3:0].sku: .*`, false},
		{`$.items[9:0:-2].sku: c-3`, true},
		{`$.items[9:0:-2].sku: b-2`, false},
		{`$.items[-9::2].sku: a-1`, true},
		{`$.items[0, 2].sku: c-3`, true},
		{`$.items[0, 2].sku: b-2`, false},
		{`$.user['id','team']: shop`, true},
		{`$..sku: b-2`, true},
		{`$..to: you`, true},
		{`$..['to']: you`, true},
		{`$..*: you`, true},
		{`$..[1].sku: b-2`, true},
		{`$.items..to: you`, true},
		{`$.user..to: you`, false},
		{`$..items..to: you`, true},
		// Names of all kinds.
		{`$['odd names']['a.b']: 1`, true},
		{`$['odd names']['it\'s']: 2`, true},
		{`$['odd names']["it's"]: 2`, true},
		{`$['odd names']['"']: 3`, true},
		{`$['odd names']["\""]: 3`, true},
		{`$['odd names'].ü: grün`, true},
		{`$['odd names']['\u00fc']: GRÜN`, true},
		{`$['odd names']['']: empty`, true},
		{`$['odd names'].☺: smile`, true},
		{`$['odd names']['x\\y']: slash`, true},
		{`$['odd names'][': ']: .*`, false},
		// Conditions.
		{`$.items[?@.sku == 'B-2'].gift.to: you`, true},
		{`$.items[?@.sku == 'b-2'].gift.to: you`, false},
		{`$.items[?@.sku != 'B-2'].gift.to: you`, false},
		{`$.items[?(@.price < 9)].sku: b-2`, false},
		{`$.items[?@.price<9].sku: c-3`, true},
		{`$.items[?@.price >= 12.99].sku: b-2`, true},
		{`$.items[?@.price <= 8.95].sku: a-1`, true},
		{`$.items[?@.price <= 8.95].sku: c-3`, false},
		{`$.items[?@.n < 99].sku: c-3`, false}, // nothing is not less
		{`$.items[?@.sku < 99]: .*`, false},    // nor is a string than a number
		{`$.items[0][?@ == 8.95]: 8.95`, true},
		{`$.items[ 0 : 1 : 1 ].sku: a-1`, true},
		{`$.items[?9 > @.price].sku: b-2`, false},
		{`$.items[?9 > @.price].sku: a-1`, true},
		{`$.items[?@.n == 2].sku: b-2`, true},
		{`$.items[?@.gift].sku: b-2`, true},
		{`$.items[?@.gift].sku: a-1`, false},
		{`$.items[?!@.gift].sku: a-1`, true},
		{`$.items[?!(@.gift || @.n == 1)].sku: a-1`, false},
		{`$.items[?!(@.gift || @.n == 1)].sku: c-3`, true},
		{`$.items[?@.gift && @.price > 10].sku: b-2`, true},
		{`$.items[?@.gift && @.price > 13 || @.sku == "C-3"].sku: c-3`, true},
		{`$.items[?@.n == @.gone].sku: c-3`, true}, // nothing is nothing
		{`$.items[?@.n == 1 || @['n'] == 2].sku: c-3`, false},
		{`$.items[?@..to == 'you']: .*`, false}, // not one value: see the faults
		{`$.items[?@.gift[?@ == 'you']].sku: b-2`, true},
		{`$.items[?$.user.admin == false].sku: b-2`, true},
		{`$.user[?@ == null]: null`, true},
		{`$.user[?@ == true]: .*`, false},
		{`$.user[?@ > 'm' && @ < 'n']: me`, true},
		{`$.items[?@.gift == @.gift].sku: b-2`, false}, // objects equal nothing
		{`$.items[?@.price == 8.99e0].sku: c-3`, true},
	} {
		f, err := filters.Body(row.expr)
		if strings.Contains(row.expr, "@..to ==") {
			if err == nil {
				t.Errorf("%s: compares many values", row.expr)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", row.expr, err)
			continue
		}
		if got := f.Matches(withBody(order)); got != row.want {
			t.Errorf("%s: %v", row.expr, got)
		}
	}
}

func TestOnlyOneJSONTextIsLookedAt(t *testing.T) {
	for _, row := range []struct {
		body string
		want bool
	}{
		{`{"user":"me"}`, true},
		{" \r\n\t{\"user\" : \"me\"} \n", true},
		{"\ufeff{\"user\":\"me\"}", true},
		{`{"user":"you","user":"me"}`, true}, // one of several is enough, as with header lines
		{`{"user":"me","user":"you"}`, true},
		{`{"us\u0065r":"m\u0065"}`, true},
		{``, false},
		{` `, false},
		{`user=me`, false},
		{`{"user":"me"`, false},
		{`{"user":"me"}}`, false},
		{`{'user':'me'}`, false},
		{`{"user":"me",}`, false},
		{"{\"user\":\"me\"}\n{\"user\":\"me\"}", false},
		{"{\"user\":\"me\"}\x00", false},
		{"\ufeff\ufeff{\"user\":\"me\"}", false},
		{`"me"`, false},
		{`[{"user":"me"}]`, false},
		{`{"user":"me","more":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`, true},
		{`{"user":"me","more":` + strings.Repeat("[", 10001) + strings.Repeat("]", 10001) + `}`, false},
	} {
		f := mustBody(t, `$.user: me`)
		if got := f.Matches(withBody(row.body)); got != row.want {
			t.Errorf("%.60q: %v", row.body, got)
		}
		if got := filters.Not(f).Matches(withBody(row.body)); got == row.want {
			t.Errorf("not, %.60q: %v", row.body, got)
		}
	}
}

func TestABodyMayBeAnyValue(t *testing.T) {
	for body, expr := range map[string]string{`42`: `$: 42`, ` -1.5e3 `: `$: -1\.5e3`, `true`: `$: true`, "null\n": `$: null`, `"me"`: `$: me`, `[]`: `$: \[\]`, `{ }`: `$: \{\}`, `[1,2]`: `$[1]: 2`, `[[],3]`: `$[1]: 3`} {
		if !mustBody(t, expr).Matches(withBody(body)) {
			t.Errorf("%s does not match %s", expr, body)
		}
	}
}

func TestTheHeadDecidesWhereItCan(t *testing.T) {
	const no, yes, needs = filters.No, filters.Yes, filters.NeedsBody
	for _, row := range []struct {
		filter            string
		head, mine, yours filters.Verdict // without a body, with one that matches, with one that does not
	}{
		{`body("$.user: me")`, needs, yes, no},
		{`!body("$.user: me")`, needs, no, yes},
		{`header("x-user: me") & body("$.user: me")`, needs, yes, no},
		{`body("$.user: me") & header("x-user: me")`, needs, yes, no},
		{`header("x-user: you") & body("$.user: me")`, no, no, no},
		{`body("$.user: me") & header("x-user: you")`, no, no, no},
		{`header("x-user: me") | body("$.user: me")`, yes, yes, yes},
		{`body("$.user: me") | header("x-user: me")`, yes, yes, yes},
		{`body("$.user: me") | header("x-user: you")`, needs, yes, no},
		{`!(header("x-user: you") & body("$.user: me"))`, yes, yes, yes},
		{`!(header("x-user: me") & body("$.user: me"))`, needs, no, yes},
		{`!(header("x-user: me") | body("$.user: me"))`, no, no, no},
		{`(body("$.user: me") | path("^/orders")) & method("POST")`, yes, yes, yes},
		{`(body("$.user: me") | path("^/x")) & !method("POST")`, no, no, no},
		{`body("$.user: me") & !body("$.user: you")`, needs, yes, no},
		{`header("x-user: me")`, yes, yes, yes},
	} {
		f := mustParse(t, row.filter)
		for _, c := range []struct {
			r    *filters.Request
			want filters.Verdict
		}{{request("POST /orders", "x-user: me"), row.head}, {withBody(`{"user":"me"}`, "x-user: me"), row.mine}, {withBody(`{"user":"you"}`, "x-user: me"), row.yours}} {
			if got := f.Judge(c.r); got != c.want {
				t.Errorf("%s, body %q: %v, want %v", f, c.r.Body, got, c.want)
			}
			if got := f.Matches(c.r); got != (c.want == yes) {
				t.Errorf("%s, body %q: matches %v", f, c.r.Body, got)
			}
		}
		if got := f.NeedsBody(); got != strings.Contains(row.filter, "body") {
			t.Errorf("%s: needs body %v", f, got)
		}
	}
}

// hostile are expressions and bodies that would be endless work without a bound.
func hostile() []struct{ name, expr, body string } {
	nested := strings.Repeat("[", 9999) + strings.Repeat("]", 9999)
	wide := "[" + strings.Repeat("0,", filters.MaxBody/2-2) + "0]"
	objects := "[" + strings.TrimSuffix(strings.Repeat(`{"a":1},`, filters.MaxBody/8-1), ",") + "]"
	long := `"` + strings.Repeat("a", filters.MaxBody-2) + `"`
	escaped := `"` + strings.Repeat(`\n`, filters.MaxBody/2-1) + `"`
	return []struct{ name, expr, body string }{
		{"exponential", "$" + strings.Repeat("[*,*]", 300) + ": x", nested},
		{"same element", "$" + strings.Repeat("[0,0]", 300) + ": x", nested},
		{"descendants", `$..*..*: x`, nested},
		{"descendants of descendants", `$..*..*..*..*: x`, nested},
		{"nested texts", `$..*: \[+x\]+`, nested},
		{"nested conditions", `$..[?@..[?@..[?@..a]]]: x`, nested},
		{"conditions from the root", `$[?$..[?@ == 1]]: x`, wide},
		{"comparisons", `$[?@.a == $[-1].a]: x`, objects},
		{"wide", `$[*]: x`, wide},
		{"wide, all", `$..*: \d{3}`, wide},
		{"wide backwards", `$[::-1]: x`, wide},
		{"expression", `$: (a|aa|aaa|[ab]+c?)*b`, long},
		{"large expression", `$: (x{900}|a{900}|.{1000})*b`, long},
		{"classes", `$: (\pL\pN?){4}\PL`, long},
		{"threads", `$: (a?a?a?a?a?a?a?a?a?a?)*b`, long},
		{"threads, half as long", `$: (a?b?a?b?a?b?a?b?a?b?a?b?a?b?a?b?a?b?a?b?)*c`, long[:filters.MaxBody/2] + `"`},
		{"threads, short", `$[*]: ((x|ab?){7}a*){20}c`, "[" + strings.Repeat(`"aaaaaa",`, 40) + "0]"},
		{"escapes", `$: (.|\n)*b`, escaped},
		{"members", `$..a: 2`, objects},
		{"brackets", `$: x`, strings.Repeat("[", filters.MaxBody)},
	}
}

func TestABodyIsNoEndlessWork(t *testing.T) {
	const enough = 2 * time.Second // a loaded machine, and the race detector; without bounds it would be days
	for _, row := range hostile() {
		f := mustBody(t, row.expr)
		start := time.Now()
		if f.Matches(withBody(row.body)) {
			t.Errorf("%s: matches", row.name)
		}
		took := time.Since(start)
		if took > enough {
			t.Errorf("%s: took %v", row.name, took)
		}
		t.Logf("%s: %v", row.name, took)
	}
}

func TestABodyThatIsTooMuchWorkIsNobodys(t *testing.T) {
	for _, row := range []struct{ filter, body string }{
		{`body("$..*..*: x")`, strings.Repeat("[", 9999) + strings.Repeat("]", 9999)},
		{`body("$.user: me")`, `{"user":"me","more":"` + strings.Repeat("a", filters.MaxBody) + `"}`},
	} {
		r := withBody(row.body, "x-user: me")
		for _, filter := range []string{row.filter, "!" + row.filter, row.filter + ` & header("x-user: me")`, `path("^/x") | ` + row.filter} {
			if mustParse(t, filter).Matches(r) {
				t.Errorf("%s matches", filter)
			}
		}
		if filter := row.filter + ` | header("x-user: me")`; !mustParse(t, filter).Matches(r) {
			t.Errorf("%s does not match, though the head decides", filter)
		}
	}
}

func TestABodyFilterIsItsText(t *testing.T) {
	for _, expr := range []string{`$.user: me`, `$["user"]: "me"`, `$.a[?@.b == ": " && @["c: "]].d: x: y`, `$[': ']: : `} {
		f := mustBody(t, expr)
		again := mustParse(t, f.String())
		if again.String() != f.String() {
			t.Errorf("%s: %s, then %s", expr, f, again)
		}
	}
	_, err := filters.Parse(`header("x-user: me") & body("$['a""b']x: (")`)
	var fault *filters.SyntaxError
	if !errors.As(err, &fault) || fault.Kind != "body" || !strings.HasPrefix(fault.Expr[fault.Offset:], `x: (`) {
		t.Errorf("%#v", err)
	}
}

// orders makes a JSON body of about so many bytes, as people send them.
func orders(size int) string {
	const item = `{"sku": "AB-12345", "title": "A very good melon", "price": 12.99, "n": 3, "gift": false, "tags": ["fruit", "green"]}`
	n := (size - 60) / (len(item) + 2)
	return `{"items": [` + strings.Repeat(item+", ", n) + item + `], "user": {"id": "me", "team": "shop"}}`
}

func BenchmarkBody(b *testing.B) {
	for _, size := range []int{1 << 10, 64<<10 - 200} {
		r := withBody(orders(size))
		for _, expr := range []string{`$.user.id: me`, `$.user.id: m[a-z]+`, `$.items[*].sku: ab-99.*`, `$..id: me`, `$.items[?@.price > 20].sku: .*`} {
			f := mustBody(b, expr)
			b.Run(fmt.Sprintf("%dKiB/%s", (len(r.Body)+512)>>10, expr), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					f.Matches(r)
				}
			})
		}
	}
}
