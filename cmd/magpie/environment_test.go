package main

import (
	"slices"
	"testing"
)

func TestTheEnvironmentIsTheTargetsButForWhatDescribesTheMachine(t *testing.T) {
	own := []string{"PATH=/my/bin", "HOME=/home/me", "LC_ALL=C", "EDITOR=vi", "DB_URL=mine"}
	target := []string{"PATH=/bin", "HOME=/", "DB_URL=theirs", "DB_PASSWORD=secret", "MODE=staging", "broken"}
	for _, c := range []struct {
		name  string
		flags envFlags
		want  []string
	}{
		{"as it is", envFlags{}, []string{"PATH=/my/bin", "HOME=/home/me", "LC_ALL=C", "EDITOR=vi", "DB_URL=theirs", "DB_PASSWORD=secret", "MODE=staging"}},
		{"include", envFlags{include: []string{"MODE", "HOME"}}, []string{"PATH=/my/bin", "HOME=/", "LC_ALL=C", "EDITOR=vi", "DB_URL=mine", "MODE=staging"}},
		{"exclude", envFlags{exclude: []string{"DB_*"}}, []string{"PATH=/my/bin", "HOME=/home/me", "LC_ALL=C", "EDITOR=vi", "DB_URL=mine", "MODE=staging"}},
		{"exclude is stronger", envFlags{include: []string{"DB_*"}, exclude: []string{"DB_P*"}}, []string{"PATH=/my/bin", "HOME=/home/me", "LC_ALL=C", "EDITOR=vi", "DB_URL=theirs"}},
		{"set is strongest", envFlags{set: []string{"MODE=debug", "NEW=a=b"}}, []string{"PATH=/my/bin", "HOME=/home/me", "LC_ALL=C", "EDITOR=vi", "DB_URL=theirs", "DB_PASSWORD=secret", "MODE=debug", "NEW=a=b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.flags.merge(own, target); !slices.Equal(got, c.want) {
				t.Errorf("got %q\nwant %q", got, c.want)
			}
		})
	}
}
