package main

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/magpie-k8s/magpie/filters"
)

// filterFlags are the flags that say which requests are ours.
type filterFlags struct {
	headers, paths, methods, bodies, wholes []string
	any                                     bool
}

func (f *filterFlags) register(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.headers, "http-header-filter", nil, "take requests with a header line that this `expression` covers, as in 'x-user: me' (RE2, any case; ! in front inverts)")
	flags.StringArrayVar(&f.paths, "http-path-filter", nil, "take requests in whose path and query this `expression` is found, as in '^/api/' (! in front inverts)")
	flags.StringArrayVar(&f.methods, "http-method-filter", nil, "take requests with a method that this `expression` covers, as in 'PUT|POST' (! in front inverts)")
	flags.StringArrayVar(&f.bodies, "http-body-filter", nil, "take requests with a JSON body in which this `JSONPath: expression` is found, as in '$.user.id: me' (! in front inverts)")
	flags.StringArrayVar(&f.wholes, "http-filter", nil, "take requests by a whole `filter`, as in 'header(\"x-user: me\") & !path(\"^/health\")'; see docs/FILTERS.md")
	flags.BoolVar(&f.any, "http-filter-any", false, "one matching filter is enough (else all must match)")
}

// filter joins what the flags say into one filter, nil when they say nothing.
func (f *filterFlags) filter() (*filters.Filter, error) {
	var parts []*filters.Filter
	for _, kind := range []struct {
		flag  string
		exprs []string
		parse func(string) (*filters.Filter, error)
	}{
		{"http-header-filter", f.headers, invertible(filters.Header)},
		{"http-path-filter", f.paths, invertible(filters.Path)},
		{"http-method-filter", f.methods, invertible(filters.Method)},
		{"http-body-filter", f.bodies, invertible(filters.Body)},
		{"http-filter", f.wholes, filters.Parse},
	} {
		for _, expr := range kind.exprs {
			part, err := kind.parse(expr)
			if err != nil {
				return nil, usage(filterHint(err), "--%s: %w", kind.flag, err)
			}
			parts = append(parts, part)
		}
	}
	switch {
	case len(parts) == 0 && f.any:
		return nil, usage("add the filters, as in --http-header-filter 'x-user: me'", "--http-filter-any: there is no filter to join")
	case len(parts) == 0:
		return nil, nil
	case f.any:
		return joined(filters.Any(parts...))
	}
	return joined(filters.All(parts...))
}

// joined sees to it that the agent, which gets the filter as text, will take it: several small ones may be too much.
func joined(f *filters.Filter) (*filters.Filter, error) {
	if _, err := filters.Parse(f.String()); err != nil {
		return nil, usage(filterHint(err), "all filters together: %w", err)
	}
	return f, nil
}

// invertible lets an expression have a ! in front.
func invertible(parse func(string) (*filters.Filter, error)) func(string) (*filters.Filter, error) {
	return func(expr string) (*filters.Filter, error) {
		rest, inverted := strings.CutPrefix(expr, "!")
		part, err := parse(rest)
		if err != nil || !inverted {
			return part, err
		}
		return filters.Not(part), nil
	}
}

func filterHint(err error) string {
	if hint := hintOf(err); hint != "" {
		return hint
	}
	return "expressions are RE2: https://github.com/google/re2/wiki/Syntax; for filters see docs/FILTERS.md"
}
