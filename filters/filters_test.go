package filters_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/magpie-k8s/magpie/filters"
)

func mustParse(tb testing.TB, s string) *filters.Filter {
	tb.Helper()
	f, err := filters.Parse(s)
	if err != nil {
		tb.Fatalf("Parse(%q): %v", s, err)
	}
	return f
}

// request makes a request of `METHOD /path` and header lines `Name: value`.
func request(start string, lines ...string) *filters.Request {
	method, path, _ := strings.Cut(start, " ")
	r := &filters.Request{Method: []byte(method), Path: []byte(path)}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Fields = append(r.Fields, filters.Field{Name: []byte(name), Value: []byte(value)})
	}
	return r
}

func TestAFilterChooses(t *testing.T) {
	for _, row := range []struct {
		filter string
		start  string
		lines  []string
		want   bool
	}{
		// A header expression covers the whole line.
		{`header("x-user: me")`, "GET /", []string{"x-user: me"}, true},
		{`header("x-user: me")`, "GET /", []string{"X-USER: ME"}, true},
		{`header("X-User: Me")`, "GET /", []string{"x-user: me"}, true},
		{`header("x-user: me")`, "GET /", nil, false},
		{`header("x-user: al")`, "GET /", []string{"x-user: alice"}, false},
		{`header("x-user: al")`, "GET /", []string{"ax-user: al"}, false},
		{`header("x-user: me")`, "GET /", []string{"x-username: me"}, false},
		{`header("x-user: al.*")`, "GET /", []string{"x-user: alice"}, true},
		{`header("x-user: al.+")`, "GET /", []string{"x-user: al"}, false},
		{`header("x-user: .*")`, "GET /", []string{"x-user: "}, true},
		{`header("x-user: ")`, "GET /", []string{"x-user: "}, true},
		{`header("x-user: ")`, "GET /", []string{"x-user: me"}, false},
		{`header("^x-user: me$")`, "GET /", []string{"x-user: me"}, true},
		{`header("(^x-user: me$)")`, "GET /", []string{"x-user: me"}, true},
		{`header("x-user:\s*me")`, "GET /", []string{"X-User: me"}, true},
		{`header("x-user:\s+me")`, "GET /", []string{"X-User: me"}, true},
		{`header("x-user: ?me")`, "GET /", []string{"X-User: me"}, true},
		{`header("x-user:.*me")`, "GET /", []string{"X-User: not me"}, true},
		{`header("x-user:.me")`, "GET /", []string{"X-User: me"}, true},
		{`header("x-user:[ a]*me")`, "GET /", []string{"X-User: a ame"}, true},
		{`header("x-user: ? me")`, "GET /", []string{"X-User: me"}, true},
		// Whatever its alternatives and flags, it does not reach beyond itself.
		{`header("x-user: me|x-team: shop")`, "GET /", []string{"x-team: shop"}, true},
		{`header("x-user: me|x-team: shop")`, "GET /", []string{"x-team: shopping"}, false},
		{`header("x-user: me|x-team: shop")`, "GET /", []string{"x-user: meme"}, false},
		{`header("x-user: (?-i:Me)")`, "GET /", []string{"X-User: Me"}, true},
		{`header("x-user: (?-i:Me)")`, "GET /", []string{"X-User: me"}, false},
		{`header("(?-i)x-user: me")`, "GET /", []string{"X-User: me"}, false},
		{`header("x-user: me(?-i)|x-team: a") & method("get")`, "GET /", []string{"x-user: me"}, true},
		{`header("x-user: \Qa.b")`, "GET /", []string{"x-user: a.b"}, true},
		{`header("x-user: \Qa.b")`, "GET /", []string{"x-user: aXb"}, false},
		{`header("x-user: .*\Qa$)")`, "GET /", []string{"x-user: ba$)"}, true},
		{`header("(?s)x-user: .*")`, "GET /", []string{"x-user: a"}, true},
		{`header("(?m)^x-user: me$")`, "GET /", []string{"x-user: me"}, true},
		{`header("(?U)x-user: a.*")`, "GET /", []string{"x-user: abc"}, true},
		// Assertions see the text around them, wherever the expression is taken apart.
		{`header("x-user: me\b.*")`, "GET /", []string{"x-user: melon"}, false},
		{`header("x-user: me\b.*")`, "GET /", []string{"x-user: me, you"}, true},
		{`header("x-user: me\B.*")`, "GET /", []string{"x-user: melon"}, true},
		{`header("x-user: \bme")`, "GET /", []string{"x-user: me"}, true},
		{`header("x-user: (^a)?b")`, "GET /", []string{"x-user: ab"}, false},
		// Names need not be fixed.
		{`header("x-(user|team): me")`, "GET /", []string{"x-team: me"}, true},
		{`header("x-.*: me")`, "GET /", []string{"x-what: me"}, true},
		{`header("x-.*: me")`, "GET /", []string{"y-what: me"}, false},
		{`header(".*: me")`, "GET /", []string{"a: b", "c: me"}, true},
		{`header("[^:]+: me")`, "GET /", []string{"a: me"}, true},
		{`header("x-[ab]: 1")`, "GET /", []string{"X-B: 1"}, true},
		{`header("x-[st]: k")`, "GET /", []string{"X-S: K"}, true},
		// One of several lines of a name is enough.
		{`header("x-user: me")`, "GET /", []string{"x-user: you", "x-user: me"}, true},
		{`!header("x-user: me")`, "GET /", []string{"x-user: you", "x-user: me"}, false},
		{`!header("x-user: me")`, "GET /", nil, true},
		{`header("cookie: (.*; ?)?user=me(;.*)?")`, "GET /", []string{"cookie: a=b; user=me; c=d"}, true},
		{`header("cookie: (.*; ?)?user=me(;.*)?")`, "GET /", []string{"cookie: a=b; user=men; c=d"}, false},
		{`header("x-user: ""me""")`, "GET /", []string{`x-user: "me"`}, true},
		{`header("x-user: grün")`, "GET /", []string{"x-user: GRÜN"}, true},
		{`header("x-user: \x{fffd}+")`, "GET /", []string{"x-user: \xff\xfe"}, true},
		// A path is searched.
		{`path("/health")`, "GET /v1/Health?x", nil, true},
		{`path("^/health")`, "GET /v1/health", nil, false},
		{`path("^/health")`, "GET /healthz", nil, true},
		{`path("^/health$")`, "GET /healthz", nil, false},
		{`path("^/health$")`, "GET /HEALTH", nil, true},
		{`path("\.js$")`, "GET /a.js", nil, true},
		{`path("\.js$")`, "GET /a.js?v=1", nil, false},
		{`path("js$")`, "GET /", nil, false},
		{`path("user=me(&|$)")`, "GET /?a=b&user=me", nil, true},
		{`path("user=me(&|$)")`, "GET /?user=melon", nil, false},
		{`path("^/(a|b)/\d+$")`, "GET /b/12", nil, true},
		{`path("^/a|/b$")`, "GET /x/b", nil, true},
		{`path("^/a|/b$")`, "GET /x/b/c", nil, false},
		{`path("\ba\b")`, "GET /b/a/c", nil, true},
		{`path("^")`, "GET /", nil, true},
		{`path("^\*$")`, "OPTIONS *", nil, true},
		// A method is covered.
		{`method("PUT|POST")`, "POST /", nil, true},
		{`method("put|post")`, "POST /", nil, true},
		{`method("PUT|POST")`, "POSTS /", nil, false},
		{`method("P.*")`, "PATCH /", nil, true},
		{`method("P.*T")`, "POST /", nil, true},
		{`method("^get$")`, "GET /", nil, true},
		{`method("[^g].*")`, "GET /", nil, false},
		// Joined.
		{`path("a") & path("b") | path("c")`, "GET /c", nil, true},
		{`path("a") & (path("b") | path("c"))`, "GET /c", nil, false},
		{`path("c") | path("a") & path("b")`, "GET /ab", nil, true},
		{`!path("a") & path("b")`, "GET /ab", nil, false},
		{`!(path("a") & path("b"))`, "GET /a", nil, true},
		{`!!path("a")`, "GET /a", nil, true},
		{"\n path ( \"a\" )\t|\r\n!path(\"a\") ", "GET /", nil, true},
	} {
		if got := mustParse(t, row.filter).Matches(request(row.start, row.lines...)); got != row.want {
			t.Errorf("%s on %s %q: %v", row.filter, row.start, row.lines, got)
		}
	}
}

