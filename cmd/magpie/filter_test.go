package main

import (
	"testing"

	"github.com/spf13/pflag"

	"github.com/magpie-k8s/magpie/filters"
)

// What the flags say is one filter, which travels as text, and judges as they were meant to.
func TestFilterFlagsJoinIntoOneFilter(t *testing.T) {
	const no, yes, needs = filters.No, filters.Yes, filters.NeedsBody
	const header, path, method, body, whole, some = "--http-header-filter", "--http-path-filter", "--http-method-filter", "--http-body-filter", "--http-filter", "--http-filter-any"
	for _, row := range []struct {
		args              []string
		text              string
		head, mine, other filters.Verdict // of GET /api with x-user: me; without a body, with one of mine, with another
	}{
		{[]string{body, "$.user: me"}, `body("$.user: me")`, needs, yes, no},
		{[]string{body, "!$.user: me"}, `!body("$.user: me")`, needs, no, yes},
		{[]string{body, "$.user: me", header, "x-user: me"}, `header("x-user: me") & body("$.user: me")`, needs, yes, no},
		{[]string{body, "$.user: me", header, "!x-user: me"}, `!header("x-user: me") & body("$.user: me")`, no, no, no},
		{[]string{body, "$.user: me", header, "x-user: me", some}, `header("x-user: me") | body("$.user: me")`, yes, yes, yes},
		{[]string{body, "$.user: me", header, "x-user: you", some}, `header("x-user: you") | body("$.user: me")`, needs, yes, no},
		{[]string{body, "$.user: me", path, "^/api", method, "GET"}, `path("^/api") & method("GET") & body("$.user: me")`, needs, yes, no},
		{[]string{body, "!$.user: me", body, "$.user: .*"}, `!body("$.user: me") & body("$.user: .*")`, needs, no, yes},
		{[]string{body, "$.user: me", path, "^/x", whole, `header("x-user: you") | !body("$.user: you")`, some},
			`path("^/x") | body("$.user: me") | header("x-user: you") | !body("$.user: you")`, needs, yes, no},
		{[]string{header, "!x-user: you", whole, `!(body("$.user: you") | path("^/x"))`}, `!header("x-user: you") & !(body("$.user: you") | path("^/x"))`, needs, yes, no},
	} {
		var f filterFlags
		flags := pflag.NewFlagSet("exec", pflag.ContinueOnError)
		f.register(flags)
		if err := flags.Parse(row.args); err != nil {
			t.Fatal(err)
		}
		filter, err := f.filter()
		if err != nil {
			t.Errorf("%q: %v", row.args, err)
			continue
		}
		if got := filter.String(); got != row.text {
			t.Errorf("%q: %s", row.args, got)
		}
		there, err := filters.Parse(filter.String()) // as the agent gets it
		if err != nil {
			t.Errorf("%q: %v", row.args, err)
			continue
		}
		head := filters.Request{Method: []byte("GET"), Path: []byte("/api"), Fields: []filters.Field{{Name: []byte("x-user"), Value: []byte("me")}}}
		mine, other := head, head
		mine.Body, mine.BodyKnown = []byte(`{"user":"me"}`), true
		other.Body, other.BodyKnown = []byte(`{"user":"you"}`), true
		if a, b, c := there.Judge(&head), there.Judge(&mine), there.Judge(&other); a != row.head || b != row.mine || c != row.other {
			t.Errorf("%s: %v %v %v", there, a, b, c)
		}
	}
}
