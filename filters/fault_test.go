package filters_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/magpie-k8s/magpie/filters"
)

var update = flag.Bool("update", false, "rewrite testdata/carets.txt")

// Each fault as the user sees it: the golden file is meant to be read.
func TestTheCaretStandsUnderTheFault(t *testing.T) {
	var got strings.Builder
	show := func(kind string, parse func(string) (*filters.Filter, error), exprs ...string) {
		for _, expr := range exprs {
			_, err := parse(expr)
			var fault *filters.SyntaxError
			if !errors.As(err, &fault) {
				t.Errorf("%s %q: %v", kind, expr, err)
				continue
			}
			fmt.Fprintf(&got, "%s\n%v\nhint: %s\n\n", fault.Caret(), err, fault.Hint())
		}
	}
	show("header", filters.Header,
		``, `x-user: (me`, `x-user: ((me)`, `x-user: [(] (me`, `x-user: me)`, `x-user: \) (\Q)\E))`, `x-user: [me`, `x-[ab]: [me`, `x-user: me\`,
		`x-user: z-a [z-a]`, `x-user: [[:alfa:]]`, `x-user: \p{Grek}`, `x-user: \y`, `x-user: \\y \x41 \y`, `x-user: (.)\1`, `x-user: \xg`,
		`x-user: a**`, `x-user: a++`, `x-user: *`, `*: me`, `x-user: (*)`, `x-user: a{1001}`, `x-user: a{3,2}`, `x-user: (a{100}){100}`,
		`x-user: (?=me).*`, `x-user: (?!me).*`, `x-user: .*(?<=me)`, `x-user: .*(?<!m>e)`, `x-user: (?>me)`, `x-user: (?#me)`, `x-user: (?P<a!>me)`, `x-user: (?x)`, `x-user: (?i`,
		"x-user: \xff", `x-user: grün(`, `x-user: 日本(`, "x-user:\tme(", `x-user: (melon){1000}`, `x-user: \pL{400}`, `x-user: `+strings.Repeat("c{1000}", 9),
		`x-user`, `^x-user$`, `x-user=me`, `x-user:`, `x-user:me`, `^x-user:me`, `x-user:  me`, `x-user: me `, `(x-user)`, `x user: me`, `x-user: a^b`, `: me`,
		`x-user: `+strings.Repeat("long ", 40)+`(`+strings.Repeat(" long", 40), strings.Repeat("x", 3000))
	show("path", filters.Path, ``, `/a(`, `^beta/`, `^beta/(`, `a b`, `/$^/`)
	show("method", filters.Method, ``, `GET /`, `PUT||POST(`, `get post`)
	show("body", filters.Body, ``, `user: me`, `.user: me`, `[0]: me`, `(`, `@.user: me`, `$.user`, `$.user:`, `$.user:me`, `$.user=me`, `$.user == me`, `$.user: `, `$.user: (me`, `$.user: a^b`,
		`$.user: \pL{400}`, `$.user.: me`, `$..: me`, `$.x-user: me`, `$.[0]: a`, `$.user id: me`, `$.a/b: me`, `$.0: a`, `$['user: me`, `$['user'`, `$['user' 'team']: a`, `$[user]: me`, `$[]: a`, `$[`,
		`$[0: me`, `$[01]: a`, `$[-]: a`, `$[-0]: a`, `$[9007199254740992]: a`, `$[1:2:x]: a`, `$[0,]: a`, `$[(@.length-1)]: a`, `$[&]: a`, `$['\x']: a`, `$["\'"]: a`, `$['\"']: a`,
		`$[?]: a`, `$[?@.a = 1]: a`, `$[?@.a =~ /x/]: a`, `$[?@.a == ]: a`, `$[?@.a == b]: a`, `$[?@.a == 01]: a`, `$[?@.a == 1e999]: a`, `$[?match(@.a, 'x')]: a`, `$[?1]: a`, `$[?(@.a]: a`, `$[?@.* == 1]: a`,
		`$[?@.a == $..b]: a`, `$[?!@.a == 1]: a`, `$[?== 1]: a`, `$[?@.a & @.b]: a`, `$[?`+strings.Repeat("(", 40)+`@`, `$.grün: (`, "$.user: \xff", `$.`+strings.Repeat("x", 3000))
	show("filter", filters.Parse, ``, ` `, `x-user: me`, `header`, `header(`, `header(x-user: me)`, `header('x-user: me')`, `header("x-user: me"`, `header("x-user: me`, `header("x-user: "me"")`,
		`heder("x-user: me")`, `header("x-user: (me")`, `path("""a""("`+`)`, `body("$[?@.a == ""b""]: (")`, `body("$.user")`, `body("user")`, `path("a") path("b")`, `path("a") && path("b")`, `path("a") || path("b")`, `path("a") and path("b")`,
		`(path("a")`, `path("a"))`, `(path("a") path("b"))`, `path("a") &`, `| path("a")`, `!`, `()`, `path()`, "path(\"a\") &\n\tpath(\"(\")", "path(\"\xff\")",
		strings.Repeat("(", 40)+`path("a")`, strings.Repeat(`path("a")|`, 65)+`path("a")`, `path("a{1000}") | `+strings.Repeat(`path("a{1000}b{1000}")|`, 4)+`path("a")`, strings.Repeat("!", 9000))

	const golden = "testdata/carets.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("got:\n%s\nrun with -update, and read the difference", got.String())
	}
}