func TestAFilterAndItsTextSayTheSame(t *testing.T) {
	for _, row := range []struct{ in, out string }{
		{`header("x-user: me")`, ""},
		{`path("^/a?""c\\")`, ""},
		{`path("\Qa\")`, ""},
		{`header("x-user: me") & !path("^/health") | method("PUT|POST")`, ""},
		{`(path("a") | path("b")) & path("c")`, ""},
		{`!(path("a") | path("b"))`, ""},
		{`!(path("a") & path("b")) | path("c")`, ""},
		{`((path("a")) | (path("b") | path("c")))`, `path("a") | path("b") | path("c")`},
		{`path("a")&(path("b")&path("c"))`, `path("a") & path("b") & path("c")`},
		{`!!path("a")`, `path("a")`},
		{`!(!(path("a")))`, `path("a")`},
	} {
		if row.out == "" {
			row.out = row.in
		}
		once := mustParse(t, row.in).String()
		if once != row.out {
			t.Errorf("Parse(%q) is %q, want %q", row.in, once, row.out)
		}
		if twice := mustParse(t, once).String(); twice != once {
			t.Errorf("Parse(%q) is %q", once, twice)
		}
	}
}

func TestJoinedFiltersAreTheirText(t *testing.T) {
	a, b, c := mustParse(t, `path("a")`), mustParse(t, `path("b")`), mustParse(t, `path("c")`)
	for _, row := range []struct {
		filter *filters.Filter
		want   string
	}{
		{filters.All(a), `path("a")`},
		{filters.All(a, filters.Any(b, c)), `path("a") & (path("b") | path("c"))`},
		{filters.All(a, filters.All(b, c)), `path("a") & path("b") & path("c")`},
		{filters.Any(a, filters.All(b, filters.Not(c))), `path("a") | path("b") & !path("c")`},
		{filters.Not(filters.Any(a, b)), `!(path("a") | path("b"))`},
		{filters.Not(filters.Not(a)), `path("a")`},
	} {
		if got := row.filter.String(); got != row.want {
			t.Errorf("got %s, want %s", got, row.want)
		}
		if got := mustParse(t, row.want).String(); got != row.want {
			t.Errorf("Parse(%s) is %s", row.want, got)
		}
	}
}

