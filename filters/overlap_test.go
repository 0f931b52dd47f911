package filters_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/filters"
)

func TestOverlapIsWantingTheSameRequests(t *testing.T) {
	for _, row := range []struct {
		a, b string
		want bool
	}{
		{`header("x-user: me")`, `header("x-user: me")`, true},
		{`header("x-user: me")`, `header("X-USER: ME")`, true},
		{`header("x-user: me")`, `header("x-user: you")`, false},
		{`header("x-user: me")`, `header("x-user: me2")`, false},
		{`header("x-user: al")`, `header("x-user: al.*")`, true},
		{`header("x-user: a.*")`, `header("x-user: .*z")`, true},
		{`header("x-user: a.*")`, `header("x-user: b.*")`, false},
		{`header("x-user: a.*z")`, `header("x-user: .*zb?y.*")`, true},
		{`header("x-user: \d+")`, `header("x-user: [a-f]+")`, false},
		{`header("x-user: \d+")`, `header("x-user: [0-9a-f]+")`, true},
		{`header("x-user: (?-i:me)")`, `header("x-user: (?-i:ME)")`, false},
		{`header("x-user: me\b.*")`, `header("x-user: me[0-9]+")`, false},
		{`header("x-user: me\b.*")`, `header("x-user: me,.*")`, true},
		{`header("x-user: (..)*")`, `header("x-user: .(..)*")`, false},
		{`header("x-user:\s*me")`, `header("x-user: me")`, true},
		// Only what can be counts: no value ends with a space.
		{`header("x-user: a *")`, `header("x-user: a[ b]")`, false},
		// Different names: one request may have both, and is the older session's.
		{`header("x-user: me")`, `header("x-team: shop")`, false},
		{`header("x-user: me")`, `header("x-(user|team): me")`, true},
		{`header("x-user: me")`, `header(".*: me")`, true},
		{`header("x-user: me") & path("^/a")`, `header("x-team: b") & path("^/a")`, false},
		{`header("x-user: me") & !path("^/health")`, `header("x-team: b") & !path("^/health")`, false},
		// Different kinds.
		{`header("x-user: me")`, `path("^/a")`, false},
		{`method("GET")`, `path("^/a")`, false},
		{`header("x-user: me") & path("^/a")`, `path("^/a/b")`, true},
		{`header("x-user: me") & path("^/a")`, `path("^/b")`, false},
		{`header("x-user: me") & path("^/a")`, `header("x-user: me") & path("^/b")`, false},
		{`header("x-user: me") & path("^/a")`, `header("x-user: me") & method("GET")`, true},
		{`header("x-user: me") & method("PUT|POST")`, `header("x-user: me") & method("GET")`, false},
		{`header("x-user: a") & header("x-env: dev")`, `header("x-user: a") & header("x-env: prod")`, false},
		// Paths and methods.
		{`path("^/a")`, `path("^/b")`, false},
		{`path("^/a")`, `path("/b")`, true},
		{`path("^/a/")`, `path("^/a$")`, false},
		{`path("\.js$")`, `path("\.css$")`, false},
		{`path("a")`, `path("b")`, true},
		{`method("PUT|POST")`, `method("GET|PUT")`, true},
		{`method("PUT|POST")`, `method("GET|HEAD")`, false},
		// Not.
		{`!header("x-user: me")`, `header("x-user: me")`, false},
		{`!header("x-user: me")`, `header("x-user: you")`, true},
		{`!header("x-user: m.*")`, `header("x-user: me")`, false},
		{`!header("x-user: me")`, `header("x-user: m.*")`, true},
		{`!header("x-user: me")`, `header("x-team: shop")`, true},
		{`!header("x-user: me")`, `!header("x-user: you")`, true},
		{`!path("^/a")`, `path("^/a/b")`, false},
		{`!path("^/a/b")`, `path("^/a")`, true},
		{`!path("^/a")`, `header("x-user: me")`, true},
		{`header("x-user: .*") & !header("x-user: me")`, `header("x-user: me")`, false},
		{`header("x-user: m.*") & !path("^/a")`, `header("x-user: me") & path("^/a")`, false},
		{`!(header("x-user: me") | path("^/a"))`, `path("^/a") & method("GET")`, false},
		{`!(header("x-user: me") & path("^/a"))`, `header("x-user: me") & path("^/a")`, false},
		{`!(header("x-user: me") & path("^/a"))`, `header("x-user: me") & path("^/b")`, true},
		// Any.
		{`header("x-user: me") | header("x-team: a")`, `header("x-user: you") | header("x-team: a")`, true},
		{`header("x-user: me") | path("^/a")`, `header("x-user: you") | path("^/b")`, false},
		// Values in a body: told apart exactly where both come from one place.
		{`body("$.user: me")`, `body("$.user: me")`, true},
		{`body("$.user: me")`, `body("$['user']: ME")`, true},
		{`body("$.user: me")`, `body("$.user: you")`, false},
		{`body("$.user: a.*")`, `body("$.user: .*z")`, true},
		{`body("$.user: a.*")`, `body("$.user: b.*")`, false},
		{`body("$.user: .*")`, `body("$.user: b.*")`, true},
		{`body("$.user: me")`, `body("$.User: me")`, false},
		{`body("$.user: me")`, `body("$.team: shop")`, false},
		{`body("$.user: me")`, `body("$.user.id: me")`, false},
		{`body("$.user: me")`, `body("$..user: me")`, true},
		{`body("$.user: me")`, `body("$..user: you")`, false}, // one may hold both, and is the older session's
		{`body("$.user: me")`, `body("$..team: me")`, false},
		{`body("$.user: me")`, `body("$..*: me")`, true},
		{`body("$.user: me")`, `body("$[*]: me")`, true},
		{`body("$.user: me")`, `body("$[0]: me")`, false},
		{`body("$: me")`, `body("$..*: me")`, false},
		{`body("$[0]: me")`, `body("$[-1]: me")`, true},
		{`body("$[0]: me")`, `body("$[1]: me")`, false},
		{`body("$[0]: me")`, `body("$[1:]: me")`, true},
		{`body("$['a','b']: me")`, `body("$['b','c']: me")`, true},
		{`body("$['a','b']: me")`, `body("$['c','d']: me")`, false},
		{`body("$[*].id: a")`, `body("$[?@.x].id: a")`, true},
		{`body("$[*].id: a") & body("$[*].id: b")`, `body("$[*].id: a")`, true},
		{`body("$.id: a") & body("$.n: 1")`, `body("$.id: a") & body("$.n: 2")`, false},
		{`body("$.id: a") & body("$.n: 1")`, `body("$.id: a") & body("$.m: 2")`, true},
		{`body("$.user: m.*") & !body("$.user: me")`, `body("$.user: me")`, false},
		{`body("$[*]: m.*") & !body("$[*]: me")`, `body("$[*]: me")`, false},
		{`body("$[*]: m.*") & !body("$[0]: me")`, `body("$[*]: me")`, true},
		{`!body("$.user: me")`, `body("$.user: you")`, true},
		{`!body("$.user: me")`, `body("$.user: me")`, false},
		{`body("$.text: a\nb")`, `body("$.text: a.b")`, true},
		{`body("$.user: me")`, `header("x-user: me")`, false},
		{`body("$.user: me")`, `path("^/a")`, false},
		{`body("$.user: me") & path("^/a")`, `path("^/a")`, true},
		{`body("$.user: me") & path("^/a")`, `path("^/b")`, false},
		{`body("$.user: me") & path("^/a")`, `body("$.team: shop") & path("^/a")`, false},
		{`header("x-user: me") & body("$.n: 1")`, `header("x-user: me") & body("$.n: 2")`, false},
		{`header("x-user: me") & body("$.n: 1")`, `header("x-user: me") & body("$.m: 2")`, true},
		{`header("x-user: me") & body("$.n: 1")`, `header("x-team: shop") & body("$.n: 1")`, false},
		{`header("x-user: me") & body("$.n: 1")`, `body("$.n: 1")`, true},
		{`header("x-user: me") & body("$.n: 1")`, `body("$.n: 2")`, false},
	} {
		a, b := mustParse(t, row.a), mustParse(t, row.b)
		if got := filters.Overlap(a, b); got != row.want {
			t.Errorf("%s and %s: %v", a, b, got)
		}
		if got := filters.Overlap(b, a); got != row.want {
			t.Errorf("%s and %s: %v", b, a, got)
		}
		if !filters.Overlap(a, a) {
			t.Errorf("%s does not overlap with itself", a)
		}
	}
}

