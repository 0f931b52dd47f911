package filters_test

import (
	"slices"
	"testing"
)

func TestNecessaryIsANameAndTheStartOfItsValue(t *testing.T) {
	for _, row := range []struct {
		filter string
		want   []string
	}{
		{`header("X-User: Me")`, []string{"x-user: me"}},
		{`header("^x-user: me.*$")`, []string{"x-user: me"}},
		{`header("x-user: .*")`, []string{"x-user:"}},
		{`header("x-user:.*")`, []string{"x-user:"}},
		{`header("x-user:\s*me")`, []string{"x-user: me"}},
		{`header("x-user: \d+")`, []string{"x-user:"}},
		{`header("x-user: me(\.dev)?")`, []string{"x-user: me"}},
		{`header("x-user: (me|you)")`, []string{"x-user: me", "x-user: you"}},
		{`header("x-(user|team): a")`, []string{"x-team: a", "x-user: a"}},
		{`header("x-user: sam\b.*")`, []string{"x-user: sam"}},
		{`header("x-user: (?-i:Me)")`, []string{"x-user:"}},
		{`header("x-user: m\x{fc}ller")`, []string{"x-user: m"}},
		{`header("x-user: 0123456789012345678901234567890123456789")`, []string{"x-user: 012345678901234567890123"}},
		{`header("x-.*: me")`, nil},
		{`header(".*: me")`, nil},
		{`path("^/a")`, nil},
		{`method("GET")`, nil},
		{`!header("x-user: me")`, nil},
		{`header("x-user: me") & path("^/a")`, []string{"x-user: me"}},
		{`header("x-user: .*") & header("x-team: shop")`, []string{"x-team: shop"}},
		{`header("x-user: (a|b)") & header("x-team: .*")`, []string{"x-team:"}},
		{`header("x-user: me") | header("x-team: shop")`, []string{"x-team: shop", "x-user: me"}},
		{`header("x-user: me") | header("x-user: me.*")`, []string{"x-user: me"}},
		{`header("x-user: me") | path("^/a")`, nil},
		{`body("$.user: me")`, nil},
		{`header("x-user: me") & body("$.user: me")`, []string{"x-user: me"}},
		{`header("x-user: me") | body("$.user: me")`, nil},
		{`header("x-user: me") & !header("x-team: shop")`, []string{"x-user: me"}},
	} {
		if got := mustParse(t, row.filter).Necessary(); !slices.Equal(got, row.want) {
			t.Errorf("%s: %q, want %q", row.filter, got, row.want)
		}
	}
}
