package filters

import (
	"cmp"
	"slices"
	"strings"
)

const (
	// maxNecessary is how much of a line the kernel compares.
	maxNecessary = 32
	// maxNecessaries is how many such parts are of use: every line of every head is compared with each.
	maxNecessaries = 16
)

// Necessary returns what a request must have if the filter is to choose it: a header line that begins with one of the strings,
// in any case, with one space after the name's colon. Each is a name with its colon, perhaps followed by a space and the start
// of the value; in lower case, cut to 32 bytes; "x-user: me". It returns nil if the filter chooses requests without such a part.
func (f *Filter) Necessary() []string { return necessary(f.root) }

func necessary(n node) []string {
	switch n := n.(type) {
	case *header:
		return n.necessary()
	case and:
		// Any of the parts will do; we want few lines and long ones.
		var best []string
		for _, part := range n {
			if these := necessary(part); these != nil && (best == nil || sharper(these, best) < 0) {
				best = these
			}
		}
		return best
	case or:
		var union []string
		for _, part := range n {
			these := necessary(part)
			if these == nil {
				return nil
			}
			union = append(union, these...)
		}
		return distinct(union)
	}
	return nil
}

func (h *header) necessary() []string {
	var lines []string
	for _, s := range h.starts {
		if !s.named {
			return nil
		}
		line := s.name + ":"
		if s.value != "" {
			line += " " + s.value
		}
		lines = append(lines, line[:min(len(line), maxNecessary)])
	}
	return distinct(lines)
}

// sharper orders lists by how few lines of real heads they are likely to meet.
func sharper(a, b []string) int {
	shortest := func(lines []string) int {
		n := maxNecessary
		for _, line := range lines {
			n = min(n, len(line))
		}
		return n
	}
	return cmp.Or(cmp.Compare(len(a), len(b)), -cmp.Compare(shortest(a), shortest(b)))
}

// distinct sorts the lines and leaves out those that begin with another. It returns nil when too many are left.
func distinct(lines []string) []string {
	slices.Sort(lines)
	kept := lines[:0]
	for _, line := range lines {
		if len(kept) == 0 || !strings.HasPrefix(line, kept[len(kept)-1]) {
			kept = append(kept, line)
		}
	}
	if len(kept) > maxNecessaries {
		return nil
	}
	return kept
}