// What cannot be told apart within the bounds overlaps, and it does not take for ever to say so.
func TestOverlapGivesUpOnTheSafeSide(t *testing.T) {
	var many, far []string
	for i := range 40 {
		many = append(many, fmt.Sprintf(`(header("x-%d: a") | header("y-%d: a"))`, i%10, i))
		far = append(far, fmt.Sprintf(`path("(a|b)*a[ab]{%d}$")`, 20+i))
	}
	for _, row := range [][2]string{
		{strings.Join(many[:30], " & "), `header("z: 1")`},
		{`header("x-user: (a|b)*a(a|b){20}")`, `header("x-user: (a|b)*b(a|b){20}") & !header("x-user: (a|b)*a(a|b){19}")`},
		{strings.Join(far, " | "), strings.Join(far, " | ")},
		{`body("$[*]: (a|b)*a(a|b){20}")`, `body("$[*]: (a|b)*b(a|b){20}") & !body("$[*]: (a|b)*a(a|b){19}")`},
		{`!(` + strings.Join(far, " | ") + `)`, strings.Join(far, " & ")},
	} {
		a, b := mustParse(t, row[0]), mustParse(t, row[1])
		start := time.Now()
		if !filters.Overlap(a, b) {
			t.Errorf("%.60s… and %.60s… do not overlap", row[0], row[1])
		}
		t.Logf("%.40s…: %v", row[0], time.Since(start))
	}
}