func typical() *filters.Request {
	return request("GET /v1/orders?page=2&size=50", "Host: shop.example.com", "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
		"Accept: application/json, text/plain, */*", "Accept-Language: en-GB,en;q=0.9", "Accept-Encoding: gzip, deflate, br", "Referer: https://shop.example.com/",
		"Cookie: session=1f0c2f0b7d; theme=dark", "X-Request-Id: 6f1f0b0e-6d4b-4a39-9f5e-1b8a1f0e7a61", "X-User: me", "Connection: keep-alive")
}

var measured = []struct{ name, filter string }{
	{"literal", `header("x-user: me")`},
	{"absent", `header("x-team: me")`},
	{"prefix", `header("x-user: .*")`},
	{"expression", `header("x-user: m[a-z]+")`},
	{"line", `header("x-.*: me")`},
	{"cookie", `header("cookie: (.*; ?)?user=me(;.*)?")`},
	{"joined", `header("x-user: me") & !path("^/health") & method("GET|HEAD")`},
	{"path", `path("page=\d+")`},
}

func TestAFilterServesManyAtOnce(t *testing.T) {
	f := mustParse(t, `header("x-.*: me") & path("page=\d+")`)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			mine, others := typical(), request("GET /?page=1", "x-user: you", "x-team: melon")
			for range 200 {
				if !f.Matches(mine) || f.Matches(others) {
					t.Error("one saw the line of another")
				}
			}
		})
	}
	all.Wait()
}

func BenchmarkMatches(b *testing.B) {
	r := typical()
	for _, m := range measured {
		f := mustParse(b, m.filter)
		b.Run(m.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f.Matches(r)
			}
		})
	}
}
